"""The networks that a server follows: as many as are asked for, and no more than it can bear."""

from __future__ import annotations

import asyncio

import pytest

from flannel_multi.model.errors import StoreRefused
from flannel_multi.server.registry import IDLE_S, MOST, PRESSED_S, Registry
from tests.unit.server.memory import MemoryLedger, settle, story


def test_a_network_is_followed_once_and_forgotten_when_nobody_has_asked_for_a_while() -> None:
    async def told(ledger: MemoryLedger) -> None:
        registry = Registry(ledger)
        blue = registry.network("blue")
        waiting = asyncio.create_task(registry.network("green").next_events(ledger.number, None, most=1, rich=False))
        await blue.follower.start()
        await settle()
        assert ledger.watches == 2
        assert registry.network("blue") is blue
        await asyncio.sleep(3 * IDLE_S)
        assert ledger.watches == 1
        assert registry.network("blue") is not blue
        assert not waiting.done()
        registry.close()
        waiting.cancel()
        await settle()
        assert ledger.watches == 0

    story(told)


def test_made_up_names_do_not_keep_others_out_nor_put_out_those_who_wait() -> None:
    async def told(ledger: MemoryLedger) -> None:
        registry = Registry(ledger)
        blue = registry.network("blue")
        waiting = asyncio.create_task(blue.next_events(ledger.number, None, most=1, rich=False))
        for number in range(MOST - 1):
            registry.network(f"x{number}")
        with pytest.raises(StoreRefused, match=f"follows {MOST} networks already, and network green"):
            registry.network("green")
        await asyncio.sleep(PRESSED_S + 1)
        registry.network("green")
        assert registry.network("blue") is blue
        registry.close()
        waiting.cancel()
        await settle()

    story(told)
