"""The netlink socket that asks and orders. rtnetlink answers within the send, so nothing here waits.

Three traps of dumps: the end may come in the same datagram as the last entries; a dump not read to its end makes
the next one EBUSY; and a dump during which the table changed says so by a flag and must be taken again.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import socket
import struct
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple, TypeVar

from flannel_multi.model.errors import KernelRefused
from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.frame import HEADER, Buffer, Message, attributes, message, messages

BATCH_BYTES = 16 * 1024  # a send; with plain routes the loop, and RTNL for everyone, stands still for 70 ms so
ANSWER_S = 5.0  # answers are there when a send returns; this bounds what we do not know of
DUMP_TRIES = 5  # of a table that changes under the dump; later events tell the rest
RECEIVE_BYTES = 64 * 1024  # the kernel fills at most 32 KB
_BUFFER_BYTES = 4 * 1024 * 1024  # error replies of a whole batch, at 1 KB each
_NETLINK_ROUTE = 0
_T = TypeVar("_T")


class _End(Enum):
    WHOLE = "whole"
    TORN = "torn"


class Refusal(NamedTuple):
    """The kernel's no: a positive errno, and its own words if it had any (NLMSGERR_ATTR_MSG)."""

    errno: int
    words: str


class Requests:
    """Orders and questions, in the network namespace in which it was opened.

    Every method that speaks raises KernelRefused when the socket itself fails: no answer, or answers lost because they
    found no room (ENOBUFS). It is fit for the next question then, and late answers are not taken for its own.
    """

    def __init__(self, *, answer_s: float = ANSWER_S, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._sequence = 0
        self._buffer = receive_buffer()
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(answer_s))
            for option in (k.NETLINK_CAP_ACK, k.NETLINK_EXT_ACK, k.NETLINK_GET_STRICT_CHK):
                self._socket.setsockopt(k.SOL_NETLINK, option, 1)
            grow_receive_buffer(self._socket, buffer_bytes)
        except BaseException:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[0]

    def close(self) -> None:
        self._socket.close()

    def order(self, kind: int, body: bytes, flags: int = 0) -> Refusal | None:
        """One change, and what the kernel said against it. Raises KernelRefused when it gets no answer."""
        self._sequence += 1
        self._transmit(message(kind, k.NLM_F_REQUEST | k.NLM_F_ACK | flags, body, self._sequence))
        return self._refusals(self._sequence).get(self._sequence)

    def get(self, kind: int, body: bytes) -> tuple[memoryview, Message] | Refusal:
        """The one message that answers a question; valid until the next request. Raises KernelRefused if none comes."""
        self._sequence += 1
        self._transmit(message(kind, k.NLM_F_REQUEST, body, self._sequence))
        while True:
            data = self._receive()
            for answer in messages(data):
                if answer.sequence != self._sequence:
                    continue
                return _refusal(data, answer) if answer.kind == k.NLMSG_ERROR else (data, answer)

    async def apply(self, texts: Iterable[Callable[[int], bytes]], after: Callable[[], None]) -> dict[int, Refusal]:
        """Sends messages in batches and calls `after` behind each; yields to the loop in between.

        `texts` give a message for a sequence number. Answers what was refused, by place in `texts`. Only the last
        message of a batch asks for an acknowledgement: the others speak up if they fail. Raises KernelRefused when it
        cannot say what was refused.
        """
        first = self._sequence + 1
        refused: dict[int, Refusal] = {}
        batch = bytearray()
        last = 0
        for text in texts:
            piece = text(self._sequence + 1)
            if len(batch) + len(piece) > BATCH_BYTES:
                refused |= self._send(batch, last)
                after()
                await asyncio.sleep(0)
                batch.clear()
            self._sequence += 1
            last = len(batch)
            batch += piece
        if batch:
            refused |= self._send(batch, last)
            after()
        return {sequence - first: refusal for sequence, refusal in refused.items() if sequence >= first}

    def _send(self, batch: bytearray, last: int) -> dict[int, Refusal]:
        (flags,) = struct.unpack_from("=H", batch, last + 6)
        struct.pack_into("=H", batch, last + 6, flags | k.NLM_F_ACK)
        self._transmit(batch)
        return self._refusals(self._sequence)

    def _refusals(self, last: int) -> dict[int, Refusal]:
        """Reads answers up to that of number `last`."""
        refused = {}
        while True:
            data = self._receive()
            for answer in messages(data):
                if answer.kind != k.NLMSG_ERROR:
                    continue
                refusal = _refusal(data, answer)
                if refusal.errno:
                    refused[answer.sequence] = refusal
                if answer.sequence == last:
                    return refused

    def dump(self, kind: int, body: bytes, read: Callable[[memoryview], list[_T]]) -> list[_T] | Refusal:
        """All entries of a dump, as `read` understands each datagram. Raises KernelRefused when it does not end."""
        found: list[_T] = []
        for _ in range(DUMP_TRIES):
            found.clear()
            end = self._dump(kind, body, lambda data: found.extend(read(data)))
            if end is _End.WHOLE or isinstance(end, Refusal):
                return end if isinstance(end, Refusal) else found
        return found

    def _dump(self, kind: int, body: bytes, take: Callable[[memoryview], None]) -> _End | Refusal:
        self._sequence += 1
        self._transmit(message(kind, k.NLM_F_REQUEST | k.NLM_F_DUMP, body, self._sequence))
        torn = False
        while True:
            data = self._receive()
            if len(data) < 16 or HEADER.unpack_from(data)[3] != self._sequence:
                continue
            end = end_mark(data)
            torn = torn or bool(HEADER.unpack_from(data)[2] & k.NLM_F_DUMP_INTR)
            if end is None:
                take(data)
                continue
            if end.kind == k.NLMSG_ERROR:
                return _refusal(data, end)
            take(data[: end.start - 16])
            status = struct.unpack_from("=i", data, end.start)[0] if end.end - end.start >= 4 else 0
            if status < 0:
                return Refusal(-status, _words(data, end.start + 4, end.end))
            torn = torn or bool(end.flags & k.NLM_F_DUMP_INTR)
            return _End.TORN if torn else _End.WHOLE

    def _transmit(self, text: bytes | bytearray) -> None:
        try:
            self._socket.send(text)
        except OSError as error:
            raise _failed(error) from error

    def _receive(self) -> memoryview:
        """One datagram. Raises KernelRefused."""
        try:
            return self._buffer[: self._socket.recv_into(self._buffer)]
        except BlockingIOError:
            raise KernelRefused("netlink gave no answer in time; tried again later", errno.ETIMEDOUT) from None
        except OSError as error:
            self._discard()
            raise _failed(error) from error

    def _discard(self) -> None:
        """Takes what is queued: until then the kernel leaves out every further answer (a congested socket)."""
        while True:
            try:
                self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return


