"""The mirror is kept true: list, watch, and when that ends list again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from flannel_multi.model.errors import StoreUnavailable
from flannel_worker.feed import Down, Fed, feed
from flannel_worker.mirror import Mirror
from tests.unit.worker.place import MemoryStore, peer, subnet

News = Fed | Down


def follow(story: Callable[[MemoryStore, Mirror, Callable[[], Awaitable[News]]], Awaitable[None]]) -> None:
    """Runs a feed beside `story`, which is handed the store, the mirror and a way to await the next news."""

    async def run() -> None:
        store, mirror = MemoryStore(), Mirror()
        news: asyncio.Queue[News] = asyncio.Queue()
        task = asyncio.create_task(
            feed(store, "blue", mirror, news.put_nowait, timeout_s=1.0)
        )  # fmt: skip
        try:
            await story(store, mirror, lambda: asyncio.wait_for(news.get(), 5.0))
        finally:
            task.cancel()

    asyncio.run(run())


def test_a_listing_comes_first_and_then_every_change() -> None:
    async def story(store: MemoryStore, mirror: Mirror, news: Callable[[], Awaitable[News]]) -> None:
        first = await news()
        assert isinstance(first, Fed)
        store.put(peer("10.5.1.0/24"))
        change = await news()
        assert isinstance(change, Fed)
        assert change.delta.subnets == {subnet("10.5.1.0/24")}
        assert mirror.leases.keys() == {subnet("10.5.1.0/24")}

    follow(story)


def test_compaction_is_a_new_listing_and_no_complaint() -> None:
    async def story(store: MemoryStore, mirror: Mirror, news: Callable[[], Awaitable[News]]) -> None:
        store.compacted = True
        for _ in range(2):
            told = await news()
            assert isinstance(told, Fed)
            assert isinstance(told, Fed)

    follow(story)


def test_a_store_that_goes_is_said_and_one_that_comes_back_is_listed_again() -> None:
    async def story(store: MemoryStore, mirror: Mirror, news: Callable[[], Awaitable[News]]) -> None:
        await news()
        store.down = "connection refused"
        store.changes.put_nowait(StoreUnavailable("the connection ended"))
        told = await news()
        assert isinstance(told, Down)
        calls = len(store.calls)
        store.leases[subnet("10.5.1.0/24")] = peer("10.5.1.0/24")
        store.down = ""
        while not isinstance(told, Fed):
            told = await news()
        assert isinstance(told, Fed)
        assert mirror.leases.keys() == {subnet("10.5.1.0/24")}
        assert len(store.calls) - calls < 6  # with backoff, not at full speed

    follow(story)
