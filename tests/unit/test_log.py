"""One line format, written without ever waiting: what a reader of standard error sees."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flannel_multi import log

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ([EWID]) (\S+) (.*)")
DROPPED = re.compile(r"\((\d+) lines dropped: too many at once, or standard error was full\)")


@contextmanager
def piped() -> Iterator[int]:
    """A small pipe in place of descriptor 2; gives its reading end. No fixture: pytest moves 2 after fixtures."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(reader, False)
    with in_place_of_2(reader, writer):
        yield reader


@contextmanager
def journal() -> Iterator[int]:
    """A stream socket in place of descriptor 2, as the service manager gives one."""
    here, there = socket.socketpair()
    here.setblocking(False)
    reader = here.detach()
    with in_place_of_2(reader, there.detach()):
        yield reader


@contextmanager
def in_place_of_2(reader: int, writer: int) -> Iterator[None]:
    saved = os.dup(2)
    os.dup2(writer, 2)
    os.close(writer)
    log.configure(fmt="text", verbosity=0, network="blue", incarnation=3)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        log.configure(fmt="text", verbosity=0)
        os.close(reader)


def read(reader: int) -> list[str]:
    """All that is there to read, as lines."""
    whole = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except BlockingIOError:
            break
        if not part:
            break
        whole += part
    assert whole.endswith(b"\n") or not whole
    return whole.decode().splitlines()


def test_a_line_says_when_how_grave_who_and_what() -> None:
    with piped() as reader:
        log.warning("lease gone")
        (line,) = read(reader)
        found = LINE.fullmatch(line)
        assert found
        assert found.groups() == ("W", f"blue[{os.getpid()}/3]", "lease gone")


def test_the_parent_is_the_supervisor() -> None:
    with piped() as reader:
        log.configure(fmt="text", verbosity=0)
        log.info("started")
        (line,) = read(reader)
        assert f" I supervisor[{os.getpid()}] started" in line


def test_debug_lines_show_from_their_level_on() -> None:
    with piped() as reader:
        log.configure(fmt="text", verbosity=1)
        log.debug("one")
        log.debug("two", level=2)
        log.error("bad")
        assert [line.rpartition(" ")[2] for line in read(reader)] == ["one", "bad"]


HOSTILE = "a\nb\r\x1b[31m\x7f\x85\u2028\u202e\udcff\x00é"


def test_no_text_breaks_the_line_or_the_terminal() -> None:
    with piped() as reader:
        log.info(HOSTILE)
        (line,) = read(reader)
        assert line.endswith(r" a\x0ab\x0d\x1b[31m\x7f\x85\u2028\u202e\udcff\x00é")
        assert line.isprintable()


def test_json_lines_hold_the_same_fields() -> None:
    with piped() as reader:
        log.configure(fmt="json", verbosity=0, network="blue", incarnation=3)
        log.info(HOSTILE)
        (line,) = read(reader)
        entry = json.loads(line)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("ts"))
        assert entry == {"level": "I", "network": "blue", "pid": os.getpid(), "incarnation": 3, "text": HOSTILE}


@pytest.mark.parametrize("fmt", ["text", "json"])
@pytest.mark.parametrize(
    "text", ["x" * 100_000, "\x1b" * 100_000, "\U0001f40d" * 100_000], ids=["x", "escape", "snake"]
)
def test_a_line_fits_what_a_pipe_takes_whole(fmt: str, text: str) -> None:
    with piped() as reader:
        log.configure(fmt=fmt, verbosity=0)
        log.info(text)
        (line,) = read(reader)
        assert 1000 < len(line.encode()) < 4096
        assert "..." in line


def test_a_full_pipe_costs_lines_and_no_time_and_the_next_line_says_how_many() -> None:
    with piped() as reader:
        began_s = time.monotonic()
        for number in range(150):
            log.info(f"{number} " + "x" * 80)
        assert time.monotonic() - began_s < 1.0
        written = read(reader)
        assert 0 < len(written) < 150
        log.info("after")
        note, last = read(reader)
        found = DROPPED.search(note)
        assert found
        assert int(found[1]) == 150 - len(written)
        assert last.endswith(" after")


def test_a_full_socket_costs_lines_and_no_time() -> None:
    with journal() as reader:
        log.configure(fmt="text", verbosity=0)
        began_s = time.monotonic()
        for _ in range(190):
            log.info("x" * 4000)
        assert time.monotonic() - began_s < 1.0
        assert 0 < len(read(reader)) < 190
        log.info("after")
        note, last = read(reader)
        assert DROPPED.search(note)
        assert last.endswith(" after")


def test_a_flood_is_cut_and_the_next_line_says_by_how_many() -> None:
    with piped() as reader:
        lines: list[str] = []
        began_s = time.monotonic()
        for number in range(2000):
            log.info(str(number))
            if number % 20 == 0:
                lines += read(reader)
        spent_s = time.monotonic() - began_s
        lines += read(reader)
        assert len([line for line in lines if not DROPPED.search(line)]) <= log.BURST + log.RATE * spent_s + 1
        said = 0
        while not said and time.monotonic() - began_s < 5.0:
            log.info("again")
            said = sum(int(found[1]) for line in read(reader) if (found := DROPPED.search(line)))
        assert said > 1000


def test_nobody_reading_ends_no_process() -> None:
    with piped() as reader:
        nobody = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nobody, reader)
        os.close(nobody)
        log.info("into a pipe without a reader")


def test_another_users_flags_of_the_descriptor_stay_as_they_are() -> None:
    with piped():
        before = fcntl.fcntl(2, fcntl.F_GETFL)
        log.info("x")
        assert fcntl.fcntl(2, fcntl.F_GETFL) == before
        assert os.get_blocking(2)


def test_without_standard_error_lines_are_dropped() -> None:
    saved = os.dup(2)
    try:
        os.close(2)
        log.configure(fmt="text", verbosity=0)
        log.info("x")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        log.configure(fmt="text", verbosity=0)
