"""The link process: a SuperLink on a Unix socket. `python -m fedseg.federation.link --database FILE --socket FILE`."""

import argparse
from pathlib import Path

from fedseg.federation.flower.services import serve_link
from fedseg.federation.flower.sockets import start_log


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", type=Path, required=True, help="Where registered nodes and runs are kept.")
    parser.add_argument("--socket", type=Path, required=True, help="Where the proxy and the coordinator find it.")
    options = parser.parse_args()
    start_log()
    serve_link(options.database, options.socket)


if __name__ == "__main__":
    main()
