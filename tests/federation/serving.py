"""What answers behind a socket, as a server's proxy does for witnesses with an address."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from fedseg.http_service import server_config


@contextmanager
def served(app: Starlette, folder: Path) -> Generator[Path]:
    """Serve until the block ends; gives the socket. The folder's name must leave room for a socket's."""
    path = folder / "post.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        bound.listen()
        server = uvicorn.Server(server_config(app))
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            yield path
        finally:
            server.should_exit = True
            thread.join()
