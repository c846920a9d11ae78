"""A TCP proxy before etcd that loses an answer: the request is done, and nobody hears of it. Or a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.lab.etcd import Etcd


class Lossy:
    """Cuts the connection instead of passing on the answer to the next request whose path is in `lose`, or the
    next request whose path is in `refuse`."""

    def __init__(self, etcd: Etcd) -> None:
        where = urlsplit(etcd.url)
        self._upstream = (where.hostname, where.port)
        self.lose: list[str] = []
        self.refuse: list[str] = []
        self.lost = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        asked = [""]
        answers = asyncio.create_task(self._pass_on(up_reader, writer, asked))
        try:
            while request := await reader.read(65536):
                path = request.split(b" ", 2)[1].decode() if request.startswith(b"POST ") else asked[0]
                if path in self.refuse:
                    self.refuse.remove(path)
                    return
                asked[0] = path
                up_writer.write(request)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            answers.cancel()
            writer.close()
            up_writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: list[str]) -> None:
        """Whatever pieces an answer comes in; the first piece of one that is to be lost cuts the connection."""
        while answer := await reader.read(65536):
            if asked[0] in self.lose:
                self.lose.remove(asked[0])
                self.lost += 1
                break
            writer.write(answer)
        writer.close()


@asynccontextmanager
async def lossy(etcd: Etcd) -> AsyncIterator[Lossy]:
    """A proxy to `etcd` for unary calls, for the length of a `with`."""
    proxy = Lossy(etcd)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.url = f"http://{host}:{port}"
    async with server:
        yield proxy
