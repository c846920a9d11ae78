"""The worker's end of the socketpair to its supervisor, on the worker's loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from flannel_multi.model.messages import MAX_BYTES, Beat, Down, Facts, Said, Up, decode, encode

REPLACED = (Said, Beat, Facts)  # of these only the last one matters while the supervisor is busy; claims wait in line


class Channel:
    """Sends without waiting, hands every message down to `heard`, and calls `orphaned` at the end of file."""

    def __init__(self, sock: socket.socket, *, heard: Callable[[Down], None], orphaned: Callable[[], None]) -> None:
        self._sock = sock
        self._heard = heard
        self._orphaned = orphaned
        self._outbox: list[Up] = []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, message: Up) -> None:
        if isinstance(message, REPLACED):
            self._outbox = [waiting for waiting in self._outbox if type(waiting) is not type(message)]
        self._outbox.append(message)
        self._flush()

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())

    def _flush(self) -> None:
        while self._outbox:
            try:
                self._sock.send(encode(self._outbox[0]))
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError:
                self._outbox.clear()  # the supervisor is gone; the end of file says so to the reader
                break
            del self._outbox[0]
        self._loop.remove_writer(self._sock.fileno())

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
