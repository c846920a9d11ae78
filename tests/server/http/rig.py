"""A server in this process, and clients that say bytes."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from flannel_multi.options.listen import parse_listen
from flannel_multi.server.exchange import JSON, Handler, Request, Response
from flannel_multi.server.http.limits import Limits
from flannel_multi.server.http.listening import open_listener
from flannel_multi.server.http.server import HttpServer
from flannel_multi.server.http.tls import ServerTls

WITHIN_S = 10.0  # a test that waits longer for an answer has failed


class Reply(NamedTuple):
    """`head` holds header names in lower case; interim answers are kept by status."""

    status: int
    head: dict[str, str]
    body: bytes
    interim: tuple[int, ...] = ()


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, *, to_head: bool = False) -> Reply:
        interim: list[int] = []
        while True:
            async with asyncio.timeout(WITHIN_S):
                first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
                status = int(first.split()[1])
                if status < 200:
                    interim.append(status)
                    continue
                size = 0 if to_head else int(head["content-length"])
                return Reply(status, head, await self.reader.readexactly(size), tuple(interim))

    async def get(self, path: str = "/") -> Reply:
        await self.say(get(path))
        return await self.reply()

    async def ended(self) -> bytes:
        """What still came before the server closed."""
        async with asyncio.timeout(WITHIN_S):
            return await self.reader.read()

    def reset(self) -> None:
        """Ends without a farewell."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


class Served(NamedTuple):
    server: HttpServer
    port: int

    @asynccontextmanager
    async def client(self, tls: ssl.SSLContext | None = None, *, name: str = "localhost") -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname=name if tls else None
        )
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:  # reset by the server, as some tests want it
                pass

    async def asked(self, data: bytes) -> Reply:
        """The answer to one connection's bytes."""
        async with self.client() as client:
            await client.say(data)
            return await client.reply()


def get(path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def post(body: bytes) -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def echo(request: Request) -> Response:
    """Says what was asked."""
    return Response(200, f"{request.method} {request.path}?{request.query} ".encode() + request.body, JSON)


@asynccontextmanager
async def serving(
    handler: Handler = echo, limits: Limits | None = None, tls: ServerTls | None = None, *, listen: str = "127.0.0.1:0"
) -> AsyncIterator[Served]:
    listener = open_listener(parse_listen(listen), {}, os.getpid())
    port = listener.getsockname()[1] if listener.family != socket.AF_UNIX else 0
    server = HttpServer(handler, limits, tls)
    server.start([listener])
    try:
        yield Served(server, port)
    finally:
        server.close()
        await asyncio.sleep(0)  # handlers that were cut end in the next turn


class LongPoll:
    """A handler that holds every request for `/wait` until `answer` is set; counts who waits and who was cancelled."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.waiting = self.cancelled = 0
        self.changed = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        if request.path != "/wait":
            return await echo(request)
        self.waiting += 1
        self.changed.set()
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
            self.changed.set()

    async def until(self, condition: Callable[[LongPoll], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what no event tells of."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.005)


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Runs a test's story on a loop of its own."""

    async def main() -> None:
        async with asyncio.timeout(60.0):
            await story()

    asyncio.run(main())
