"""One client's connection: requests one at a time, each to a task of the handler, and its answer back.

Callbacks of the event loop on a bare socket, plain or TLS. asyncio's own transports would do for the first, but copy
what a slow client has not taken yet, and keep 256 KiB for each TLS client (asyncio.sslproto, CPython 3.11): two
thousand clients would then be half a gigabyte. Here an answer's body is never copied, however many are sent it.

Two rules hold. Reading stops as soon as there is input that cannot be looked at yet, so a client costs one read of
memory at most; and a connection that is not read from is watched by `Departures`, so it is never forgotten.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import traceback
from collections import deque
from dataclasses import dataclass, field

from flannel_multi import log
from flannel_multi.server.exchange import Handler, Peer, Request, Response
from flannel_multi.server.http.departures import Departures
from flannel_multi.server.http.ends import Lingering, reset, say_farewell
from flannel_multi.server.http.heads import CONTINUE, INTERNAL_ERROR, PROCESSING, head, text_answer
from flannel_multi.server.http.limits import Limits
from flannel_multi.server.http.reading import Fault, RequestReader, Whole
from flannel_multi.server.http.waits import Wait, Waiting, Waits

READ_BYTES = 16 << 10  # one TLS record: a shorter read would leave bytes in OpenSSL, of which no event tells
PIECE_BYTES, TLS_PIECE_BYTES = 64 << 10, 16 << 10  # OpenSSL keeps a piece that it could not send
TURN_BYTES = 256 << 10  # written to one client before others have their turn
JOINED_BYTES = 16 << 10  # a body up to this goes out in one write with its head
LONGEST_PATH = 200  # characters of a path in the log


@dataclass
class Service:
    """What all connections of a server share."""

    loop: asyncio.AbstractEventLoop
    handler: Handler
    limits: Limits
    waits: Waits
    departures: Departures
    open: set[Waiting] = field(default_factory=set)


class Connection:
    """Lives until the client or a bound ends it. `busy`: from the end of a request to the end of its answer."""

    __slots__ = (
        "_backlog", "_busy", "_closed", "_closing", "_fd", "_final", "_modern", "_out", "_peer", "_piece",
        "_reader", "_reading", "_service", "_sock", "_task", "_tls", "_writing", "wait",
    )  # fmt: skip

    def __init__(self, service: Service, sock: socket.socket, peer: Peer) -> None:
        self._service, self._sock, self._peer = service, sock, peer
        self._fd = sock.fileno()
        self.wait: Wait | None = None
        self._reader: RequestReader | None = None
        self._task: asyncio.Task[None] | None = None
        self._backlog = b""  # input after the request that is being served
        self._out: deque[memoryview] = deque()
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._piece = TLS_PIECE_BYTES if self._tls else PIECE_BYTES
        self._busy = self._final = self._modern = self._writing = self._closed = False
        self._closing = False  # once the answer is written
        self._reading = True
        service.open.add(self)
        service.waits.enter(self, Wait.HEAD)
        service.loop.add_reader(self._fd, self._readable)

    def refuse(self, status: int, text: str) -> None:
        """Answers with an error in place of what was asked, and ends."""
        log.debug(f"{self._peer.address}: {status} {text}")
        self._reader = None
        self._closing = True
        answer = text_answer(status, text)
        self._answer(head(answer, time.time(), close=True), answer.body)

    def expired(self, kind: Wait) -> None:
        """A bound of time was passed."""
        if kind is Wait.PROBE:
            self._write(PROCESSING)  # a kernel whose process has closed answers this with a reset
        elif kind is Wait.READER:
            reset(self._sock)
            self.close()
        elif kind is Wait.BODY or (kind is Wait.HEAD and self._reader is not None):
            self.refuse(408, "the request did not come in time")
        else:
            self.close()

    def gone(self) -> None:
        """The client will hear nothing more."""
        self.close()

    def half_closed(self) -> None:
        """The client sends no more. A whole close looks the same until something is sent to it: so after a while
        something is. HTTP/1.0 has no interim answers, and waits for the kernel's keepalive to tell."""
        if self._tls:
            self._input_ended()
        elif self._task is not None and self._modern:
            self._service.waits.enter(self, Wait.PROBE)

    def close(self) -> None:
        """Ends the connection, and the handler if it is at work."""
        if self._closed:
            return
        self._let_go_of_socket()
        self._sock.close()
        if self._task is not None:
            self._task.cancel()

    def _let_go_of_socket(self) -> None:
        self._closed = True
        self._service.waits.enter(self, None)
        if self._reading:
            self._service.loop.remove_reader(self._fd)
        else:
            self._service.departures.forget(self._fd)
        if self._writing:
            self._service.loop.remove_writer(self._fd)
        self._out.clear()
        self._service.open.discard(self)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return
        except OSError:  # also SSLWantWriteError: a client that makes TLS answer, and does not read
            self.gone()
            return
        if not data:
            self._input_ended()
        elif self._busy:
            self._backlog = data
            self._stop_reading(ended=False)
        else:
            self._take(data)

    def _input_ended(self) -> None:
        """With TLS that is the end of all: clients that shut one side of it are not known, and those that close it
        wait for us to do so too (RFC 5246 §7.2.1)."""
        if self._tls or not self._busy:
            say_farewell(self._sock)
            self.close()
        else:
            self._stop_reading(ended=True)
            self.half_closed()

    def _take(self, data: bytes) -> None:
        """Input while no request is at work."""
        reader = self._reader
        if reader is None:
            data = data.lstrip(b"\r\n")  # RFC 9112 §2.2: some send an end of line too many
            if not data:
                return
            reader = self._reader = RequestReader(self._service.limits)
        try:
            whole = reader.feed(data)
        except Fault as fault:
            self.refuse(fault.status, fault.text)
            return
        if whole is None:
            kind = Wait.BODY if reader.in_body else Wait.HEAD
            if self.wait is not kind:  # time runs from the first byte, not from the last
                self._service.waits.enter(self, kind)
            if reader.wants_continue():
                self._write(CONTINUE)
            return
        self._reader = None
        self._begin(whole)

    def _begin(self, whole: Whole) -> None:
        self._service.waits.enter(self, None)
        self._busy = True
        self._backlog, self._modern = whole.rest, whole.modern
        if whole.rest:
            self._stop_reading(ended=False)
        if not whole.keep_alive:
            self._closing = True
        request = Request(whole.method, whole.path, whole.query, whole.body, self._peer)
        self._task = self._service.loop.create_task(self._serve(request))

    async def _serve(self, request: Request) -> None:
        close = self._closing
        try:
            answer = await self._service.handler(request)
            first = head(answer, time.time(), close=close)
        except asyncio.CancelledError:
            if self._closed:
                log.debug(f"{request.method} {request.path[:LONGEST_PATH]} - client gone")
                raise
            answer = INTERNAL_ERROR  # something within the handler was cancelled, which is no reason to hang
            first = head(answer, time.time(), close=close)
        except Exception as error:  # noqa: BLE001  an edge: the client is told, the log says what, others are served
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error(
                f"{request.method} {request.path[:LONGEST_PATH]}: internal error: {type(error).__name__}: {error} "
                f"({where.filename.rpartition('/')[2]} line {where.lineno}); please report it"
            )
            answer = INTERNAL_ERROR
            first = head(answer, time.time(), close=close)
        self._task = None
        _say(request, answer)
        if not self._closed:
            self._answer(first, b"" if request.method == "HEAD" else answer.body)

    def _answer(self, first: bytes, body: bytes) -> None:
        self._busy = self._final = True
        self._service.waits.enter(self, None)
        if len(body) <= JOINED_BYTES:
            self._write(first + body)
        else:
            self._write(first, body)

    def _write(self, *parts: bytes) -> None:
        self._out.extend(map(memoryview, parts))
        if not self._writing:
            self._flush()

    def _flush(self) -> None:
        """Writes what the kernel takes now, and waits for room for the rest."""
        out, turn = self._out, TURN_BYTES
        try:
            while out and turn > 0:
                sent = self._sock.send(out[0][: self._piece])
                turn -= sent
                if sent == len(out[0]):
                    out.popleft()
                else:
                    out[0] = out[0][sent:]
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.gone()
            return
        if out:
            self._wait_for_reader(moved=turn < TURN_BYTES)
            return
        if self._writing:
            self._writing = False
            self._service.loop.remove_writer(self._fd)
        if self._final:
            self._done()
        elif self.wait is Wait.READER:  # an interim answer it was
            self._service.waits.enter(self, Wait.BODY if self._reader else None)

    def _wait_for_reader(self, *, moved: bool) -> None:
        """A reader by the byte does not come far: the kernel has room again when a third of its buffer is free."""
        if not self._writing:
            self._writing = True
            self._service.loop.add_writer(self._fd, self._flush)
        if moved or self.wait is not Wait.READER:
            self._service.waits.enter(self, Wait.READER)

    def _done(self) -> None:
        """An answer is out."""
        self._final = False
        if self._closing:
            self._let_go_of_socket()
            Lingering(self._service, self._sock)
        else:
            self._busy = False
            self._service.waits.enter(self, Wait.IDLE)
            if self._backlog:
                data, self._backlog = self._backlog, b""
                self._take(data)
            if not self._backlog and not self._closed:
                self._read_on()

    def _stop_reading(self, *, ended: bool) -> None:
        if self._reading:
            self._reading = False
            self._service.loop.remove_reader(self._fd)
            self._service.departures.watch(self._fd, self, ended=ended)

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self._service.departures.forget(self._fd)
            self._service.loop.add_reader(self._fd, self._readable)


def _say(request: Request, answer: Response) -> None:
    line = f"{request.method} {request.path[:LONGEST_PATH]} - {answer.status}"
    if request.method == "GET" and answer.status < 400:
        log.debug(line)
    else:
        log.info(line)
