"""Runs the console: on this machine's loopback interface, and on no other."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import AF_INET, AF_INET6, create_server
from socket import socket as Socket  # noqa: N812 (a local variable is a socket)
from typing import Final

import uvicorn

from fedseg.console.pages import Room, application
from fedseg.console.plans import Signer, require_signer
from fedseg.console.session import Desk
from fedseg.errors import SettingsError
from fedseg.http_service import server_config
from fedseg.node.home import NodeHome
from fedseg.node.rights.api import LineWithoutCause

HOSTS: Final = ("127.0.0.1", "::1")
"""Where it may listen."""
CONNECTIONS_MAX: Final = 32
IDLE_SECONDS: Final = 15
STOP_SECONDS: Final = 5


def run(
    path: Path,
    signer: Signer | None,
    segments: Sequence[Path],
    *,
    host: str,
    port: int,
    listening: Callable[[str], None],
) -> None:
    """Serve until the officer signs out, or SIGINT or SIGTERM.

    Args:
        path: The unit's home.
        signer: The officer at the console; None lets look, and decide only where the policy names no officers.
        segments: Files or folders with published results.
        host: One of `HOSTS`.
        port: 0 takes any that is free.
        listening: Called with the link, once a browser can connect.

    Raises:
        SettingsError: If the home is none, or listening there fails or is not allowed.
        PolicyError, TrustError: If the unit has no policy, or it names no such officer.
    """
    home = NodeHome.open(path)
    if signer is not None:
        require_signer(home, signer)
    with _bound(host, port) as bound:
        taken = bound.getsockname()[1]
        room = Room(path, f"[{host}]:{taken}" if ":" in host else f"{host}:{taken}", signer, tuple(segments))
        desk, served = Desk(time.monotonic), list[uvicorn.Server]()

        def stop() -> None:
            served[0].should_exit = True

        _start_log()
        app = application(room, desk, stop=stop)
        config = server_config(app, connections=CONNECTIONS_MAX, idle_seconds=IDLE_SECONDS, stop_seconds=STOP_SECONDS)
        served.append(uvicorn.Server(config))
        listening(f"{room.origin}{desk.link}")
        served[0].run(sockets=[bound])


def _bound(host: str, port: int) -> Socket:
    if host not in HOSTS:
        raise SettingsError(
            f"the console does not listen at {host}",
            why="its pages are for somebody at this machine alone",
            fix="leave out --host; from elsewhere use a tunnel to this machine, such as ssh -L",
        )
    try:
        return create_server((host, port), family=AF_INET6 if ":" in host else AF_INET)
    except OSError as error:
        raise SettingsError(
            f"the console cannot listen at {host}, port {port}",
            why=error.strerror or "unknown cause",
            fix="name another --port, or leave it out",
        ) from error


def _start_log() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(LineWithoutCause())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("fedseg.console").setLevel(logging.INFO)