def _failed(error: OSError) -> KernelRefused:
    code = error.errno or 0
    return KernelRefused(f"netlink failed: {errno.errorcode.get(code, code)}; tried again later", code)


def _timeval(seconds: float) -> bytes:
    """A struct timeval, for socket options."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))


def end_mark(data: Buffer) -> Message | None:
    """The message that ends a dump, if this datagram holds it. Rows of one length cannot hide one: it is the last."""
    size, (first, kind, *_) = len(data), HEADER.unpack_from(data)
    rows = kind not in (k.NLMSG_DONE, k.NLMSG_ERROR) and first >= 16 and size % first == 0
    if rows and HEADER.unpack_from(data, size - first)[:2] == (first, kind):
        return None
    return next((m for m in messages(data) if m.kind in (k.NLMSG_DONE, k.NLMSG_ERROR)), None)


def _refusal(data: Buffer, answer: Message) -> Refusal:
    """Errno 0: an acknowledgement."""
    if answer.end - answer.start < 20:
        return Refusal(errno.EBADMSG, "")
    (code,) = struct.unpack_from("=i", data, answer.start)
    words = ""
    if answer.flags & k.NLM_F_ACK_TLVS:
        quoted = 16 if answer.flags & k.NLM_F_CAPPED else HEADER.unpack_from(data, answer.start + 4)[0]
        words = _words(data, answer.start + 4 + ((quoted + 3) & ~3), answer.end)
    return Refusal(-code, words)


def _words(data: Buffer, start: int, end: int) -> str:
    text = attributes(data, start, end).get(k.NLMSGERR_ATTR_MSG, b"")
    return text.rstrip(b"\0").decode("utf-8", "backslashreplace")


def receive_buffer() -> memoryview:
    """Room for one datagram, on pages that cost memory only once the kernel has filled them."""
    return memoryview(mmap.mmap(-1, RECEIVE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def grow_receive_buffer(sock: socket.socket, size: int) -> None:
    """Beyond net.core.rmem_max where we may (CAP_NET_ADMIN), else up to it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, k.SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
