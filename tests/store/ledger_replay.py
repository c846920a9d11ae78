"""The ledger's contract: `replay`."""

from __future__ import annotations

import asyncio

import pytest

from flannel_multi.model.errors import Compacted
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.store.protocol import (
    Change,
    LeaseGone,
    LeaseWritten,
)
from tests.store.ledger_hooks import FIVE, ONE, SIX, TWO, LedgerHooks
from tests.store.rig import CONFIG, attrs, config, reading, run, value, watched


class HistoryContract(LedgerHooks):
    def test_where_nothing_happened_nothing_is_replayed(self, net: str) -> None:
        self.put_lease(net, FIVE.key, value(ONE))
        self.put_lease(net, SIX.key, "poison that stands")

        async def story() -> None:
            async with self.open() as ledger:
                start = await ledger.snapshot(net)
                await ledger.write_config(net + "x", CONFIG)  # the store's history goes on
                await ledger.put_lease(net + "x", FIVE, attrs(ONE))
                upto = await ledger.snapshot(net)
                assert upto.revision.number > start.revision.number
                for after in (start.revision.number, upto.revision.number):
                    assert await ledger.replay(net, after=after, upto=upto) == []

        run(story())

    def test_what_was_written_and_deleted_is_replayed_in_order(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                gone = await ledger.put_lease(net, Subnet.parse("10.1.7.0/24"), attrs("192.0.2.7"))
                await ledger.put_lease(net, FIVE, attrs(ONE))
                start = await ledger.snapshot(net)
                six = await ledger.put_lease(net, SIX, attrs(TWO))
                revision = await ledger.revoke(net, gone.record.subnet)
                five = await ledger.reserve(net, FIVE, parse_ip(ONE))
                upto = await ledger.snapshot(net)
                assert await ledger.replay(net, after=start.revision.number, upto=upto) == [
                    LeaseWritten(six.record),
                    LeaseGone(gone.record.subnet, revision),
                    LeaseWritten(five),
                ]
                assert await ledger.replay(net, after=revision, upto=upto) == [LeaseWritten(five)]
                assert await ledger.replay(net, after=revision - 1, upto=upto) == [
                    LeaseGone(gone.record.subnet, revision),
                    LeaseWritten(five),
                ]

        run(story())

    def test_of_a_subnet_that_changed_often_the_last_change_is_replayed(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                await ledger.put_lease(net, FIVE, attrs(ONE))
                await ledger.put_lease(net, SIX, attrs(ONE))
                start = await ledger.snapshot(net)
                await ledger.revoke(net, SIX)
                for vni in range(4):
                    await ledger.put_lease(net, FIVE, attrs(ONE, vni=vni))
                await ledger.revoke(net, FIVE)
                await ledger.put_lease(net, SIX, attrs(TWO))
                five = await ledger.put_lease(net, FIVE, attrs(TWO))
                six = await ledger.revoke(net, SIX)
                upto = await ledger.snapshot(net)
                found = await ledger.replay(net, after=start.revision.number, upto=upto)
                assert self._state(found) == {FIVE: five.record, SIX: None}
                assert all(start.revision.number < _at(change) <= six for change in found)

        run(story())

    def test_a_lease_that_came_and_went_hides_nothing_of_others(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                await ledger.put_lease(net, SIX, attrs(TWO))
                start = await ledger.snapshot(net)
                await ledger.put_lease(net, FIVE, attrs(ONE))
                await ledger.revoke(net, FIVE)
                upto = await ledger.snapshot(net)
                found = await ledger.replay(net, after=start.revision.number, upto=upto)
                assert self._state(found) in ({}, {FIVE: None})
                await ledger.revoke(net, SIX)
                upto = await ledger.snapshot(net)
                found = await ledger.replay(net, after=start.revision.number, upto=upto)
                assert self._state(found) in ({SIX: None}, {FIVE: None, SIX: None})

        run(story())

    def test_what_happened_after_the_snapshot_is_not_replayed(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                await ledger.put_lease(net, FIVE, attrs(ONE))
                start = await ledger.snapshot(net)
                revision = await ledger.revoke(net, FIVE)
                upto = await ledger.snapshot(net)
                await ledger.put_lease(net, FIVE, attrs(ONE))
                await ledger.put_lease(net, SIX, attrs(TWO))
                await ledger.revoke(net, FIVE)
                found = await ledger.replay(net, after=start.revision.number, upto=upto)
                assert found == [LeaseGone(FIVE, revision)]

        run(story())

    def test_a_lease_that_ended_is_replayed_as_gone(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                lease = await ledger.grant(net, config(), attrs(ONE))
                start = await ledger.snapshot(net)
                await asyncio.to_thread(self.expire, net, lease.record.subnet.key)
                upto = await ledger.snapshot(net)
                found = await ledger.replay(net, after=start.revision.number, upto=upto)
                assert self._state(found) == {lease.record.subnet: None}

        run(story())

    def test_a_lease_whose_value_turned_bad_is_replayed_as_gone(self, net: str) -> None:
        self.put_lease(net, FIVE.key, value(ONE))
        self.put_lease(net, SIX.key, "poison that stands")
        self.put_lease(net, "foo", value(TWO))

        async def story() -> None:
            async with self.open() as ledger:
                start = await ledger.snapshot(net)
                await asyncio.to_thread(self.put_lease, net, FIVE.key, "{")
                upto = await ledger.snapshot(net)
                found = await ledger.replay(net, after=start.revision.number, upto=upto)
                assert self._state(found) == {FIVE: None}

        run(story())

    def test_one_change_among_more_leases_than_a_page_is_replayed(self, net: str) -> None:
        names = [f"10.{at >> 8}.{at & 255}.0-24" for at in range(1500)]
        self.put_leases(net, [(name, value(ONE)) for name in names])

        async def story() -> None:
            async with self.open() as ledger:
                start = await ledger.snapshot(net)
                last = Subnet.from_key(names[-1])
                assert last is not None
                revision = await ledger.revoke(net, last)
                upto = await ledger.snapshot(net)
                found = await ledger.replay(net, after=start.revision.number, upto=upto)
                assert found == [LeaseGone(last, revision)]

        run(story())

    def test_a_watch_from_a_forgotten_revision_says_so(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                listing, snapshot = await ledger.networks(), await ledger.snapshot(net)
                for raw in (b"1", b"2"):
                    await ledger.write_config(net, raw)
                await asyncio.to_thread(self.compact)
                async with reading(ledger.watch_networks(after=listing.revision)) as watch:
                    assert isinstance(await watch.end(), Compacted)
                async with watched(ledger, net, snapshot.revision) as changes:
                    assert isinstance(await changes.end(), Compacted)

        run(story())

    def test_what_is_forgotten_is_not_replayed(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                await ledger.put_lease(net, FIVE, attrs(ONE))
                start = await ledger.snapshot(net)
                await ledger.revoke(net, FIVE)
                await ledger.put_lease(net, SIX, attrs(TWO))
                await asyncio.to_thread(self.compact)
                upto = await ledger.snapshot(net)
                with pytest.raises(Compacted):
                    await ledger.replay(net, after=start.revision.number, upto=upto)

        run(story())

    @staticmethod
    def _state(changes: list[Change]) -> dict[Subnet, LeaseRecord | None]:
        """What `changes`, which must be in order, leave of each subnet."""
        assert [_at(change) for change in changes] == sorted(_at(change) for change in changes)
        state: dict[Subnet, LeaseRecord | None] = {}
        for change in changes:
            if isinstance(change, LeaseWritten):
                state[change.record.subnet] = change.record
            elif isinstance(change, LeaseGone):
                state[change.subnet] = None
        return state


def _at(change: Change) -> int:
    """The revision of a lease's change."""
    assert isinstance(change, LeaseWritten | LeaseGone)
    return change.record.revision if isinstance(change, LeaseWritten) else change.revision
