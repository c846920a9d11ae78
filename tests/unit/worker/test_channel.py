"""The worker's end of the socketpair: a real one, and a parent that reads, is busy, or is gone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from flannel_multi.model.messages import Beat, ClaimAsked, Down, Facts, Keep, Said, Stop, decode, encode
from flannel_worker.channel import Channel


class Pair:
    """A channel and the parent's end of it."""

    def __init__(self) -> None:
        self.parent, self._end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.parent.setblocking(False)
        self._end.setblocking(False)
        self.heard: asyncio.Queue[Down | None] = asyncio.Queue()
        self.channel = Channel(
            self._end, heard=self.heard.put_nowait, orphaned=lambda: self.heard.put_nowait(None)
        )  # fmt: skip

    async def next(self) -> Down | None:
        return await asyncio.wait_for(self.heard.get(), 5.0)

    def read(self) -> list[object]:
        """All messages there are."""
        found: list[object] = []
        while True:
            try:
                found.append(decode(self.parent.recv(70_000)))
            except BlockingIOError:
                return found

    def read_one(self) -> tuple[object, list[int]]:
        """A message and the descriptors that came with it. Raises BlockingIOError."""
        datagram, fds, _, _ = socket.recv_fds(self.parent, 70_000, 4)
        return decode(datagram), fds

    def close(self) -> None:
        self.channel.close()
        self.parent.close()
        self._end.close()


def with_pair(story: Callable[[Pair], Awaitable[None]]) -> None:
    async def run() -> None:
        pair = Pair()
        try:
            await story(pair)
        finally:
            pair.close()

    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    asyncio.run(run())
    assert os.listdir("/proc/self/fd") == before, "descriptors that nobody closed"  # noqa: PTH208


def test_messages_go_both_ways_in_order() -> None:
    async def story(pair: Pair) -> None:
        pair.channel.send(Beat(1))
        pair.channel.send(Facts(subnet="10.5.1.0/24"))
        assert pair.read() == [Beat(1), Facts(subnet="10.5.1.0/24")]
        pair.parent.send(encode(Stop()))
        assert await pair.next() == Stop()

    with_pair(story)


def test_the_end_of_file_says_that_the_parent_is_gone() -> None:
    async def story(pair: Pair) -> None:
        pair.parent.close()
        pair.channel.send(Beat(1))
        assert await pair.next() is None

    with_pair(story)


def test_a_busy_parent_costs_the_worker_no_time_and_gets_the_newest_when_it_reads() -> None:
    async def story(pair: Pair) -> None:
        for number in range(5000):
            pair.channel.send(Beat(number))
            if number % 100 == 0:
                pair.channel.send(ClaimAsked(number, ()))
        pair.channel.send(Said("ready"))
        got = pair.read()
        while got[-1] != Said("ready"):
            await asyncio.sleep(0)
            got += pair.read()
        assert [said.progress for said in got if isinstance(said, Beat)][-1] == 4999
        claims = [asked.serial for asked in got if isinstance(asked, ClaimAsked)]
        assert claims == list(range(0, 5000, 100)), "a claim waits in line, however long"

    with_pair(story)


def fill(pair: Pair) -> list[object]:
    """More claims than the socket takes; returns them."""
    claims = [ClaimAsked(number, ()) for number in range(2000)]
    for asked in claims:
        pair.channel.send(asked)
    return [*claims]


def file_of(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def test_a_descriptor_arrives_with_its_message_and_stays_the_callers() -> None:
    async def story(pair: Pair) -> None:
        reading, writing = os.pipe()
        pair.channel.send(Beat(1))
        pair.channel.send(Keep("blue.tun"), reading)
        assert pair.read_one() == (Beat(1), [])
        message, (fd,) = pair.read_one()
        assert message == Keep("blue.tun")
        os.write(writing, b"packet")
        assert os.read(fd, 10) == b"packet"
        for item in (reading, writing, fd):
            os.close(item)

    with_pair(story)


def test_a_descriptor_waits_in_line_for_a_busy_parent_and_arrives_once_whatever_its_number_is_used_for_since() -> None:
    async def story(pair: Pair) -> None:
        before = fill(pair)
        meant, other = os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
        expected = file_of(meant)
        pair.channel.send(Keep("blue.tun"), meant)
        os.dup2(other, meant)
        pair.channel.send(Keep("blue.udp"), meant)
        pair.channel.send(Said("ready"))
        got: list[tuple[object, list[int]]] = []
        while not got or got[-1][0] != Said("ready"):
            try:
                got.append(pair.read_one())
            except BlockingIOError:
                await asyncio.sleep(0)
        assert [message for message, _ in got] == [*before, Keep("blue.tun"), Keep("blue.udp"), Said("ready")]
        assert [len(fds) for _, fds in got[-3:]] == [1, 1, 0]
        first, second = got[-3][1][0], got[-2][1][0]
        assert (file_of(first), file_of(second)) == (expected, file_of(other))
        for item in (meant, other, first, second):
            os.close(item)

    with_pair(story)


def test_what_waits_when_the_channel_or_the_parent_goes_is_not_left_open() -> None:
    async def closed(pair: Pair) -> None:
        fill(pair)
        pair.channel.send(Keep("blue.tun"), 0)
        pair.channel.close()

    async def orphaned(pair: Pair) -> None:
        fill(pair)
        pair.channel.send(Keep("blue.tun"), 0)
        pair.parent.close()
        assert await pair.next() is None
        pair.channel.send(Beat(1))

    with_pair(closed)
    with_pair(orphaned)


def test_what_is_no_descriptor_is_refused_and_the_channel_goes_on() -> None:
    async def story(pair: Pair) -> None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            pair.channel.send(Keep("blue.tun"), 1 << 20)
        pair.channel.send(Beat(1))
        assert pair.read() == [Beat(1)]

    with_pair(story)
