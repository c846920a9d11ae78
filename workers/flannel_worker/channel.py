"""The worker's end of the socketpair to its supervisor, on the worker's loop."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from flannel_multi.model.messages import MAX_BYTES, Beat, Down, Facts, Said, Up, decode, encode

REPLACED = (Said, Beat, Facts)  # of these only the last one matters while the supervisor is busy; claims wait in line


class _Waiting(NamedTuple):
    message: Up
    fd: int | None  # a duplicate of our own: the caller may close his, or get another thing under its number


class Channel:
    """Sends without waiting, hands every message down to `heard`, and calls `orphaned` at the end of file."""

    def __init__(self, sock: socket.socket, *, heard: Callable[[Down], None], orphaned: Callable[[], None]) -> None:
        self._sock = sock
        self._heard = heard
        self._orphaned = orphaned
        self._outbox: list[_Waiting] = []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, message: Up, fd: int | None = None) -> None:
        """`fd` travels with the message and stays the caller's. Raises OSError when it is no open descriptor or there
        is room for none more; nothing is sent then."""
        if isinstance(message, REPLACED):
            self._outbox = [waiting for waiting in self._outbox if type(waiting.message) is not type(message)]
        self._outbox.append(_Waiting(message, None if fd is None else os.dup(fd)))
        self._flush()

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._clear()

    def _flush(self) -> None:
        while self._outbox:
            try:
                self._deliver(self._outbox[0])
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError:
                self._clear()  # the supervisor is gone; the end of file says so to the reader
                break
            _close(self._outbox.pop(0))
        self._loop.remove_writer(self._sock.fileno())

    def _deliver(self, waiting: _Waiting) -> None:
        """Wholly or not at all: a datagram and its descriptor are one."""
        if waiting.fd is None:
            self._sock.send(encode(waiting.message))
        else:  # not socket.send_fds: it imports array
            rights = struct.pack("i", waiting.fd)
            self._sock.sendmsg([encode(waiting.message)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def _clear(self) -> None:
        for waiting in self._outbox:
            _close(waiting)
        self._outbox.clear()

    def _read(self) -> None:
        try:
            datagram = self._sock.recv(MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            datagram = b""
        if not datagram:
            self._loop.remove_reader(self._sock.fileno())
            self._orphaned()
            return
        self._heard(decode(datagram))  # type: ignore[arg-type]  # the parent is of this very code: Down only


def _close(waiting: _Waiting) -> None:
    if waiting.fd is not None:
        os.close(waiting.fd)
