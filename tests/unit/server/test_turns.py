"""Whose long poll is answered next."""

from __future__ import annotations

import asyncio

from flannel_multi.server.turns import AT_ONCE, Turns


def test_a_turn_of_the_loop_answers_a_few_and_one_network_does_not_wait_behind_another() -> None:
    async def story() -> None:
        loop, turns = asyncio.get_running_loop(), Turns()
        crowd = [loop.create_future() for _ in range(10 * AT_ONCE)]
        few = [loop.create_future() for _ in range(3)]
        turns.admit("crowded", crowd, 7)
        turns.admit("quiet", few, 8)
        await asyncio.sleep(0)
        assert [waiter.result() for waiter in few] == [8, 8, 8]
        assert sum(waiter.done() for waiter in crowd) == AT_ONCE - len(few)
        for _ in range(10):
            await asyncio.sleep(0)
        assert [waiter.result() for waiter in crowd] == [7] * len(crowd)

    asyncio.run(story())


def test_who_has_gone_takes_no_turn() -> None:
    async def story() -> None:
        loop, turns = asyncio.get_running_loop(), Turns()
        waiters = [loop.create_future() for _ in range(2 * AT_ONCE)]
        turns.admit("net", waiters, 7)
        for waiter in waiters[:AT_ONCE]:
            waiter.cancel()
        await asyncio.sleep(0)
        assert all(waiter.done() for waiter in waiters)

    asyncio.run(story())


def test_turns_go_on_after_all_had_theirs() -> None:
    async def story() -> None:
        turns = Turns()
        for _ in range(3):
            async with asyncio.timeout(5.0):
                await turns.wait("net")

    asyncio.run(story())
