"""A unit's rights service: privacy platforms hand in requests over HTTP, in the shapes of OpenDSR 2.0.

It notes requests down, so that their clocks run, and tells where they stand; what is done about them a person at the
unit does. It never looks into the unit's data, so neither an answer nor how long it takes depends on whether the unit
has heard of somebody. No body of a request, nor a part of one that names anybody, is logged or stored.
"""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, NamedTuple

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from fedseg.errors import FedsegError, RightsRequestError
from fedseg.http_service import body_of
from fedseg.node.home import NodeHome
from fedseg.node.rights.opendsr import (
    PENDING,
    PlatformRequest,
    cancellation,
    discovery,
    failure,
    order_of,
    read_request,
    receipt,
    state,
    status_of,
    ticket_of,
)
from fedseg.node.rights.platforms import Platform, holder_of, load_platforms, may_call
from fedseg.node.rights.register import OpenRequest
from fedseg.node.rights.requests import receive
from fedseg.node.rights.seal import Seal
from fedseg.policy.rights import SubjectRequest

log = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = 64 * 1024
BODY_SECONDS: Final = 10.0
"""How long a body may take to arrive."""
ASKED_MAX: Final = 120
"""How often a platform may ask within `ASKED_SECONDS`."""
ASKED_SECONDS: Final = 60.0


class Address(NamedTuple):
    """Where platforms find the service."""

    url: str
    """Without a slash at the end."""
    domain: str
    """Its host: what the certificate vouches for."""


