"""Knocks at doors from inside a machine: standard input says where, standard output says who answered. For test_boundaries.

Run by the node's network user with the standard library alone, so that nothing of fedseg decides what is tried.
"""

import http.client
import json
import socket
import ssl
import sys
from typing import Any

SECONDS = 3.0


def ask(server: tuple[str, int, str], method: str, path: str, length: int) -> int:
    """The status of a request of so many bytes; the server is an address, a port and the CA that vouches for it."""
    host, port, ca = server
    connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=ssl.create_default_context(cafile=ca))
    try:
        connection.request(method, path, headers={"Content-Length": str(length)})
        try:
            for _ in range(0, length, 65536):
                connection.send(bytes(min(65536, length)))
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass  # it has answered before it has read everything
        return connection.getresponse().status
    finally:
        connection.close()


def reaches(kind: str, host: str, port: int) -> bool:
    """Whether someone answers there; for UDP, whether the packet may leave."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as one:
        one.settimeout(SECONDS / 3)
        try:
            one.connect((host, port))
            return kind == "tcp" or one.send(b"?") == 1
        except OSError:
            return False


def main() -> None:
    """Try everything that standard input names."""
    wanted: dict[str, Any] = json.load(sys.stdin)
    json.dump(
        {
            "asked": [ask(*one) for one in wanted.get("ask", [])],
            "reached": [reaches(*one) for one in wanted.get("reach", [])],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
