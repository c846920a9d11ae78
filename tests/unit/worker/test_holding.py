"""Getting, keeping and regaining the own lease."""

from __future__ import annotations

import asyncio

import pytest

from flannel_multi.model.config import parse_config
from flannel_multi.model.errors import StoreUnavailable
from flannel_multi.model.lease import LeaseAttrs
from flannel_multi.model.subnet import parse_ip
from flannel_worker.holding import Holding
from flannel_worker.mirror import Mirror
from tests.unit.worker.place import ALLOC, MemoryStore, peer, subnet

ATTRS = LeaseAttrs(parse_ip("192.0.2.1"))
CONFIG = parse_config(ALLOC)


class Desk:
    """A holding, its store and the mirror between them."""

    def __init__(self) -> None:
        self.store, self.mirror = MemoryStore(), Mirror()
        self.holding = Holding(self.store, "blue", self.mirror, margin_s=3600, timeout_s=1.0)

    async def keep(self, attrs: LeaseAttrs = ATTRS, prefer: str = "") -> None:
        """A listing, and what follows from it for the own lease."""
        self.mirror.listed(await self.store.snapshot("blue"), now_s=0.0)
        self.store.calls.clear()
        await self.holding.keep(CONFIG, attrs, prefer=subnet(prefer) if prefer else None)


def test_a_lease_held_is_looked_at_and_costs_the_store_nothing() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.keep(prefer="10.5.9.0/24")
        assert desk.holding.subnet == subnet("10.5.9.0/24")
        await desk.keep()
        assert desk.store.calls == []

    asyncio.run(story())


def test_a_lease_that_is_due_is_renewed_without_writing_the_key() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.keep()
        desk.holding.tenure.later(-1.0)
        await desk.keep()
        assert desk.store.calls == ["renew"]
        assert not desk.holding.tenure.due()

    asyncio.run(story())


def test_a_renewal_that_gets_no_answer_leaves_what_was_held() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.keep()
        await desk.keep()
        held = desk.holding.subnet
        desk.holding.tenure.later(-1.0)
        desk.store.down = "away"
        with pytest.raises(StoreUnavailable):
            await desk.holding.keep(CONFIG, ATTRS, prefer=None)
        assert desk.holding.subnet == held

    asyncio.run(story())


def test_a_lease_lost_in_the_middle_of_a_renewal_is_taken_again() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.keep()
        held = desk.holding.subnet
        assert held is not None
        await desk.keep()
        desk.holding.tenure.later(-1.0)
        del desk.store.leases[held]  # and the watch has not said so yet
        await desk.holding.keep(CONFIG, ATTRS, prefer=None)
        assert desk.store.leases[held].attrs == ATTRS

    asyncio.run(story())


def test_changed_attributes_are_published_once() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.keep()
        fresh = LeaseAttrs(parse_ip("192.0.2.9"), "vxlan", {"VtepMAC": "x"})
        await desk.keep(fresh)
        assert desk.store.calls == ["publish", "renew"]
        assert desk.holding.subnet is not None
        assert desk.store.leases[desk.holding.subnet].attrs == fresh
        await desk.keep(fresh)
        assert desk.store.calls == []

    asyncio.run(story())


def test_a_foreign_value_in_the_own_key_costs_the_lease_not_the_other() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.keep(prefer="10.5.9.0/24")
        theirs = desk.store.put(peer("10.5.9.0/24", "192.0.2.77", lease_id=99))
        await desk.keep()
        assert desk.holding.subnet != subnet("10.5.9.0/24")
        assert desk.store.leases[subnet("10.5.9.0/24")] == theirs

    asyncio.run(story())


def test_a_store_restored_to_before_our_last_write_is_believed() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.keep()
        desk.holding.tenure.later(-1.0)
        assert desk.holding.subnet is not None
        old = desk.store.leases[desk.holding.subnet]._replace(revision=2)
        desk.store.leases = {old.subnet: old}
        desk.store.revision, desk.store.restored = 3, True
        await desk.keep()
        assert desk.store.calls == ["renew"]

    asyncio.run(story())


def test_a_lease_given_back_is_free_for_others() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.keep()
        await desk.holding.release()
        assert desk.store.leases == {}
        assert desk.holding.subnet is None

    asyncio.run(story())


def test_another_config_keeps_a_lease_that_fits_it_and_no_other() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.keep(prefer="10.5.9.0/24")
        desk.holding.unsettle(parse_config(b'{"Network":"10.5.0.0/17","Backend":{"Type":"alloc"}}'))
        assert desk.holding.subnet == subnet("10.5.9.0/24")
        desk.holding.unsettle(parse_config(b'{"Network":"10.6.0.0/16","Backend":{"Type":"alloc"}}'))
        assert desk.holding.subnet is None

    asyncio.run(story())
