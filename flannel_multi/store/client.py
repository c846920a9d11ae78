"""Requests to whichever of several endpoints answers, each within a deadline. Knows HTTP, nothing of stores."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

import h11

from flannel_multi.model.errors import FlannelError, StoreRefused, StoreUnavailable
from flannel_multi.store.tls import ETCD, TlsFiles, Words, explain_tls, is_wrong_name
from flannel_multi.store.transport import Connection, Endpoint, Headers, Reply

BROKEN = (OSError, h11.RemoteProtocolError)  # TimeoutError and ssl.SSLError are OSErrors


class Deadline:
    """A point in the loop's time by which a call, of however many exchanges, has ended."""

    def __init__(self, timeout_s: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._ends_s = self._clock() + timeout_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._ends_s - self._clock())

    def part(self, share: float) -> asyncio.Timeout:
        """A time-out after `share` of what is left."""
        return asyncio.timeout(self.left_s * share)


class Request(NamedTuple):
    """`path` with its query. `body` None: there is none."""

    method: str
    path: str
    body: bytes | None = None
    headers: Headers = ()


class Answer(NamedTuple):
    """A reply and who gave it."""

    endpoint: Endpoint
    reply: Reply


class Stream(NamedTuple):
    """An endless answer on a connection of its own, which the caller closes. `resent`: see `Reply`."""

    endpoint: Endpoint
    status: int
    connection: Connection
    resent: bool = False


