"""Counts lost packets exactly: pings every target 100 times a second from inside a host.

Run as a program it reads lines from standard input, each one order:

    add NAME SOURCE TARGET    ping TARGET from SOURCE from now on
    stop                      stop sending, wait for late replies, print one JSON object, end

Each packet carries its own number, and the kernel stamps the replies, so that a late reader is no late reply. A
packet counts as received when its reply came within 1 s. `Pinger` is the other end, in the test.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.lab.world import Host, LabError

INTERVAL_NS = 10_000_000  # 100 a second
LATE_NS = 1_000_000_000  # a reply that took longer counts as lost
SOL_RAW, ICMP_FILTER = 255, 1  # linux/socket.h, linux/icmp.h: a bit for each type that is not wanted
ECHO_REPLY, ECHO_REQUEST = 0, 8
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
_PACKET = struct.Struct("!BBHHHQ")  # RFC 792 echo: type, code, checksum, id, sequence; data is our own number
_TIMESPEC = struct.Struct("=qq")
_IP_HEADER = 20  # raw sockets hand up the IP header too; nobody here sends options


class Count(NamedTuple):
    """What one target cost. `longest_gap_s` lies between the answered packets around the longest run of lost ones, 0
    when none was lost; `lost_at` are Unix times of the first lost packets."""

    sent: int
    lost: int
    longest_gap_s: float
    lost_at: tuple[float, ...]


@dataclass
class Probe:
    """One (source, target) pair: when each packet left and when its reply came, in ns since 1970, 0 for never."""

    sock: socket.socket
    ident: int
    sent_ns: list[int] = field(default_factory=list)
    back_ns: list[int] = field(default_factory=list)

    @classmethod
    def open(cls, source: str, target: str, ident: int) -> Probe:
        """Raises OSError when the source address is not on this host."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << ECHO_REPLY)))
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.setblocking(False)
        sock.bind((source, 0))
        sock.connect((target, 0))
        return cls(sock, ident)

    def send(self) -> None:
        """Sends the next packet. A kernel that refuses it has lost it."""
        number = len(self.sent_ns)
        self.sent_ns.append(time.time_ns())
        self.back_ns.append(0)
        try:
            self.sock.send(echo_request(self.ident, number))
        except OSError:
            pass  # no route: the packet never gets an answer, and is counted so

    def receive(self) -> None:
        """Takes every reply that is there."""
        while True:
            try:
                data, ancillary, _, _ = self.sock.recvmsg(2048, 64)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier packet, handed up by the connected socket
            if len(data) < _IP_HEADER + _PACKET.size:
                continue
            kind, _, _, ident, _, number = _PACKET.unpack_from(data, _IP_HEADER)
            if kind == ECHO_REPLY and ident == self.ident and number < len(self.back_ns):
                self.back_ns[number] = self.back_ns[number] or _stamp_ns(ancillary)

    def waiting(self, now_ns: int) -> bool:
        """True while an unanswered packet could still be answered in time."""
        recent = range(len(self.sent_ns) - 1, -1, -1)
        for number in recent:
            if now_ns - self.sent_ns[number] > LATE_NS:
                return False
            if not self.back_ns[number]:
                return True
        return False

    def count(self) -> Count:
        return count(self.sent_ns, self.back_ns)


def count(sent_ns: list[int], back_ns: list[int]) -> Count:
    """Sums up one probe: a reply that never came is 0 in `back_ns`."""
    lost: list[int] = []
    longest_ns, last_good_ns = 0, sent_ns[0] if sent_ns else 0
    run = False
    for left_ns, came_ns in zip(sent_ns, back_ns, strict=True):
        if came_ns and came_ns - left_ns <= LATE_NS:
            if run:
                longest_ns = max(longest_ns, left_ns - last_good_ns)
            last_good_ns, run = left_ns, False
        else:
            lost.append(left_ns)
            run = True
    if run:  # silent to the end
        longest_ns = max(longest_ns, sent_ns[-1] - last_good_ns)
    return Count(len(sent_ns), len(lost), longest_ns / 1e9, tuple(at / 1e9 for at in lost[:50]))


def echo_request(ident: int, number: int) -> bytes:
    """An ICMP echo request that carries `number`."""
    head = _PACKET.pack(ECHO_REQUEST, 0, 0, ident, number & 0xFFFF, number)
    return _PACKET.pack(ECHO_REQUEST, 0, checksum(head), ident, number & 0xFFFF, number)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _stamp_ns(ancillary: Iterable[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanos = _TIMESPEC.unpack(data[:16])
            return int(seconds) * 1_000_000_000 + int(nanos)
    return time.time_ns()


class _Program:
    """The loop inside the host: orders from standard input, packets by the clock."""

    def __init__(self) -> None:
        self.probes: dict[str, Probe] = {}
        self.poll = select.epoll()
        self.poll.register(0, select.EPOLLIN)
        self.by_fd: dict[int, Probe] = {}
        self.orders = b""
        self.running = True

    def run(self) -> None:
        next_ns = time.monotonic_ns()
        while self.running:
            self.turn(max(0, next_ns - time.monotonic_ns()) / 1e9)
            now_ns = time.monotonic_ns()
            if now_ns >= next_ns:
                for probe in self.probes.values():
                    probe.send()
                next_ns += INTERVAL_NS * ((now_ns - next_ns) // INTERVAL_NS + 1)  # a missed slot is not made up for
        self.poll.unregister(0)
        while any(probe.waiting(time.time_ns()) for probe in self.probes.values()):
            self.turn(0.01)

    def turn(self, wait_s: float) -> None:
        for fd, _ in self.poll.poll(wait_s):
            if fd == 0:
                self.read_orders()
            else:
                self.by_fd[fd].receive()

    def read_orders(self) -> None:
        data = os.read(0, 4096)
        self.running = bool(data)
        *lines, self.orders = (self.orders + data).split(b"\n")
        for line in lines:
            match line.decode().split():
                case ["add", name, source, target]:
                    probe = Probe.open(source, target, (os.getpid() + len(self.probes)) & 0xFFFF)
                    self.probes[name] = probe
                    self.by_fd[probe.sock.fileno()] = probe
                    self.poll.register(probe.sock.fileno(), select.EPOLLIN)
                    print(f"added {name}", flush=True)
                case ["stop"]:
                    self.running = False


class Pinger:
    """Pings from one host, run by the test. `add` returns once the first packet is due; `stop` gives the counts."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._process = host.spawn(
            sys.executable, "-m", "tests.lab.pinger",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def add(self, name: str, source: str, target: str) -> None:
        """Raises LabError when the host does not hold `source`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"add {name} {source} {target}\n".encode())
        self._process.stdin.flush()
        if self._process.stdout.readline() != f"added {name}\n".encode():
            raise LabError(f"{self.host.name} cannot ping {target} from {source}")

    def stop(self) -> Mapping[str, Count]:
        """The counts by name; waits up to 1 s for replies that are under way."""
        out, _ = self._process.communicate(b"stop\n", timeout=30)
        return {name: Count(sent, lost, gap_s, tuple(at)) for name, (sent, lost, gap_s, at) in json.loads(out).items()}

    def kill(self) -> None:
        """Ends it without counts, for the way out of a failed test."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    program = _Program()
    program.run()
    print(json.dumps({name: probe.count() for name, probe in program.probes.items()}))


if __name__ == "__main__":
    main()
