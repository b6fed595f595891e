"""A real HTTPS server on this machine, as a recipient or a platform has one: it answers as a test says, and remembers."""

import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fedseg.deploy.certificates import Issued, issue, new_authority


@dataclass(frozen=True)
class Received:
    """A message as it arrived."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The body's JSON."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Endpoint:
    """A running server."""

    url: str
    """`https://localhost:PORT`."""
    received: list[Received] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)
    """Statuses of the next answers; 200 when there are none left."""
    location: str = "https://localhost/elsewhere"
    """Where it redirects to."""
    before_answer: Callable[[], None] = lambda: None
    """Called when a message has arrived and nothing has been answered."""

    @property
    def ids(self) -> list[str]:
        """The ids of the requests that arrived."""
        return [one.content["subject_request_id"] for one in self.received]


def authority_and_pair(folder: Path, hosts: list[str]) -> tuple[Path, Path, Path]:
    """Files of a new authority, and of a certificate with its key for these hosts."""
    now = datetime.now(UTC)
    authority = new_authority(now)
    ca = folder / "ca.pem"
    ca.write_bytes(authority.certificate)
    return (ca, *write_pair(folder, issue(authority, hosts, now)))


def write_pair(folder: Path, pair: Issued) -> tuple[Path, Path]:
    """Files of a certificate and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    key.chmod(0o600)
    return certificate, key


@contextmanager
def https_endpoint(certificate: Path, key: Path, port: int = 0) -> Generator[Endpoint]:
    """A server that runs inside the block, at a free port unless one is named."""
    endpoint = Endpoint("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            endpoint.received.append(Received(self.path, headers, body))
            endpoint.before_answer()
            status = endpoint.answers.popleft() if endpoint.answers else 200
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", endpoint.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up, or trusts another authority, is what tests are about."""

    server = Quiet(("127.0.0.1", port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    endpoint.url = f"https://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
