"""How connections end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import Protocol

from flannel_multi.server.http.waits import Wait, Waiting, Waits

DISCARDED_BYTES = 4 << 20  # of input after the last answer: a client that sends on has had its answer by then
LINGERERS = 100  # at once; they are not counted among the connections that a server may have
_READ_BYTES = 64 << 10
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER with zero seconds: a reset, and nothing stays in the kernel


class Around(Protocol):
    """What an ending needs of the server."""

    loop: asyncio.AbstractEventLoop
    waits: Waits
    open: set[Waiting]


def reset(sock: socket.socket) -> None:
    """Makes the close that follows give up what the kernel still has for the client."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    except OSError:  # it is dead already
        pass


class Lingering:
    """A connection that has had its last answer: our side is closed, the other is read and thrown away until it
    closes too (RFC 9112 §9.6). Closed at once, the kernel would answer more input by a reset, which eats the answer."""

    __slots__ = ("_around", "_discarded", "_sock", "wait")

    def __init__(self, around: Around, sock: socket.socket) -> None:
        self._around, self._sock, self._discarded = around, sock, 0
        self.wait: Wait | None = None
        say_farewell(sock)
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        if around.waits.count(Wait.LINGER) >= LINGERERS and (oldest := around.waits.oldest(Wait.LINGER)):
            oldest.close()
        around.open.add(self)
        around.waits.enter(self, Wait.LINGER)
        around.loop.add_reader(sock.fileno(), self._readable)

    def expired(self, kind: Wait) -> None:
        """It has had its time."""
        self.close()

    def close(self) -> None:
        """The end."""
        if self._sock.fileno() >= 0:
            self._around.waits.enter(self, None)
            self._around.loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._around.open.discard(self)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._discarded += len(data)
        if not data or self._discarded > DISCARDED_BYTES:
            self.close()


def say_farewell(sock: socket.socket) -> None:
    """TLS's own word for an end, where TLS is spoken; what comes after it is not waited for."""
    if isinstance(sock, ssl.SSLSocket):
        try:
            sock.unwrap()
        except (OSError, ValueError):  # SSLWantReadError: our half is sent
            pass