class Client:
    """Asks the first endpoint that answers; the one that did is asked first the next time.

    One idle connection is kept. A request may reach a server twice: when a kept connection breaks before the answer
    has come, or an endpoint does not answer in its share of the time, it is sent again, on a fresh connection. Callers
    word their requests so that this does no harm, and `Reply.resent` tells them.
    """

    def __init__(self, endpoints: tuple[Endpoint, ...], tls: TlsFiles) -> None:
        self._endpoints = list(endpoints)
        self._tls = tls
        self._idle: tuple[Endpoint, Connection] | None = None
        self._closed = False

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All of them, in the order in which they are asked now."""
        return tuple(self._endpoints)

    async def post(
        self, path: str, body: bytes, headers: Headers = (), *, deadline: Deadline, at: Endpoint | None = None
    ) -> Answer:
        """One exchange, with endpoint `at` alone if given. Raises StoreUnavailable, StoreRefused (TLS)."""
        return await self.exchange(Request("POST", path, body, headers), deadline=deadline, at=at)

    async def exchange(self, request: Request, *, deadline: Deadline, at: Endpoint | None = None) -> Answer:
        """One exchange, with endpoint `at` alone if given. Raises StoreUnavailable, StoreRefused (TLS)."""
        endpoint, connection = self._take(at)
        resent = False
        if connection is not None and endpoint is not None:
            try:
                async with deadline.part(0.5):
                    return await self._finish(endpoint, connection, await _send(connection, request))
            except BROKEN as error:
                connection.close()
                resent = True
                if isinstance(error, TimeoutError):
                    self.demote(endpoint)
            except BaseException:
                connection.close()
                raise
        endpoint, status, connection, again = await self._reach(request, deadline, at)
        try:
            async with deadline.part(1.0):
                return await self._finish(endpoint, connection, status, resent=resent or again)
        except BROKEN as error:
            connection.close()
            self.demote(endpoint)
            raise StoreUnavailable(f"{endpoint}: {why(error, self._tls.words)}") from error
        except BaseException:
            connection.close()
            raise

    async def stream(self, path: str, body: bytes, headers: Headers = (), *, deadline: Deadline) -> Stream:
        """Opens an endless answer. Raises StoreUnavailable, StoreRefused (TLS)."""
        return await self._reach(Request("POST", path, body, headers), deadline, None)

    async def connect(self, endpoint: Endpoint, *, deadline: Deadline) -> Connection:
        """A connection of the caller's own. Raises StoreUnavailable, StoreRefused (TLS)."""
        try:
            async with deadline.part(1.0):
                return await self._open(endpoint)
        except BROKEN as error:
            self.demote(endpoint)
            text = f"{endpoint}: {await self._told(endpoint, error, deadline, connected=False)}"
            raise (StoreRefused(text) if isinstance(error, ssl.SSLError) else StoreUnavailable(text)) from error

    def demote(self, endpoint: Endpoint) -> None:
        """`endpoint` does not serve: it is asked last from now on."""
        if endpoint in self._endpoints:
            self._endpoints.remove(endpoint)
            self._endpoints.append(endpoint)
        if self._idle is not None and self._idle[0] == endpoint and len(self._endpoints) > 1:
            self._idle[1].close()
            self._idle = None

    def close(self) -> None:
        self._closed = True
        if self._idle is not None:
            self._idle[1].close()
            self._idle = None

    def _take(self, at: Endpoint | None) -> tuple[Endpoint | None, Connection | None]:
        """The idle connection, if it may carry the next request."""
        if self._idle is None or (at is not None and self._idle[0] != at):
            return None, None
        (endpoint, connection), self._idle = self._idle, None
        if connection.reusable:
            return endpoint, connection
        connection.close()
        return None, None

    async def _finish(self, endpoint: Endpoint, connection: Connection, status: int, *, resent: bool = False) -> Answer:
        answer = Answer(endpoint, Reply(status, await connection.rest(), connection.headers, resent))
        if self._closed or not connection.reusable or (self._idle is not None and self._idle[0] == endpoint):
            connection.close()
            return answer
        if self._idle is not None:  # of two endpoints the one that spoke last is kept
            self._idle[1].close()
        self._idle = (endpoint, connection)
        return answer

    async def _reach(self, request: Request, deadline: Deadline, at: Endpoint | None) -> Stream:
        """A fresh connection on which the request was sent and the head of the answer read."""
        failures: list[str] = []
        refused = sent = False
        candidates = [at] if at is not None else list(self._endpoints)
        for number, endpoint in enumerate(candidates):
            connection = None
            try:
                async with deadline.part(1 / (len(candidates) - number)):
                    connection = await self._open(endpoint)
                    return Stream(endpoint, await _send(connection, request), connection, sent)
            except BROKEN as error:
                if connection is not None:
                    connection.close()
                    sent = True
                told = await self._told(endpoint, error, deadline, connected=connection is not None)
                failures.append(f"{endpoint}: {told}")
                refused = refused or isinstance(error, ssl.SSLError)
                self.demote(endpoint)
            except BaseException:
                if connection is not None:
                    connection.close()
                raise
        text = "; ".join(failures)
        raise StoreRefused(text) if refused else StoreUnavailable(f"store unreachable: {text}")

    async def _open(self, endpoint: Endpoint) -> Connection:
        return await Connection.open(endpoint, self._tls.context() if endpoint.scheme == "https" else None)

    async def _told(self, endpoint: Endpoint, error: BaseException, deadline: Deadline, *, connected: bool) -> str:
        """What a person needs to know of a fresh connection that failed."""
        if is_wrong_name(error):
            from flannel_multi.store.naming import name_fault

            try:  # the failed handshake does not show whose certificate it was: look again, for that alone
                async with deadline.part(0.5):
                    if text := await name_fault(endpoint, self._tls):
                        return text
            except (*BROKEN, FlannelError):
                pass
        return why(error, self._tls.words) + _hint(endpoint, error, self._tls.words, connected=connected)


async def _send(connection: Connection, request: Request) -> int:
    return await connection.send(request.path, request.body, request.headers, method=request.method)


def why(error: BaseException, words: Words = ETCD) -> str:
    """What a person needs to know of a failed connection."""
    match error:
        case ssl.SSLError():
            return explain_tls(error, words)
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionError():
            return "the connection broke"
        case OSError():
            return " ".join((error.strerror or str(error) or type(error).__name__).split())[:200]
        case h11.RemoteProtocolError() if "ConnectionClosed" in str(error):
            return "the connection was closed without an answer"
        case _:
            return f"no HTTP answer: {' '.join(str(error).split())[:200]}"


def _hint(endpoint: Endpoint, error: BaseException, words: Words, *, connected: bool) -> str:
    """What a fresh connection that was cut may mean: etcd closes one without a word when TLS meets plain text."""
    cut = isinstance(error, ConnectionError | h11.RemoteProtocolError) and not isinstance(error, ConnectionRefusedError)
    if cut and endpoint.scheme == "https" and not connected:
        return f" in the TLS handshake (if it does not speak TLS there, {words.plain})"
    if cut and endpoint.scheme == "http":
        return f" (if it speaks TLS there, {words.secure})"
    return ""
