"""Following the store for those who wait: what they are told when it fails, and when we do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from flannel_multi.model.errors import StoreUnavailable
from flannel_multi.server.following import About, Follower
from flannel_multi.server.history import Event
from flannel_multi.server.turns import Turns
from flannel_multi.store.protocol import Revision
from tests.unit.server.memory import MemoryLedger, settle, story


class Numbers:
    """A source whose changes are numbers: events of those revisions; 0 is no event, and an exception is raised."""

    def __init__(self, *, first: BaseException | None = None) -> None:
        self.changes: asyncio.Queue[int | BaseException] = asyncio.Queue()
        self.listings = 0
        self._first = first

    async def list(self) -> tuple[Revision, bool]:
        self.listings += 1
        first, self._first = self._first, None
        if first is not None:
            raise first
        return Revision("c", 1), False

    async def look(self) -> None:
        return

    async def watch(self, after: Revision) -> AsyncIterator[int]:
        while True:
            change = await self.changes.get()
            if isinstance(change, BaseException):
                raise change
            yield change

    async def read(self, change: int) -> Event[str] | None:
        return Event(change, "odd" if change % 2 else "even", str(change), str(change)) if change else None


def test_those_who_wait_are_woken_by_what_they_wait_for_alone() -> None:
    async def told(_: MemoryLedger) -> None:
        source = Numbers()
        follower: Follower[str, int] = Follower("x", source, Turns())
        await follower.start()
        waits = {
            about: asyncio.create_task(follower.grown(about)) for about in (About.ANYTHING, About.ASIDE, "odd", "even")
        }
        await settle()
        source.changes.put_nowait(0)
        await settle()
        assert {about for about, task in waits.items() if task.done()} == {About.ASIDE}
        source.changes.put_nowait(2)
        await settle()
        assert {about for about, task in waits.items() if not task.done()} == {"odd"}
        source.changes.put_nowait(3)
        assert await waits["odd"] == 3
        assert (follower.waiting, follower.revision.number) == (0, 3)
        follower.stop()

    story(told)


def test_a_first_listing_that_fails_is_said_to_who_asked_and_made_again() -> None:
    async def told(_: MemoryLedger) -> None:
        source = Numbers(first=StoreUnavailable("not yet"))
        follower: Follower[str, int] = Follower("x", source, Turns())
        with pytest.raises(StoreUnavailable, match="not yet"):
            await follower.start()
        await follower.start()
        assert source.listings == 2
        follower.stop()

    story(told)


def test_a_mistake_of_ours_leaves_nobody_waiting_and_the_next_who_comes_starts_anew(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def told(_: MemoryLedger) -> None:
        source = Numbers()
        follower: Follower[str, int] = Follower("x", source, Turns())
        await follower.start()
        waiting = asyncio.create_task(follower.grown(About.ANYTHING))
        await settle()
        source.changes.put_nowait(ZeroDivisionError("ours"))
        with pytest.raises(ZeroDivisionError):
            await waiting
        await settle()
        await follower.start()
        again = asyncio.create_task(follower.grown(About.ANYTHING))
        await settle()
        source.changes.put_nowait(2)
        assert await again == 2
        follower.stop()

    story(told)
    assert "following the store failed: ZeroDivisionError" in capfd.readouterr().err


def test_an_outage_is_one_line_in_the_log_and_its_end_another(capfd: pytest.CaptureFixture[str]) -> None:
    async def told(_: MemoryLedger) -> None:
        source = Numbers()
        follower: Follower[str, int] = Follower("blue", source, Turns())
        await follower.start()
        for _attempt in range(3):
            source.changes.put_nowait(StoreUnavailable("etcd is away"))
        source.changes.put_nowait(2)
        while follower.revision.number < 2:
            await asyncio.sleep(0.1)
        follower.stop()

    story(told)
    said = capfd.readouterr().err
    assert said.count("network blue: the store answers again") == said.count("network blue: etcd is away") <= 3
