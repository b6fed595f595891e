"""A node's network process: a SuperNode that holds the node's key, speaks to the server, and executes nothing.

`python -m fedseg.federation.network --server HOST:PORT --ca FILE --key FILE --socket FILE --state FILE`. It sees no
customer: what it forwards are releases. The runner, under another user, takes its tasks from the socket.
"""

import argparse
import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from fedseg.errors import NotAdmittedError
from fedseg.federation.flower.services import serve_node
from fedseg.federation.flower.sockets import start_log

log = logging.getLogger(__name__)


def main() -> int:
    """Serve until told to stop; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="HOST:PORT of the server's proxy.")
    for name in ("ca", "key", "socket", "state"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    start_log()
    write_state(options.state, None)
    try:
        serve_node(
            options.server,
            options.ca.read_bytes(),
            options.key.read_bytes(),
            options.socket,
            lambda node_id: write_state(options.state, node_id),
        )
    except NotAdmittedError as error:
        log.error("network.refused code=%s what=%s why=%s fix=%s", error.code, error.what, error.why, error.fix)  # noqa: TRY400
        return error.exit_code
    return 0


def write_state(path: Path, node_id: int | None) -> None:
    """Leave for `fedseg node status` whether the server has let this process in, and under which id."""
    state = {
        "state": "connecting" if node_id is None else "connected",
        "node_id": node_id,
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    made = path.with_name(f"{path.name}.new")
    made.write_text(json.dumps(state) + "\n", encoding="utf-8")
    made.replace(path)


if __name__ == "__main__":
    sys.exit(main())
