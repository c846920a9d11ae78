"""A connection before its TLS stands: the first byte tells whether the client speaks it at all."""

from __future__ import annotations

import socket
import ssl

from flannel_multi import log
from flannel_multi.server.exchange import Peer
from flannel_multi.server.http.connection import Connection, Service
from flannel_multi.server.http.ends import Lingering
from flannel_multi.server.http.heads import NOT_TLS
from flannel_multi.server.http.tls import ServerTls, explain_handshake, identity_of
from flannel_multi.server.http.waits import Wait


class Greeting:
    """Ends as a `Connection` when the handshake is done."""

    __slots__ = ("_closed", "_fd", "_peer", "_service", "_sock", "_tls", "_writing", "wait")

    def __init__(self, service: Service, sock: socket.socket, peer: Peer, tls: ServerTls) -> None:
        self._service, self._sock, self._peer, self._tls = service, sock, peer, tls
        self._fd = sock.fileno()
        self.wait: Wait | None = None
        self._writing = self._closed = False
        service.open.add(self)
        service.waits.enter(self, Wait.HANDSHAKE)
        service.loop.add_reader(self._fd, self._first_byte)

    def expired(self, kind: Wait) -> None:
        """The handshake took too long."""
        log.debug(f"{self._peer.address}: TLS handshake not done in {self._service.limits.handshake_s:g} s")
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        if not self._closed:
            self._leave()
            self._sock.close()

    def _leave(self) -> None:
        """The socket stays open, and is somebody else's from now on."""
        self._closed = True
        self._service.waits.enter(self, None)
        self._service.loop.remove_reader(self._fd)
        self._service.loop.remove_writer(self._fd)
        self._service.open.discard(self)

    def _first_byte(self) -> None:
        try:
            first = self._sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        if not first:
            self.close()
        elif first.isupper():  # a method of HTTP; a TLS record begins with 0x16
            self._answer_plain()
        else:
            self._wrap()

    def _answer_plain(self) -> None:
        log.debug(f"{self._peer.address}: HTTP sent to a TLS port")
        self._leave()
        try:
            self._sock.send(NOT_TLS)
        except OSError:
            self._sock.close()
            return
        Lingering(self._service, self._sock)

    def _wrap(self) -> None:
        try:
            self._sock = self._tls.context().wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError):  # the client is gone already
            self.close()
            return
        self._service.loop.add_reader(self._fd, self._step)
        self._step()

    def _step(self) -> None:
        assert isinstance(self._sock, ssl.SSLSocket)
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._watch_writing(False)
        except ssl.SSLWantWriteError:
            self._watch_writing(True)
        except (OSError, ValueError) as error:
            log.debug(f"{self._peer.address}: TLS handshake failed: {explain_handshake(error)}")
            self._leave()
            Lingering(self._service, self._sock)  # OpenSSL has sent an alert, which is to arrive
        else:
            certificate = self._sock.getpeercert()
            identity = identity_of(certificate) if certificate else None
            self._leave()
            Connection(self._service, self._sock, self._peer._replace(identity=identity))

    def _watch_writing(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._service.loop.add_writer(self._fd, self._step)
        elif self._writing and not wanted:
            self._service.loop.remove_writer(self._fd)
        self._writing = wanted
