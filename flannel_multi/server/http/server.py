"""An HTTP/1.1 server on listening sockets: who comes in, and who must go when the house is full."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Iterable
from typing import Any

from flannel_multi import log
from flannel_multi.server.exchange import Handler, Peer
from flannel_multi.server.http.connection import Connection, Service
from flannel_multi.server.http.departures import Departures
from flannel_multi.server.http.greeting import Greeting
from flannel_multi.server.http.limits import Limits
from flannel_multi.server.http.tls import ServerTls
from flannel_multi.server.http.waits import Wait, Waits

ACCEPTED_AT_ONCE = 64  # then those who are connected have their turn
TOLD_EVERY_S = 60.0
NO_ROOM_PAUSE_S = 0.1  # descriptors of other parts of the process come free without an event
KEEPALIVE_IDLE_S, KEEPALIVE_EVERY_S, KEEPALIVE_COUNT = 30, 10, 3  # long polls are silent: a dead host is noticed so
UNSENT_BYTES = 64 << 10  # kept by the kernel for each slow client; its own choice would be megabytes
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class HttpServer:
    """Serves `handler` from `start` to `close`, on the loop that runs `start`."""

    def __init__(self, handler: Handler, limits: Limits | None = None, tls: ServerTls | None = None) -> None:
        self._handler, self._limits, self._tls = handler, limits or Limits(), tls
        self._listeners: list[socket.socket] = []
        self._service: Service | None = None
        self._allowed = 0
        self._told_at_s: dict[str, float] = {}
        self._resume: asyncio.TimerHandle | None = None

    def start(self, sockets: Iterable[socket.socket]) -> None:
        """Listens on `sockets`, which are the server's own from now on."""
        loop = asyncio.get_running_loop()
        self._allowed = self._limits.allowed_connections()
        waits, departures = Waits(loop, self._limits), Departures(loop)
        self._service = Service(loop, self._handler, self._limits, waits, departures)
        for listener in sockets:
            listener.setblocking(False)
            _prepare(listener)
            self._listeners.append(listener)
            loop.add_reader(listener.fileno(), self._accept, listener)

    @property
    def connections(self) -> int:
        """How many there are now."""
        return _counted(self._service) if self._service else 0

    def close(self) -> None:
        """Listens no more, and cuts every connection, whatever it waits for."""
        service, self._service = self._service, None
        if service is None:
            return
        if self._resume is not None:
            self._resume.cancel()
        for listener in self._listeners:
            service.loop.remove_reader(listener.fileno())
            listener.close()
        for one in list(service.open):
            one.close()
        service.waits.close()
        service.departures.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, address = listener.accept()
            except OSError as error:  # anything but a lack of room is about the one that has just gone: accept(2)
                if error.errno in _NO_ROOM:
                    self._make_room(error)
                return
            sock.setblocking(False)
            self._welcome(sock, _peer(listener, address))

    def _welcome(self, sock: socket.socket, peer: Peer) -> None:
        service = self._service
        assert service is not None  # a closed server accepts nobody
        turned_away = False
        if _counted(service) >= self._allowed:
            if oldest := service.waits.oldest_without_request():
                self._tell_full(f"{self._allowed} connections, the limit: those without a request are cut for new ones")
                oldest.close()
            else:
                self._tell_full(
                    f"{self._allowed} connections, the limit, all waiting for an answer or just come: new ones get 503"
                )
                turned_away = True
        if turned_away and self._tls is not None:
            sock.close()
        elif turned_away:
            Connection(service, sock, peer).refuse(503, "too many connections; try again later, or another server")
        elif self._tls is not None and not peer.local:
            Greeting(service, sock, peer, self._tls)
        else:
            Connection(service, sock, peer)

    def _make_room(self, error: OSError) -> None:
        """The connection that cannot be accepted stays in the queue, and the listener readable: without a change here
        the loop would turn at full speed."""
        service = self._service
        assert service is not None
        self._tell_full(f"cannot accept a connection: {error.strerror}; see LimitNOFILE")
        if oldest := service.waits.oldest_without_request():
            oldest.close()
        elif self._resume is None:
            for listener in self._listeners:
                service.loop.remove_reader(listener.fileno())
            self._resume = service.loop.call_later(NO_ROOM_PAUSE_S, self._listen_again)

    def _listen_again(self) -> None:
        self._resume = None
        if self._service is not None:
            for listener in self._listeners:
                self._service.loop.add_reader(listener.fileno(), self._accept, listener)

    def _tell_full(self, text: str) -> None:
        """Once in a while, however many come."""
        now_s = time.monotonic()
        if now_s - self._told_at_s.get(text, -TOLD_EVERY_S) >= TOLD_EVERY_S:
            self._told_at_s[text] = now_s
            log.warning(text)


def _counted(service: Service) -> int:
    """Those that have been told to go take no room from others."""
    return len(service.open) - service.waits.count(Wait.LINGER)


def _prepare(listener: socket.socket) -> None:
    """Options that accepted sockets inherit (Linux), at one system call for all of them."""
    if listener.family == socket.AF_UNIX:
        return
    tcp = socket.IPPROTO_TCP
    listener.setsockopt(tcp, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(tcp, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    listener.setsockopt(tcp, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S)
    listener.setsockopt(tcp, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    unheard_ms = 1000 * (KEEPALIVE_IDLE_S + KEEPALIVE_EVERY_S * KEEPALIVE_COUNT)
    listener.setsockopt(tcp, socket.TCP_USER_TIMEOUT, unheard_ms)  # what was sent and is not acknowledged
    listener.setsockopt(tcp, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _peer(listener: socket.socket, address: Any) -> Peer:
    if listener.family == socket.AF_UNIX:
        return Peer("unix", local=True)
    host, port = str(address[0]).removeprefix("::ffff:"), address[1]
    return Peer(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
