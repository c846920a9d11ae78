"""One HTTP/1.1 connection for lease stores: h11 over the sockets of `sockets.py`, on the caller's loop.

TCP, TLS and unix sockets. A connection serves one request at a time; `client.py` keeps it for the next.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import h11

from flannel_multi.store.sockets import Wire, addresses, connect, connect_tls, connect_unix

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


Headers = tuple[tuple[str, str], ...]
ReplyHeaders = Sequence[tuple[bytes, bytes]]  # names in lower case


class Reply(NamedTuple):
    """`resent`: the request may have reached the server twice, and this answers the second."""

    status: int
    body: bytes
    headers: ReplyHeaders = ()
    resent: bool = False

    def header(self, name: bytes) -> str:
        """The value of header `name` (in lower case), "" when there is none."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


class Connection:
    """One connection. Every method may raise OSError (TLS errors are such) or h11.RemoteProtocolError."""

    def __init__(self, wire: Wire, host: str) -> None:
        self._wire = wire
        self._host = host
        self._http = h11.Connection(h11.CLIENT)
        self.headers: ReplyHeaders = ()  # of the last answer

    @classmethod
    async def open(cls, endpoint: Endpoint, tls: ssl.SSLContext | None) -> Connection:
        scheme, host, port = endpoint
        if scheme == "unix":
            return cls(await connect_unix(host), "localhost")
        context = tls if scheme == "https" else None
        last: OSError | None = None
        for address in await addresses(host):
            try:
                wire = await (connect_tls(address, port, context, host) if context else connect(address, port))
            except OSError as error:
                last = error
                continue
            return cls(wire, str(endpoint).partition("://")[2])
        raise last or OSError(f"{host} has no address")

    async def send(self, path: str, body: bytes | None, headers: Headers, *, method: str = "POST") -> int:
        """Sends a request and returns the status of the answer, whose body is then read by `rest` or `lines`."""
        await self.ask(path, body, headers, method=method)
        return await self.status()

    async def ask(self, path: str, body: bytes | None, headers: Headers, *, method: str = "POST") -> None:
        """Sends a request, without a body when that is None, and does not wait for the answer: see `status`."""
        head = [("Host", self._host)]
        if body is not None:
            head += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        request = h11.Request(method=method, target=path, headers=[*head, *headers])
        parts = (self._http.send(request), self._http.send(h11.Data(body or b"")), self._http.send(h11.EndOfMessage()))
        await self._wire.write(b"".join(part for part in parts if part))

    async def status(self) -> int:
        """The status of the answer to what was asked, waited for."""
        while not isinstance(event := await self._next(), h11.Response):
            pass
        self.headers = event.headers
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
        return self._http.our_state is h11.IDLE and not self._wire.ended()

    def close(self) -> None:
        """At once, without a farewell: a server that hangs must not hold us."""
        self._wire.abort()

    async def _next(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._wire.read())
        if isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("the server closed the connection")
        return event  # type: ignore[return-value]  # NEED_DATA and PAUSED are no events to us
