"""HTTP/1.1 for lease stores: one small client over h11, on the caller's loop, with a deadline on every call.

TCP, TLS and unix sockets. A connection serves one request at a time and is kept for the next; a stream (a watch)
has its own. No thread stays behind: an address given as a literal is connected to as it is, a name is looked up by
an executor that ends with the look-up (the loop's own executor would keep a thread for the life of the worker).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlsplit

import h11

from flannel_multi.model.errors import StoreUnavailable

READ_BYTES = 65536
MAX_BODY = 256 << 20  # a listing of 100,000 leases has 40 MB; past this the peer is no lease store
MAX_LINE = 64 << 20  # one line of a watch: etcd puts all events of a revision into one


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
    """One connection. Every method may raise OSError, h11.RemoteProtocolError or ssl errors: see `translated`."""

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

    async def lines(self) -> AsyncIterator[bytes]:
        """The body line by line as it comes; a last line without its end is cut off, not given."""
        pending = b""
        while isinstance(event := await self._next(), h11.Data):
            *whole, pending = (pending + bytes(event.data)).split(b"\n")
            if len(pending) > MAX_LINE:
                raise h11.RemoteProtocolError(f"a line of more than {MAX_LINE} bytes")
            for line in whole:
                yield line

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


class Client:
    """Requests to the first endpoint that answers; the one that did is asked first the next time."""

    def __init__(self, endpoints: tuple[Endpoint, ...], tls: ssl.SSLContext | None) -> None:
        self._endpoints = list(endpoints)
        self._tls = tls
        self._idle: tuple[Endpoint, Connection] | None = None
        self.requests = 0

    async def post(
        self, path: str, body: bytes, headers: tuple[tuple[str, str], ...] = (), *, timeout_s: float
    ) -> Reply:
        """One exchange, within `timeout_s` over all endpoints. Raises StoreUnavailable."""
        self.requests += 1
        kept, self._idle = self._idle, None
        if kept is not None and kept[1].reusable:
            try:
                async with asyncio.timeout(timeout_s / 2):
                    return await self._exchange(*kept, path, body, headers)
            except (OSError, h11.RemoteProtocolError):  # TimeoutError is an OSError
                kept[1].close()  # it was idle and may have been closed under us: every call here can be repeated
        elif kept is not None:
            kept[1].close()
        connection, endpoint, status = await self._reach(path, body, headers, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                reply = Reply(status, await connection.rest())
        except (OSError, h11.RemoteProtocolError) as error:
            connection.close()
            raise StoreUnavailable(f"{endpoint}: {why(error)}") from error
        self._keep(endpoint, connection)
        return reply

    async def stream(
        self, path: str, body: bytes, headers: tuple[tuple[str, str], ...] = (), *, timeout_s: float
    ) -> tuple[int, Connection, Endpoint]:
        """Opens an endless answer on a connection of its own, which the caller closes. Raises StoreUnavailable."""
        connection, endpoint, status = await self._reach(path, body, headers, timeout_s)
        return status, connection, endpoint

    def close(self) -> None:
        if self._idle is not None:
            self._idle[1].close()
            self._idle = None

    async def _exchange(
        self, endpoint: Endpoint, connection: Connection, path: str, body: bytes, headers: tuple[tuple[str, str], ...]
    ) -> Reply:
        status = await connection.send(path, body, headers)
        reply = Reply(status, await connection.rest())
        self._keep(endpoint, connection)
        return reply

    async def _reach(
        self, path: str, body: bytes, headers: tuple[tuple[str, str], ...], timeout_s: float
    ) -> tuple[Connection, Endpoint, int]:
        """A fresh connection on which the request was sent and the head of the answer read."""
        failures = []
        for endpoint in tuple(self._endpoints):
            connection = None
            try:
                async with asyncio.timeout(timeout_s / len(self._endpoints)):
                    connection = await Connection.open(endpoint, self._tls)
                    status = await connection.send(path, body, headers)
            except (OSError, h11.RemoteProtocolError) as error:
                if connection is not None:
                    connection.close()
                failures.append(f"{endpoint}: {why(error)}")
                self._endpoints.append(self._endpoints.pop(0))  # the next one is first from now on
                continue
            except asyncio.CancelledError:
                if connection is not None:
                    connection.close()
                raise
            return connection, endpoint, status
        raise StoreUnavailable("store unreachable: " + "; ".join(failures))

    def _keep(self, endpoint: Endpoint, connection: Connection) -> None:
        if self._idle is None and connection.reusable:
            self._idle = (endpoint, connection)
        else:
            connection.close()


def why(error: BaseException) -> str:
    """What a person needs to know of a failed connection."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its TLS certificate is not accepted: {error.verify_message or error.reason}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError():
            return "connection refused"
        case OSError():
            return error.strerror or str(error)
        case _:
            return str(error)


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
    finally:
        executor.shutdown(wait=False)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
