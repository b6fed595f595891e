"""HTTP services for few clients: a server that does and tells as little as possible, and bodies that are bounded."""

import asyncio
from http import HTTPStatus
from pathlib import Path

import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp


def server_config(
    app: ASGIApp,
    *,
    connections: int = 64,
    idle_seconds: int = 75,
    stop_seconds: int = 10,
    certificate: Path | None = None,
    key: Path | None = None,
) -> uvicorn.Config:
    """How such a server runs: HTTP/1.1 alone, no log of who asks for what, no word of what it is made of.

    Args:
        app: What answers.
        connections: Most at a time; for more there is a 503.
        idle_seconds: How long a connection is kept on which nothing is asked: by default longer than proxies do.
        stop_seconds: How long answers in work may take once it is to end.
        certificate: For TLS, with `key`; both PEM.
        key: The certificate's.
    """
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,  # a path may hold a token or name somebody
        proxy_headers=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_keep_alive=idle_seconds,
        timeout_graceful_shutdown=stop_seconds,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


async def body_of(request: Request, *, most: int, seconds: float) -> bytes:
    """The body of a request.

    Args:
        request: Of which nothing was read yet.
        most: Bytes that it may have.
        seconds: How long it may take to arrive.

    Raises:
        HTTPException: 413 if it is longer, 408 if it takes longer.
        ClientDisconnect: If the client goes away meanwhile.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {most} bytes")
    except TimeoutError:
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, f"a request must arrive within {seconds:.0f} s") from None
    return bytes(body)
