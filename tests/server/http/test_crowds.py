"""Thousands of clients that mean no good, or read slowly: others are served, and memory is bounded."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent


class Apart:
    """A server in another process."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def memory_kib(self) -> int:
        return int(self.ask("/memory"))


@pytest.fixture
def apart() -> Iterator[Apart]:
    with subprocess.Popen(
        [sys.executable, str(HERE / "apart.py"), "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield Apart(int(process.stdout.readline()))
        process.kill()


@contextmanager
def crowd(server: Apart, count: int, data: bytes) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HERE / "many.py"), str(server.port), str(count), data.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["silent", "half a head"])
def test_ten_thousand_half_open_connections_leave_room_for_others(apart: Apart, data: bytes) -> None:
    before_kib = apart.memory_kib()
    with crowd(apart, 10_200, data) as process:
        slowest_s = 0.0
        for _ in range(20):
            started_s = time.monotonic()
            assert apart.ask("/") == b"hello"
            slowest_s = max(slowest_s, time.monotonic() - started_s)
        more_kib = apart.memory_kib() - before_kib
        assert int(apart.ask("/count")) >= 9_900
        assert process.stdin is not None
        process.stdin.close()
        assert process.stdout is not None
        cut = int(process.stdout.readline())
    print(f"10,200 half-open: {more_kib} KiB more, slowest answer {slowest_s * 1000:.1f} ms, {cut} cut for others")
    assert 200 <= cut <= 300
    assert slowest_s < 1.0
    assert more_kib < 100 << 10


def test_many_who_do_not_read_a_large_answer_hold_no_copy_of_it(apart: Apart) -> None:
    before_kib = apart.memory_kib()
    with crowd(apart, 2_000, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert apart.ask("/") == b"hello"
        started_s = time.monotonic()
        assert len(apart.ask("/large")) == 2_000_000
        took_s = time.monotonic() - started_s
        more_kib = apart.memory_kib() - before_kib
    print(f"2,000 slow readers of 2 MB: {more_kib} KiB more; one who reads has it in {took_s * 1000:.0f} ms")
    assert more_kib < 20 << 10
    assert took_s < 1.0


def test_waiting_clients_weigh_little(apart: Apart) -> None:
    before_kib = apart.memory_kib()
    with crowd(apart, 2_000, b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"):
        while int(apart.ask("/count")) < 2_001:
            pass
        more_kib = apart.memory_kib() - before_kib
    print(f"2,000 long polls: {more_kib / 2000:.1f} KiB each")
    assert more_kib < 2_000 * 10
