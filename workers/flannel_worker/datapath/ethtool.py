"""What a network device can do, and has switched on (linux/ethtool.h, by ioctl SIOCETHTOOL)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
from typing import NamedTuple

_SIOCETHTOOL, _SIOCGIFHWADDR = 0x8946, 0x8927
_GDRVINFO, _GSTRINGS, _GSSET_INFO, _GFEATURES = 0x03, 0x1B, 0x37, 0x3A
TSO, GRO = 0x1F, 0x2C  # ETHTOOL_STSO, ETHTOOL_SGRO
_FEATURES = 4  # ETH_SS_FEATURES
_ETHERNET = 1  # ARPHRD_ETHER
_NAME_SIZE = 32


class Device(NamedTuple):
    """`features` are those switched on, by the kernel's names (`ethtool -k` shows older ones for some)."""

    ethernet: bool
    driver: str
    features: frozenset[str]


def device(ifindex: int) -> Device:
    """Raises OSError: ENXIO when the device is gone."""
    name = socket.if_indextoname(ifindex).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, struct.pack("=16s24x", name))
        (kind,) = struct.unpack_from("=H", answer, 16)
        return Device(kind == _ETHERNET, _driver(sock, name), _features(sock, name))


def switch(ifindex: int, command: int, *, on: bool) -> None:
    """TSO or GRO of the device. Raises OSError."""
    name = socket.if_indextoname(ifindex).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        _ask(sock, name, struct.pack("=II", command, on))


def _driver(sock: socket.socket, name: bytes) -> str:
    try:
        answer = _ask(sock, name, struct.pack("=I192x", _GDRVINFO))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return ""
    return answer[4:36].rstrip(b"\0").decode("utf-8", "backslashreplace")


def _features(sock: socket.socket, name: bytes) -> frozenset[str]:
    count = struct.unpack_from("=I", _ask(sock, name, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _FEATURES, 0)), 16)[0]
    texts = _ask(sock, name, struct.pack(f"=III{count * _NAME_SIZE}x", _GSTRINGS, _FEATURES, count))[12:]
    blocks = (count + 31) // 32
    bits = _ask(sock, name, struct.pack(f"=II{blocks * 16}x", _GFEATURES, blocks))
    on = set()
    for number in range(count):
        # A block of 32 features: available, requested, active, never changed.
        (active,) = struct.unpack_from("=I", bits, 8 + number // 32 * 16 + 8)
        if active >> number % 32 & 1:
            text = texts[number * _NAME_SIZE : (number + 1) * _NAME_SIZE]
            on.add(text.split(b"\0", 1)[0].decode("ascii", "backslashreplace"))
    return frozenset(on)


def _ask(sock: socket.socket, name: bytes, question: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(question, len(question))
    fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("@16sP16x", name, ctypes.addressof(buffer)))
    return buffer.raw
