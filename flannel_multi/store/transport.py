"""One HTTP/1.1 connection for lease stores: h11 over asyncio streams, on the caller's loop.

TCP, TLS and unix sockets. A connection serves one request at a time; `client.py` keeps it for the next. No thread
stays behind: an address given as a literal is connected to as it is, a name is looked up by an executor that ends
with the look-up (the loop's own executor would keep a thread for the life of the worker).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlsplit

import h11

READ_BYTES = 65536
MAX_BODY = 256 << 20  # a listing of 100,000 leases has 40 MB; past this the peer is no lease store
MAX_LINE = 64 << 20  # one line of a watch: etcd puts all events of a revision into one
KEEPALIVE_IDLE_S, KEEPALIVE_EVERY_S, KEEPALIVE_COUNT = 5, 1, 3  # a path that died in silence is noticed after 8 s


class Endpoint(NamedTuple):
    """Where a server is. `host` is the path of the socket for scheme `unix`."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return cls("unix", parts.netloc + parts.path, 0)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL such as http://127.0.0.1:2379")
        return cls(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Reply(NamedTuple):
    status: int
    body: bytes


class Connection:
    """One connection. Every method may raise OSError (TLS errors are such) or h11.RemoteProtocolError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, endpoint: Endpoint, tls: ssl.SSLContext | None) -> Connection:
        if endpoint.scheme == "unix":
            reader, writer = await asyncio.open_unix_connection(endpoint.host)
            return cls(reader, writer, "localhost")
        context = tls if endpoint.scheme == "https" else None
        last: OSError | None = None
        for address in await _addresses(endpoint.host):
            try:
                reader, writer = await asyncio.open_connection(
                    address, endpoint.port, ssl=context, server_hostname=endpoint.host if context else None
                )
            except OSError as error:
                last = error
                continue
            _keep_alive(writer)
            return cls(reader, writer, str(endpoint).partition("://")[2])
        raise last or OSError(f"{endpoint.host} has no address")

    async def send(self, path: str, body: bytes, headers: tuple[tuple[str, str], ...]) -> int:
        """Sends a POST and returns the status of the answer, whose body is then read by `rest` or `lines`."""
        head = [("Host", self._host), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        request = h11.Request(method="POST", target=path, headers=[*head, *headers])
        parts = (self._http.send(request), self._http.send(h11.Data(body)), self._http.send(h11.EndOfMessage()))
        self._writer.write(b"".join(part for part in parts if part))
        await self._writer.drain()
        while not isinstance(event := await self._next(), h11.Response):
            pass
        return int(event.status_code)

    async def rest(self) -> bytes:
        """The whole body. The connection may then carry the next request, see `reusable`."""
        parts, size = [], 0
        while isinstance(event := await self._next(), h11.Data):
            size += len(event.data)
            if size > MAX_BODY:
                raise h11.RemoteProtocolError(f"a body of more than {MAX_BODY} bytes")
            parts.append(bytes(event.data))
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return b"".join(parts)

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """The body line by line as it comes; a last line without its end is cut off, not given."""
        pending: list[bytes] = []  # pieces of a line whose end has not come; joined once, a line may have megabytes
        size = 0
        while isinstance(event := await self._next(), h11.Data):
            first, *more = bytes(event.data).split(b"\n")
            pending.append(first)
            size += len(first)
            if size > MAX_LINE:
                raise h11.RemoteProtocolError(f"a line of more than {MAX_LINE} bytes")
            for piece in more:
                yield b"".join(pending)
                pending, size = [piece], len(piece)

    @property
    def reusable(self) -> bool:
        return self._http.our_state is h11.IDLE and not self._reader.at_eof()

    def close(self) -> None:
        """At once, without a farewell: a server that hangs must not hold us."""
        self._writer.transport.abort()

    async def _next(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(READ_BYTES))
        if isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("the server closed the connection")
        return event  # type: ignore[return-value]  # NEED_DATA and PAUSED are no events to us


async def _addresses(host: str) -> list[str]:
    """`host` itself if it is a literal, else its addresses, looked up in a thread that ends with the look-up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [host]
    executor = ThreadPoolExecutor(1)
    try:
        found = await asyncio.get_running_loop().run_in_executor(
            executor, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
    except UnicodeError:
        raise OSError(f"{host[:80]!r} is no host name") from None
    finally:
        executor.shutdown(wait=False)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """The kernel asks whether the path still stands: a watch says nothing for hours, and a firewall forgets it."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
