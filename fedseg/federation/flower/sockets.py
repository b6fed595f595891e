"""What both sides of Flower share here: Unix sockets, clients over them, heartbeats, and a process's log."""

import json
import logging
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import flwr
import httpx
import uvicorn
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supercore.runtime import RuntimeHttpClient

from fedseg.errors import RunLostError, UnreachableError

log = logging.getLogger(__name__)

TASK_POLL_SECONDS: Final = 0.2
"""Between two questions for a task, over a socket."""
CALL_SECONDS: Final = 30.0
"""Longest wait for one answer over a socket."""
IDLE_SECONDS: Final = 75
"""How long a server keeps a connection on which nothing is asked: longer than any client does. httpx gives one up after
5 s and the proxy after 60; if the server were first, a request that has just left would be lost."""

LOG_FORMAT: Final = "FEDSEG_LOG_FORMAT"
"""Name of the environment variable that says how lines are written: `json`, or as text."""

Client = TypeVar("Client", bound=ProtobufClient)


class OneLine(logging.Formatter):
    """A record on one line of printable characters: Flower logs words of the peer's, which could forge another line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line; what cannot be printed is shown as its code."""
        text = super().format(record)
        return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class OneObject(logging.Formatter):
    """A record as one JSON object on one line of ASCII; nothing is in it that the plain line has not."""

    def format(self, record: logging.LogRecord) -> str:
        """The object: `time` (ISO, UTC), `level`, `process` (its number), `message`, and `trace` where there is one."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": record.process,
            "message": record.getMessage(),
        }
        trace = {} if record.exc_info is None else {"trace": self.formatException(record.exc_info)}
        return json.dumps(said | trace)


def start_log() -> None:
    """Log this process to stderr: our lines and, from INFO up, Flower's, in one form and without colors."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneObject() if os.environ.get(LOG_FORMAT) == "json" else OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    flowers = logging.getLogger("flwr")
    flowers.handlers.clear()
    flowers.setLevel(logging.INFO)
    flowers.propagate = True
    log.info("process.starting flower=%s pid=%d uid=%d", flwr.__version__, os.getpid(), os.getuid())


def web_server(app: Any) -> uvicorn.Server:
    """A quiet server for one of Flower's web applications; it speaks no WebSocket."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_keep_alive=IDLE_SECONDS))


def listen(path: Path) -> socket.socket:
    """A Unix socket at `path` that its owner and group may use."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    path.chmod(0o660)
    return made


def over_socket(path: Path, client: Client) -> Client:
    """The same client, speaking over the Unix socket at `path`; it never retries by itself."""
    made = httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=CALL_SECONDS)
    client._client.close()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    client._client = made  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return client


def runtime_client(path: Path, name: str, token: str | None = None) -> RuntimeHttpClient:
    """A client of the run-time interface behind the socket at `path`, under the name of a program of Flower's."""
    interceptors: list[Any] = [RuntimeVersionHttpInterceptor(component_name=name)]
    interceptors += [RuntimeTokenHttpInterceptor(token)] if token else []
    return over_socket(path, RuntimeHttpClient("http://localhost", interceptors=interceptors))


def unreachable(path: Path, error: httpx.HTTPError) -> UnreachableError | RunLostError:
    """What a failed call over a socket means; without Flower's text, for what a peer sends is no text of ours."""
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 403}:
        return RunLostError(
            "Flower does not know this task any more",
            why="its run has ended, or the process that handed it out has restarted",
            fix="nothing to do: the run is started again and goes on from the ledger",
        )
    return UnreachableError(
        f"nobody answers at {path}",
        why=type(error).__name__,
        fix="see `fedseg server status DIR` or `fedseg node status DIR`",
    )


class Heartbeat:
    """Tells the process that handed out a task that someone works on it, until closed."""

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.is_set():
            try:
                self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except (httpx.HTTPError, ValueError):
                log.warning("heartbeat.failed")
            self._ended.wait(HEARTBEAT_DEFAULT_INTERVAL / 3)

    def close(self) -> None:
        """Stop, and wait for a heartbeat under way."""
        self._ended.set()
        self._thread.join()