def application(
    home: NodeHome, seal: Seal, address: Address, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Starlette:
    """The service of one unit as an ASGI application, for one process.

    OpenDSR wants the version at the start of every path, and leaves it out in its examples: both are served.
    """
    api = _Api(home, seal, address, clock)
    routes = [
        Route("/discovery", api.discover, methods=["GET"]),
        Route("/requests", api.receive, methods=["POST"]),
        Route("/requests/{id}", api.tell, methods=["GET"]),
        Route("/requests/{id}", api.cancel, methods=["DELETE"]),
        Route("/certificate.pem", api.certificate, methods=["GET"]),
    ]
    return Starlette(
        routes=[*routes, Mount("/v2", routes=routes)],
        exception_handlers={HTTPException: _refuse, FedsegError: _fail, ClientDisconnect: _gone},
    )


class LineWithoutCause(logging.Formatter):
    """A record on one line; of an exception its class alone, for its text may hold a part of a request."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatException(  # noqa: N802 (the name is logging's)
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """The class of the exception."""
        return ei[0].__name__ if ei[0] is not None else ""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        record.exc_text = None
        return super().format(record).replace("\n", " ")


class _Rates:
    """How often each platform has asked of late; in memory."""

    def __init__(self) -> None:
        self._asked: Final[dict[str, deque[float]]] = {}

    def take(self, name: str) -> None:
        """Count one.

        Raises:
            HTTPException: If these are too many.
        """
        now, asked = time.monotonic(), self._asked.setdefault(name, deque(maxlen=ASKED_MAX))
        if len(asked) == ASKED_MAX and now - asked[0] < ASKED_SECONDS:
            wait = str(1 + int(ASKED_SECONDS - now + asked[0]))
            raise HTTPException(429, "too many requests within a minute", {"Retry-After": wait})
        asked.append(now)


class _Api:
    """The endpoints. One request is worked on at a time, so that the same one sent twice at once is noted once."""

    def __init__(self, home: NodeHome, seal: Seal, address: Address, clock: Callable[[], datetime]) -> None:
        self._home = home
        self._seal = seal
        self._address = address
        self._clock = clock
        self._rates = _Rates()
        self._turn = asyncio.Lock()

    async def discover(self, request: Request) -> Response:
        _, platform = await self._caller(request)
        return self._signed(200, discovery(platform.identity_type, f"{self._address.url}/certificate.pem"))

    async def certificate(self, _: Request) -> Response:
        """Public, as it is in every handshake."""
        return Response(self._seal.certificate, media_type="application/x-pem-file")

    async def receive(self, request: Request) -> Response:
        name, platform = await self._caller(request)
        body, now = await body_of(request, most=BODY_BYTES_MAX, seconds=BODY_SECONDS), self._clock()
        asked = read_request(body, platform.identity_type)
        async with self._turn:
            noted = await run_in_threadpool(self._note, name, asked, now)
        log.info("request.noted ticket=%s", ticket_of(name, asked.subject_request_id))
        return self._signed(201, receipt(name, asked, body, noted, now))

    async def tell(self, request: Request) -> Response:
        name, _ = await self._caller(request)
        id_ = request.path_params["id"]
        async with self._turn:
            known = await run_in_threadpool(self._known, name, id_)
        return self._signed(200, state(name, id_, [one.request for one in known], self._address.domain))

    async def cancel(self, request: Request) -> Response:
        name, _ = await self._caller(request)
        id_, now = request.path_params["id"], self._clock()
        async with self._turn:
            await run_in_threadpool(self._revoke, name, id_, now)
        log.info("request.cancelled ticket=%s", ticket_of(name, id_))
        return self._signed(202, cancellation(name, id_, now))

    async def _caller(self, request: Request) -> tuple[str, Platform]:
        """Who asks; the list of platforms is read anew each time, so that a token can be taken away at once."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        platforms = await run_in_threadpool(load_platforms, self._home)
        name = holder_of(platforms, token)
        if name is None or scheme.lower() != "bearer":
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
        self._rates.take(name)
        return name, platforms[name]

    def _note(self, platform: str, asked: PlatformRequest, now: datetime) -> list[SubjectRequest]:
        order = order_of(asked, platform, now)
        with self._home.rights() as rights:
            known = rights.with_ticket(order.ticket)
        if not known:
            noted = receive(self._home, order, asked.right, now)
            self._remember_callbacks(platform, order.ticket, asked.status_callback_urls, now)
            return noted
        # Of a request that has ended nobody can say any more whom it was about: that is another one, too.
        wanted = {(subject, asked.right, order.regulation, order.received) for subject in order.subjects(self._home)}
        if wanted != {(one.subject, one.request.right, one.request.regulation, one.request.received) for one in known}:
            raise HTTPException(409, "this subject_request_id is that of another request, or of one that has ended")
        return [one.request for one in known]

    def _remember_callbacks(self, platform: str, ticket: str, urls: Sequence[str], now: datetime) -> None:
        """Those that the unit will call: any other is passed over, as the reference says."""
        admitted = load_platforms(self._home).get(platform)
        wanted = [one for one in urls if admitted is not None and may_call(admitted, one)]
        with self._home.rights() as rights:
            rights.notices.call_back(ticket, wanted, PENDING, now)

    def _known(self, platform: str, id_: str) -> list[OpenRequest]:
        with self._home.rights() as rights:
            known = rights.with_ticket(ticket_of(platform, id_))
        if not known:
            raise HTTPException(404, "no request of yours has this subject_request_id")
        return known

    def _revoke(self, platform: str, id_: str, now: datetime) -> None:
        noted = [one.request for one in self._known(platform, id_)]
        if status_of(noted) != "pending":
            raise HTTPException(409, f"the request is {status_of(noted)}, and only a pending one can be cancelled")
        with self._home.rights() as rights:
            rights.change([one.id for one in noted], lambda one: one.revoke(now.astimezone(UTC).date()))

    def _signed(self, status: int, answer: Mapping[str, Any]) -> Response:
        response = _response(status, answer)
        response.headers["X-OpenDSR-Processor-Domain"] = self._address.domain
        response.headers["X-OpenDSR-Signature"] = self._seal.sign(bytes(response.body))
        return response


async def _refuse(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError("registered for HTTPException alone")
    log.warning("request.refused status=%d", error.status_code)
    return _response(error.status_code, failure(error.status_code, error.detail, "refused"), error.headers)


async def _fail(_: Request, error: Exception) -> Response:
    """What is wrong with a request is told; what is wrong with the unit is no matter of the platform's."""
    if not isinstance(error, FedsegError):
        raise TypeError("registered for FedsegError alone")
    log.warning("request.failed code=%s", error.code)
    if isinstance(error, RightsRequestError):
        return _response(400, failure(400, f"{error.what}: {error.why}; {error.fix}", error.code))
    return _response(503, failure(503, "the unit cannot answer now; try again later", error.code))


async def _gone(_: Request, __: Exception) -> Response:
    return _response(400, failure(400, "the body did not arrive as a whole", "refused"))


def _response(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")
