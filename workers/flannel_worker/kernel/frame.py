"""Netlink's frame: messages in datagrams, attributes in messages (man 7 netlink).

Numbers are in host byte order, addresses and ports in network order. Readers never raise: what is cut off or
misshapen is left out, for the kernel may one day say more than we know.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from flannel_worker.kernel import uapi as k

Buffer = bytes | bytearray | memoryview

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
U16_U16 = struct.Struct("=HH")
U32 = struct.Struct("=I")

# What bodies begin with, before the attributes.
IFINFOMSG = struct.Struct("=BxHiII")  # family, hardware type, index, flags, which of them change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=8BI")  # family, two lengths, tos, table, protocol, scope, type; flags
NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
NHMSG = struct.Struct("=BBBBI")  # family, scope, protocol, reserved; flags


class Message(NamedTuple):
    """One message inside a datagram: the body lies at `start` to `end`."""

    kind: int
    flags: int
    sequence: int
    port: int
    start: int
    end: int


def messages(data: Buffer) -> Iterator[Message]:
    """The messages of a datagram; stops at the first that is cut off."""
    position, size = 0, len(data)
    while position + 16 <= size:
        length, kind, flags, sequence, port = HEADER.unpack_from(data, position)
        if length < 16 or position + length > size:
            return
        yield Message(kind, flags, sequence, port, position + 16, position + length)
        position += (length + 3) & ~3


def attributes(data: Buffer, start: int, end: int) -> dict[int, bytes]:
    """The attributes between `start` and `end`, without their flag bits; the last of a kind wins."""
    found = {}
    while start + 4 <= end:
        length, kind = U16_U16.unpack_from(data, start)
        if length < 4 or start + length > end:
            break
        found[kind & k.NLA_TYPE_MASK] = bytes(data[start + 4 : start + length])
        start += (length + 3) & ~3
    return found


def pick(data: Buffer, start: int, end: int, kinds: frozenset[int]) -> dict[int, bytes]:
    """As `attributes`, of these kinds alone: a link has forty, of which eight matter, and none is small."""
    found = {}
    unpack, mask = U16_U16.unpack_from, k.NLA_TYPE_MASK
    while start + 4 <= end:
        length, kind = unpack(data, start)
        if length < 4 or start + length > end:
            break
        if kind & mask in kinds:
            found[kind & mask] = bytes(data[start + 4 : start + length])
        start += (length + 3) & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return U16_U16.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    return HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body


def u32(value: bytes | None) -> int:
    """A number in host order, 0 when absent or of another size."""
    return int(U32.unpack(value)[0]) if value is not None and len(value) == 4 else 0


def net32(value: bytes | None) -> int:
    """An IPv4 address, 0 when absent or of another size."""
    return int.from_bytes(value, "big") if value is not None and len(value) == 4 else 0
