"""The bytes under an HTTP connection: a socket, and TLS between it and the reader where that is spoken.

All that is asked of the loop is to watch a descriptor. asyncio's transports and streams would do too, but every
function of theirs that a worker runs copies pages that all workers share. No thread stays behind: an address given as
a literal is connected to as it is, a name is looked up in a thread that ends with the look-up.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

READ_BYTES = 65536
_T = TypeVar("_T")
KEEPALIVE_IDLE_S, KEEPALIVE_EVERY_S, KEEPALIVE_COUNT = 5, 1, 3  # a path that died in silence is noticed after 8 s


class Wire(Protocol):
    """A connected byte stream. One task reads and writes; another may abort it. Raises OSError."""

    async def read(self) -> bytes:
        """What has come in, waited for; b"" at the end."""

    async def write(self, data: bytes) -> None:
        """Returns once the kernel has (nearly) all of it."""

    def ended(self) -> bool:
        """True when the other side has closed."""

    def abort(self) -> None:
        """Closes at once. Whoever waits in `read` or `write` is woken."""


async def connect(address: str, port: int) -> Wire:
    """Plain TCP to a literal address. Raises OSError."""
    return await _connect_tcp(address, port)


async def connect_unix(path: str) -> Wire:
    """Raises OSError."""
    return await _connected(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)


async def connect_tls(address: str, port: int, context: ssl.SSLContext, server_name: str) -> Wire:
    """TLS to a literal address, the certificate checked for `server_name`. Raises OSError (TLS errors are such)."""
    plain = await _connect_tcp(address, port)
    try:
        secure = _Tls(plain, context, server_name)
        await secure.handshake()
    except BaseException:
        plain.abort()
        raise
    return secure


async def peer_certificate(address: str, port: int, context: ssl.SSLContext, server_name: str) -> dict[str, Any] | None:
    """The certificate that a server shows, as `ssl.SSLObject.getpeercert` tells it. Raises OSError."""
    plain = await _connect_tcp(address, port)
    try:
        secure = _Tls(plain, context, server_name)
        await secure.handshake()
        return secure.certificate()
    finally:
        plain.abort()


async def _connect_tcp(address: str, port: int) -> _Plain:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    plain = await _connected(sock, (address, port))
    _keep_alive(sock)
    return plain


async def _connected(sock: socket.socket, target: str | tuple[str, int]) -> _Plain:
    sock.setblocking(False)
    plain = _Plain(sock)
    try:
        try:
            sock.connect(target)
        except BlockingIOError:
            await plain.writable()
            if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number)) from None
    except BaseException:
        plain.abort()
        raise
    return plain


class _Plain:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        while True:
            try:
                return self._sock.recv(READ_BYTES)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                await self.writable()

    async def writable(self) -> None:
        await self._ready(self._loop.add_writer, self._loop.remove_writer)

    def ended(self) -> bool:
        try:
            return not self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def abort(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED)))
        fd = self._sock.fileno()
        if fd >= 0:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            self._sock.close()

    async def _ready(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        self._waiter = waiter = self._loop.create_future()
        add(self._sock.fileno(), _wake, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if (fd := self._sock.fileno()) >= 0:  # else aborted: the number may be another's by now
                remove(fd)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Tls:
    """TLS in memory, on a plain socket."""

    def __init__(self, plain: _Plain, context: ssl.SSLContext, server_name: str) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    async def handshake(self) -> None:
        try:
            await self._drive(self._tls.do_handshake)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):  # cut off, which is no word about certificates
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None

    def certificate(self) -> dict[str, Any] | None:
        return self._tls.getpeercert()

    async def read(self) -> bytes:
        try:
            return await self._drive(lambda: self._tls.read(READ_BYTES))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await self._drive(partial(self._tls.write, view)) :]

    def ended(self) -> bool:
        return self._plain.ended()

    def abort(self) -> None:
        self._plain.abort()

    async def _drive(self, step: Callable[[], _T]) -> _T:
        """Takes a step of the protocol, and carries bytes to and fro until it is done."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                pass
            finally:
                if self._outgoing.pending:  # also what we say of an error
                    await self._plain.write(self._outgoing.read())
            if data := await self._plain.read():
                self._incoming.write(data)
            else:
                self._incoming.write_eof()


async def addresses(host: str) -> list[str]:
    """`host` itself if it is a literal, else its addresses, looked up in a thread that ends with the look-up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [host]
    found: list[str] = []
    failures: list[OSError] = []
    ours, theirs = socket.socketpair()

    def look_up() -> None:
        try:
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except OSError as error:
            failures.append(error)
        except UnicodeError:
            failures.append(OSError(f"{host[:80]!r} is no host name"))
        finally:
            theirs.close()

    try:
        threading.Thread(target=look_up, daemon=True).start()
    except RuntimeError as error:  # no thread to be had: the limit of processes is reached
        ours.close()
        theirs.close()
        raise OSError(errno.EAGAIN, f"cannot look up {host}: {error}") from None
    ours.setblocking(False)
    ending = _Plain(ours)
    try:
        await ending.read()
    finally:
        ending.abort()
    if failures:
        raise failures[0]
    return list(dict.fromkeys(found))


def _keep_alive(sock: socket.socket) -> None:
    """The kernel asks whether the path still stands: a watch says nothing for hours, and a firewall forgets it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
