"""Stands for systemd-socket-proxyd where there is no systemd: python socket_proxy.py SOCKET PORT."""

import asyncio
import sys
from contextlib import suppress


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """All that comes, until nothing does."""
    with suppress(OSError):
        while data := await source.read(2**16):
            target.write(data)
            await target.drain()
    target.close()


async def serve(path: str, port: int) -> None:
    """Whatever comes to the socket goes to the port, and back."""

    async def let_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_there, to_there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, to_there), copy(from_there, writer))

    async with await asyncio.start_unix_server(let_in, path) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
