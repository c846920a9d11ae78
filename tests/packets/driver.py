"""The pure packet code, asked from Python: driver.c at the other end of a pipe."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.packets.vnet import VNET_BYTES, Vnet


class Delivery(NamedTuple):
    """One write to the TUN."""

    offload: Vnet
    content: bytes
    packets: int  # on the wire
    bytes: int  # of them


class Row(NamedTuple):
    """A peer: `base`/`length` lies behind `address`."""

    base: int
    length: int
    address: int


class Driver:
    """A context manager. A report of the sanitizer ends the program, and with it the test, not those after it."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self._program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *error: object) -> None:
        _, said = self._process.communicate(timeout=10)
        assert self._process.returncode == 0, said.decode()

    def segments(self, offload: Vnet, packet: bytes) -> list[bytes] | None:
        """The packets that a super-packet is taken apart into; None when it cannot be one."""
        answer = self._ask(b"s", offload.pack() + packet)
        return list(_counted(answer[4:])) if _number(answer) else None

    def completed(self, offload: Vnet, packet: bytes) -> bytes | None:
        """The packet with the checksum that the kernel left to us; None when what it names lies outside."""
        answer = self._ask(b"f", offload.pack() + packet)
        return answer[4:] if _number(answer) else None

    def coalesced(
        self, packets: Iterable[bytes], *, tcp: bool = True, udp: bool = True, mtu: int = 1472
    ) -> list[Delivery]:
        """What is written to the TUN when these packets come in one batch."""
        head = struct.pack("=BBI", tcp, udp, mtu)
        return list(_deliveries(self._ask(b"m", head + b"".join(_with_length(packet) for packet in packets))))

    def unreachable(self, source: int, packet: bytes) -> bytes:
        """The ICMP answer; empty when there is none."""
        return self._ask(b"u", struct.pack("=I", source) + packet)

    def checksum(self, data: bytes) -> int:
        """The folded sum, not inverted."""
        return _number(self._ask(b"c", data))

    def replace(self, rows: Iterable[Row]) -> int | None:
        """How many rows the new table has; None when it was refused."""
        taken, count = struct.unpack("=II", self._ask(b"t", b"".join(struct.pack("=III", *row) for row in rows)))
        return count if taken else None

    def find(self, address: int) -> tuple[Row, int] | None:
        """The peer that has `address`, and how often it was found since its row was made."""
        answer = self._ask(b"l", struct.pack("=I", address))
        if not answer:
            return None
        *row, times = struct.unpack("=IIII", answer)
        return Row(*row), times

    def _ask(self, what: bytes, data: bytes) -> bytes:
        ask, answer = self._process.stdin, self._process.stdout
        assert ask is not None
        assert answer is not None
        ask.write(_with_length(what + data))
        ask.flush()
        length = answer.read(4)
        if len(length) < 4:
            died, self._process = self._process, self._started()
            raise AssertionError(f"the packet code died: {died.communicate()[1].decode()}")
        return answer.read(_number(length))


def _number(data: bytes) -> int:
    return int(struct.unpack_from("=I", data)[0])


def _with_length(data: bytes) -> bytes:
    return struct.pack("=I", len(data)) + data


def _counted(data: bytes) -> Iterable[bytes]:
    while data:
        length = _number(data)
        yield data[4 : 4 + length]
        data = data[4 + length :]


def _deliveries(data: bytes) -> Iterable[Delivery]:
    while data:
        packets, size = struct.unpack_from("=II", data)
        offload = Vnet.unpack(data[8 : 8 + VNET_BYTES])
        at = 8 + VNET_BYTES
        length = _number(data[at : at + 4])
        yield Delivery(offload, data[at + 4 : at + 4 + length], packets, size)
        data = data[at + 4 + length :]
