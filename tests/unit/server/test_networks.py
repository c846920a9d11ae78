"""The list of networks, and what clients with a cursor are told of those that come and go."""

from __future__ import annotations

import asyncio

from flannel_multi.model.errors import StoreUnavailable
from flannel_multi.model.v1 import read_watch
from flannel_multi.server.network import Networks, News
from flannel_multi.server.turns import Turns
from tests.unit.server.memory import MemoryLedger, settle, story

AWAY = StoreUnavailable("etcd is away")


def names(news: News) -> list[str]:
    assert news.body is not None, "a snapshot"
    return [f"{'-' if event.removed else '+'}{event.network}" for event in read_watch(news.body).events]


def test_networks_come_and_go_for_those_who_may_know_of_them() -> None:
    async def told(ledger: MemoryLedger) -> None:
        networks = Networks(ledger, Turns())
        start = (await ledger.networks()).revision.number
        await networks.follower.start()
        everybody = asyncio.create_task(networks.next_event(start, wanted=lambda name: True))
        green_only = asyncio.create_task(networks.next_event(start, wanted=lambda name: name == "green"))
        await settle()
        ledger.config("blue")
        ledger.config("")  # the unnamed one is never told of
        assert names(await everybody) == ["+blue"]
        await settle()
        assert not green_only.done()
        ledger.config("green")
        assert names(await green_only) == ["+green"]
        ledger.config("green", None)
        await settle()
        assert names(await networks.next_event(ledger.number - 1, wanted=lambda name: True)) == ["-green"]
        assert (await networks.next_event(99_999_999, wanted=lambda name: True)).body is None
        networks.close()

    story(told)


def test_a_list_that_the_store_forgot_is_a_snapshot() -> None:
    async def told(ledger: MemoryLedger) -> None:
        networks = Networks(ledger, Turns())
        await networks.follower.start()
        waiting = asyncio.create_task(networks.next_event(ledger.number, wanted=lambda name: True))
        await settle()
        ledger.break_watches(AWAY)
        await settle()
        ledger.config("blue")
        ledger.compact()
        assert (await waiting).body is None
        networks.close()

    story(told)
