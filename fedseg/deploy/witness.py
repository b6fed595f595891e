"""The HTTP witness (c2sp.org/tlog-witness): `POST /add-checkpoint`, for logs that were enrolled and for nobody else.

It calls nobody, and needs nothing but its directory: whoever runs it depends on no federation, server or unit. Requests
are signed by the logs themselves, answers by the witness: who stands in between can delay, and forge nothing.

`GET /checkpoint?origin=NAME` is ours: the newest checkpoint that was cosigned, so that a log's owner who has restored a
copy learns how far the log had come.
"""

import hashlib
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

from fedseg.audit.proof import EquivocationProof
from fedseg.errors import CertificateError, FedsegError, SettingsError
from fedseg.http_service import body_of, server_config
from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.notes import parse_note
from fedseg.ledger.verifier_keys import open_signed
from fedseg.ledger.witness import REQUEST_LIMIT_BYTES, Answer, WatchedLog, Witness
from fedseg.private_file import write_new

log = logging.getLogger(__name__)

BODY_SECONDS: Final = 10.0
"""How long a body may take to arrive."""
PROOFS: Final = "contradictions"
PROOFS_MAX: Final = 64
"""Most proofs that are kept: one is enough, and whoever has a log's key could make any number."""
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


def keep_contradiction(witness: Witness, answer: Answer) -> Path | None:
    """Write down that a log has signed two histories, as a proof for everybody; None if `answer` shows no such thing.

    Raises:
        OSError: If it cannot be written.
    """
    if answer.contradicted is None:
        return None
    one, other = answer.contradicted
    origin = parse_checkpoint(parse_note(one).text).origin
    signer = _signer(witness.logs()[origin], one, other)
    if signer is None:
        return None
    proof = EquivocationProof.of(origin, signer, one, other).to_json()
    folder = witness.path / PROOFS
    folder.mkdir(exist_ok=True, mode=0o700)
    path = folder / f"{hashlib.sha256(proof).hexdigest()[:32]}.json"
    if path.exists() or len(list(folder.iterdir())) >= PROOFS_MAX:
        return path if path.exists() else None
    write_new(path, proof)
    return path


def _signer(known: WatchedLog, *notes: str) -> PublicKey | None:
    """The key of the log that has signed all these notes; None if they are of different keys."""
    signers = {one.key.public_key for note in notes for one in open_signed(note, known.keys).signed}
    key = signers.pop()
    return key if not signers and isinstance(key, PublicKey) else None


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
        try:
            kept = keep_contradiction(self._witness, answer)
        except OSError as error:
            log.error("contradiction.not_kept why=%s", error.strerror)  # noqa: TRY400 (the log's own words say nothing more)
        else:
            if kept is not None:
                log.warning("contradiction.kept proof=%s", kept.name)
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
