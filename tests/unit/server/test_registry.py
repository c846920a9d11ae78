"""The networks that a server follows: as many as are asked for, and no more than it can bear."""

from __future__ import annotations

import asyncio

import pytest

from flannel_multi.model.errors import StoreRefused
from flannel_multi.server.registry import IDLE_S, MOST, Registry
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


def test_made_up_names_do_not_keep_others_out_nor_put_out_those_who_wait_for_a_real_network() -> None:
    async def told(ledger: MemoryLedger) -> None:
        registry = Registry(ledger)
        await ledger.write_config("blue", b"{}")
        blue, made_up = registry.network("blue"), registry.network("x0")
        waits = [
            asyncio.create_task(network.next_events(ledger.number, None, most=1, rich=False))
            for network in (blue, made_up)
        ]
        await settle()
        for number in range(1, MOST - 1):
            registry.network(f"x{number}")
        registry.network("green")
        with pytest.raises(StoreRefused, match="network x0 does not exist, and the server has no room for it"):
            await waits[1]
        assert registry.network("blue") is blue
        assert not waits[0].done()
        registry.close()
        waits[0].cancel()
        await settle()

    story(told)
