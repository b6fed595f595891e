"""A process that is told to end does so, even if the exit gets lost in somebody else's destructor."""

import subprocess
import sys

LOST = """
import os, signal, sys
from fedseg.federation.stopping import Stopping

class Careless:
    def __del__(self):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            sum(range(1000))
        except:
            pass

stopping = Stopping()
stopping.look()
Careless()
print("ran on", flush=True)
stopping.look()
print("and on", flush=True)
"""


def test_an_exit_that_gets_lost_in_a_destructor_is_made_up_for_at_the_next_look() -> None:
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "ran on\n")
