"""Counts lost datagrams at a rate that queues feel: numbered UDP packets to an echo, 2,000 a second.

Run as a program, `serve ADDRESS PORT` answers until it is ended; `send ADDRESS PORT SECONDS` sends, waits for late
answers, and prints one JSON object. `Echo` is the other end, in the test.
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.lab.world import Host

PORT = 7777
INTERVAL_NS = 500_000  # 2,000 a second
LATE_S = 1.0  # an answer that took longer counts as lost
QUEUE_BYTES = 8 << 20  # the echo's own sockets must not be what loses packets
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_NUMBER = struct.Struct("!Q56x")


class Echoed(NamedTuple):
    """What came of the packets. `twice`: answers that came more than once. `longest_gap_s`: between two answers."""

    sent: int
    lost: int
    twice: int
    longest_gap_s: float


class Echo:
    """An echo on `there` and a sender on `here`; both end with `result` or `kill`."""

    def __init__(self, here: Host, there: Host, address: str, seconds: float) -> None:
        program, root = (sys.executable, "-m", "tests.lab.echo"), Path(__file__).parents[2]
        self._server = there.spawn(*program, "serve", address, str(PORT), stdout=subprocess.PIPE, cwd=root)
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"listening\n"
        self._sender = here.spawn(*program, "send", address, str(PORT), str(seconds), stdout=subprocess.PIPE, cwd=root)

    @property
    def running(self) -> bool:
        return self._sender.poll() is None

    def result(self) -> Echoed:
        """Waits until all is sent and answered."""
        try:
            said, _ = self._sender.communicate()
            return Echoed(**json.loads(said))
        finally:
            self.kill()

    def kill(self) -> None:
        for process in (self._sender, self._server):
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUE_BYTES)
    return sock


def serve(address: str, port: int) -> None:
    sock = _socket()
    sock.bind((address, port))
    print("listening", flush=True)
    while True:
        data, sender = sock.recvfrom(2048)
        sock.sendto(data, sender)


def send(address: str, port: int, seconds: float) -> Echoed:
    sock = _socket()
    sock.connect((address, port))
    sock.setblocking(False)
    answered: dict[int, int] = {}
    arrivals = [time.monotonic_ns()]
    begin, count = time.monotonic_ns(), round(seconds * 1e9 / INTERVAL_NS)
    sent = 0
    while sent < count:
        now = time.monotonic_ns()
        while sent < count and begin + sent * INTERVAL_NS <= now:
            sock.send(_NUMBER.pack(sent))
            sent += 1
        _collect(sock, answered, arrivals, max(0.0, (begin + sent * INTERVAL_NS - now) / 1e9))
    end = time.monotonic() + LATE_S
    while (left := end - time.monotonic()) > 0 and len(answered) < sent:
        _collect(sock, answered, arrivals, left)
    gap_ns = max(later - earlier for earlier, later in itertools.pairwise(arrivals))
    twice = sum(times > 1 for times in answered.values())
    return Echoed(sent, sent - len(answered), twice, gap_ns / 1e9)


def _collect(sock: socket.socket, answered: dict[int, int], arrivals: list[int], wait_s: float) -> None:
    if not select.select([sock], [], [], wait_s)[0]:
        return
    while True:
        try:
            (number,) = _NUMBER.unpack(sock.recv(2048))
        except BlockingIOError:
            return
        answered[number] = answered.get(number, 0) + 1
        arrivals.append(time.monotonic_ns())


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        print(json.dumps(send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))._asdict()))
