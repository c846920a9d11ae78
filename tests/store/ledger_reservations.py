"""The ledger's contract: reservations, and when leases end."""

from __future__ import annotations

import asyncio
import re

import pytest

from flannel_multi.model.errors import KeyAbsent, LeaseHeld
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord, encode_value
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.store.expiries import NEVER
from flannel_multi.store.protocol import (
    LeaseWritten,
)
from tests.store.ledger_hooks import FIVE, ONE, SIX, TWO, LedgerHooks, ends_in, lease_of
from tests.store.rig import attrs, config, run, value, watched


class ReservationsContract(LedgerHooks):
    # -- reserve, unreserve --------------------------------------------------------------------------------------

    def test_a_free_subnet_is_reserved_without_end_and_told(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                start = await ledger.snapshot(net)
                async with watched(ledger, net, start.revision) as watch:
                    record = await ledger.reserve(net, FIVE, parse_ip(ONE))
                    await watch.until(lambda: bool(watch.changes))
                assert (record.subnet, record.attrs, record.permanent) == (FIVE, LeaseAttrs(parse_ip(ONE)), True)
                assert watch.changes == [LeaseWritten(record)]
                assert await lease_of(ledger, net, FIVE) == record
                assert ledger.expiries.of(record) == NEVER
                again = await ledger.reserve(net, FIVE, parse_ip(ONE))
                assert (again.attrs, again.permanent) == (record.attrs, True)

        run(story())

    def test_a_lease_that_its_host_has_loses_its_end_and_keeps_its_attributes(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                await ledger.put_lease(net, FIVE, attrs(ONE, vni=8))
                record = await ledger.reserve(net, FIVE, parse_ip(ONE))
                assert (record.attrs, record.permanent) == (attrs(ONE, vni=8), True)
                assert await lease_of(ledger, net, FIVE) == record

        run(story())

    def test_a_subnet_that_another_host_holds_is_not_reserved(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                lease = await ledger.put_lease(net, FIVE, attrs(ONE))
                kept = await ledger.reserve(net, SIX, parse_ip(ONE))
                for subnet in (FIVE, SIX):
                    with pytest.raises(LeaseHeld) as caught:
                        await ledger.reserve(net, subnet, parse_ip(TWO))
                    assert caught.value.holder == ONE
                assert await lease_of(ledger, net, FIVE) == lease.record
                assert await lease_of(ledger, net, SIX) == kept

        run(story())

    def test_of_two_reservations_of_one_subnet_at_once_one_stands(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                results = await asyncio.gather(
                    ledger.reserve(net, FIVE, parse_ip(ONE)),
                    other.reserve(net, FIVE, parse_ip(TWO)),
                    return_exceptions=True,
                )
                won = [result for result in results if isinstance(result, LeaseRecord)]
                assert len(won) == 1, results
                assert sum(isinstance(result, LeaseHeld) for result in results) == 1, results
                assert await lease_of(ledger, net, FIVE) == won[0]

        run(story())

    def test_a_reservation_made_while_its_host_puts_the_lease_stands(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                for at in range(5):
                    subnet = Subnet.parse(f"10.1.{at}.0/24")
                    await ledger.put_lease(net, subnet, attrs(ONE))
                    await asyncio.gather(
                        other.put_lease(net, subnet, attrs(ONE, vni=3)), ledger.reserve(net, subnet, parse_ip(ONE))
                    )
                    found = await lease_of(ledger, net, subnet)
                    assert found is not None
                    assert (found.permanent, found.attrs) == (True, attrs(ONE, vni=3))

        run(story())

    def test_a_reservation_given_back_ends_in_a_day_with_its_attributes_and_again(self, net: str) -> None:
        self.put_lease(net, FIVE.key, encode_value(attrs(ONE, vni=6)), permanent=True)

        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                start = await ledger.snapshot(net)
                async with watched(ledger, net, start.revision) as watch:
                    first = await ledger.unreserve(net, FIVE)
                    again = await ledger.unreserve(net, FIVE)
                    await watch.until(lambda: len(watch.changes) == 2)
                assert watch.changes == [LeaseWritten(first), LeaseWritten(again)]
                for record in (first, again):
                    assert (record.permanent, record.attrs) == (False, attrs(ONE, vni=6))
                    assert ends_in(ledger, again, LEASE_TTL_S)
                assert await lease_of(ledger, net, FIVE) == again
                await other.learn_expiries([again])
                assert ends_in(other, again, LEASE_TTL_S)

        run(story())

    def test_what_is_absent_cannot_be_given_back(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                with pytest.raises(KeyAbsent, match=re.escape(f"{net}/subnets/{FIVE.key}) [")):
                    await ledger.unreserve(net, FIVE)

        run(story())

    # -- expiries ------------------------------------------------------------------------------------------------

    def test_the_ends_of_leases_that_others_hold_are_learnt(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                await other.put_lease(net, FIVE, attrs(ONE), ttl_s=500)
                await other.reserve(net, SIX, parse_ip(TWO))
                records = (await ledger.snapshot(net)).leases
                await ledger.learn_expiries(records.values())
                assert ends_in(ledger, records[FIVE], 500)
                assert ledger.expiries.of(records[SIX]) == NEVER

        run(story())

    def test_the_end_of_a_lease_that_is_gone_stays_unknown(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                lease = await other.grant(net, config(), attrs(ONE))
                await asyncio.to_thread(self.expire, net, lease.record.subnet.key)
                await ledger.learn_expiries([lease.record])
                assert ledger.expiries.of(lease.record) is None

        run(story())

    def test_the_ends_of_many_leases_are_learnt_in_a_few_calls(self, net: str) -> None:
        for at in range(120):
            self.put_lease(net, f"10.1.{at}.0-24", value(ONE))

        async def story() -> None:
            async with self.open() as ledger:
                records = list((await ledger.snapshot(net)).leases.values())
                for _ in range(2):
                    await ledger.learn_expiries(records)
                assert not ledger.expiries.unknown(records)

        run(story())

    def test_a_renewal_tells_the_new_end(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                lease = await other.acquire(net, config(), attrs(ONE), prefer=None)
                assert ends_in(other, lease.record, LEASE_TTL_S)
                await ledger.renew(net, lease)
                assert ends_in(ledger, lease.record, LEASE_TTL_S)

        run(story())
