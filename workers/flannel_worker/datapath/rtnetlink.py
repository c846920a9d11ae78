"""The few netlink requests of the bpf path (linux/rtnetlink.h): orders and dumps, each on a socket of its own.

What a program hangs on can so be seen and taken away without libbpf, which only loading and attaching needs.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

CREATE = 0x600  # NLM_F_CREATE | NLM_F_EXCL
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_HEAD = struct.Struct("=IHHII")  # struct nlmsghdr
_ROOM = 1 << 16


def order(kind: int, body: bytes, what: str, *, flags: int = 0) -> None:
    """Has something done. Raises OSError: `what` was refused."""
    with _opened() as sock:
        sock.send(_HEAD.pack(_HEAD.size + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body)
        _raise_refusal(sock.recv(_ROOM)[_HEAD.size :], what)


def dump(kind: int, body: bytes, what: str) -> list[bytes]:
    """The bodies of all entries. Raises OSError."""
    found: list[bytes] = []
    with _opened() as sock:
        sock.send(_HEAD.pack(_HEAD.size + len(body), kind, _REQUEST | _DUMP, 1, 0) + body)
        while True:
            for answer, entry in _messages(sock.recv(_ROOM)):
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    _raise_refusal(entry, what)
                found.append(entry)


def attr(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attrs(data: bytes) -> dict[int, bytes]:
    """Attributes by kind; a broken one ends them."""
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _opened() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEAD.size <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < _HEAD.size:
            return
        yield kind, data[at + _HEAD.size : at + length]
        at += (length + 3) & ~3


def _raise_refusal(body: bytes, what: str) -> None:
    code = -struct.unpack_from("=i", body)[0]
    if code:
        raise OSError(code, f"{what} refused: {errno.errorcode.get(code, code)}; {os.strerror(code)}")
