"""What stands before every page: the right address, and headers that let a browser do as little as possible."""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedseg.errors import ConsoleAccessError, FedsegError
from fedseg.http_service import body_of

BODY_BYTES_MAX: Final = 16 * 1024
BODY_SECONDS: Final = 10.0
"""How long a form may take to arrive."""
FIELDS_MAX: Final = 16
HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not `no-referrer`: with that, browsers send no origin with forms either (Fetch standard, 3.2, "serializing").
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer. There is no script at all."""


class Guard:
    """Refuses requests under another address than the console's own, and sets `HEADERS`.

    A web page can have its own name resolve to 127.0.0.1 and then read what is there, as if it were its own (DNS
    rebinding). The browser then still says the page's name as the host.
    """

    def __init__(self, app: ASGIApp, authority: str, refusal: Callable[[FedsegError], Response]) -> None:
        self._app = app
        self._authority = authority.encode()
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise TypeError("the console speaks HTTP alone")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        if [value for name, value in scope["headers"] if name == b"host"] == [self._authority]:
            await self._app(scope, receive, send_guarded)
            return
        error = ConsoleAccessError(
            "the console was asked under another address than its own",
            why="a web page may try to reach it under a name of its own",
            fix="use the link that the console has printed",
        )
        await self._refusal(error)(scope, receive, send_guarded)


async def form_of(request: Request, origin: str) -> dict[str, str]:
    """The fields of a form that one of the console's own pages has sent.

    Raises:
        ConsoleAccessError: If it comes from elsewhere, is too large, or is no such form.
    """
    if request.headers.getlist("origin") != [origin]:
        raise _unfit("it comes from a page of somebody else")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise _unfit("it is no form")
    return read_form(await _body_of(request))


def read_form(body: bytes) -> dict[str, str]:
    """The fields of a form as browsers write it (`application/x-www-form-urlencoded`), each once.

    Raises:
        ConsoleAccessError: If it is no such form.
    """
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise _unfit("it is no form") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _unfit("it has a field twice")
    return fields


async def _body_of(request: Request) -> bytes:
    try:
        return await body_of(request, most=BODY_BYTES_MAX, seconds=BODY_SECONDS)
    except HTTPException as error:
        raise _unfit(error.detail) from None
    except ClientDisconnect:
        raise _unfit("it did not arrive as a whole") from None


def _unfit(why: str) -> ConsoleAccessError:
    return ConsoleAccessError(
        "what was sent is no form of the console", why=why, fix="go back to the page, load it again and send it again"
    )
