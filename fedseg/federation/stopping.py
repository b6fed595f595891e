"""How a process of ours ends when it is told to."""

import signal
import sys
from typing import Never


class Stopping:
    """SIGTERM ends the process at once; or, should the exit get lost, at its next look here.

    Python raises the exit wherever the main thread happens to be. In a destructor that catches everything, as gRPC's
    channels have one, it is gone, and the process would run on.
    """

    def __init__(self) -> None:
        self._told = False
        signal.signal(signal.SIGTERM, self._end)

    def look(self) -> None:
        """End the process if it was told to."""
        if self._told:
            sys.exit(0)

    def _end(self, *_: object) -> Never:
        self._told = True
        sys.exit(0)
