"""The HTTP witness (c2sp.org/tlog-witness): `POST /add-checkpoint`, for logs that were enrolled and for nobody else.

It calls nobody, and needs nothing but its directory: whoever runs it depends on no federation, server or unit. Requests
are signed by the logs themselves, answers by the witness: who stands in between can delay, and forge nothing.

`GET /checkpoint?origin=NAME` is ours: the newest checkpoint that was cosigned, so that a log's owner who has restored a
copy learns how far the log had come.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from socket import AF_INET, AF_INET6, create_server
from socket import socket as Socket  # noqa: N812 (its name is a word of ours)
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fedseg.audit.contradiction import note_contradiction
from fedseg.errors import CertificateError, FedsegError, SettingsError
from fedseg.http_service import body_of, server_config
from fedseg.ledger.witness import REQUEST_LIMIT_BYTES, Answer, Witness

log = logging.getLogger(__name__)

BODY_SECONDS: Final = 10.0
"""How long a body may take to arrive."""
_SIZE_TYPE: Final = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the service listens."""

    host: str
    port: int
    certificate: Path | None
    key: Path | None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise _unfit("--cert and --key belong together", "name both, or neither behind a proxy that has TLS")

    @property
    def url(self) -> str:
        """As clients of this machine say it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.key is None else 'https'}://{host}:{self.port}"


def application(witness: Witness, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Starlette:
    """The service of one witness as an ASGI application."""
    api = _Api(witness, clock)
    return Starlette(
        routes=[
            Route("/add-checkpoint", api.add_checkpoint, methods=["POST"]),
            Route("/checkpoint", api.checkpoint, methods=["GET"]),
        ],
        exception_handlers={FedsegError: _fail, ClientDisconnect: _gone},
    )


def serve(witness: Witness, place: Place, listening: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        witness: Whose service.
        place: Where.
        listening: Called once, as soon as clients can connect.

    Raises:
        SettingsError: If listening fails.
        CertificateError: If certificate or key cannot be used.
    """
    config = server_config(application(witness), certificate=place.certificate, key=place.key)
    try:
        config.load()
    except OSError as error:  # an ssl.SSLError is one
        raise CertificateError(
            "the witness's certificate or key cannot be used",
            why=error.strerror or type(error).__name__,
            fix="name a certificate and its own private key, both PEM: --cert FILE --key FILE",
        ) from error
    _start_log()
    with _bound(place) as bound:
        listening()
        uvicorn.Server(config).run(sockets=[bound])


class _Api:
    """The endpoints."""

    def __init__(self, witness: Witness, clock: Callable[[], datetime]) -> None:
        self._witness = witness
        self._clock = clock

    async def add_checkpoint(self, request: Request) -> Response:
        body = await body_of(request, most=REQUEST_LIMIT_BYTES, seconds=BODY_SECONDS)
        answer = await run_in_threadpool(self._answer, body)
        kind = _SIZE_TYPE if answer.status is HTTPStatus.CONFLICT else "text/plain; charset=utf-8"
        return Response(answer.body, answer.status, {"Cache-Control": "no-store"}, kind)

    async def checkpoint(self, request: Request) -> Response:
        logs = await run_in_threadpool(self._witness.logs)
        known = logs.get(request.query_params.get("origin", ""))
        if known is None or not known.note:
            raise HTTPException(HTTPStatus.NOT_FOUND, "no checkpoint of this log was cosigned here")
        return PlainTextResponse(known.note, headers={"Cache-Control": "no-store"})

    def _answer(self, body: bytes) -> Answer:
        answer = self._witness.add_checkpoint(body, self._clock())
        log.info("checkpoint.answered status=%d", answer.status)
        note_contradiction(self._witness, answer)
        return answer


async def _fail(_: Request, error: Exception) -> Response:
    """What is wrong here is no matter of the client's; nothing was cosigned."""
    if not isinstance(error, FedsegError):
        raise TypeError("registered for FedsegError alone")
    log.error("checkpoint.failed code=%s what=%s why=%s fix=%s", error.code, error.what, error.why, error.fix)
    return PlainTextResponse("the witness cannot answer now; try again later\n", HTTPStatus.SERVICE_UNAVAILABLE)


async def _gone(_: Request, __: Exception) -> Response:
    return PlainTextResponse("the body did not arrive as a whole\n", HTTPStatus.BAD_REQUEST)


def _bound(place: Place) -> Socket:
    try:
        return create_server((place.host, place.port), family=AF_INET6 if ":" in place.host else AF_INET)
    except OSError as error:
        raise _unfit(
            f"listening at {place.host}:{place.port} fails: {error.strerror}", "choose another --port or --host"
        ) from error


def _start_log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _unfit(why: str, fix: str) -> SettingsError:
    return SettingsError("the witness cannot be started", why=why, fix=fix)
