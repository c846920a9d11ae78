"""The worker's end of the socketpair: a real one, and a parent that reads, is busy, or is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from flannel_multi.model.messages import Beat, ClaimAsked, Down, Facts, Said, Stop, decode, encode
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

    asyncio.run(run())


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
