"""The ledger's contract: leases that are granted, put and revoked."""

from __future__ import annotations

import asyncio

import pytest

from flannel_multi.model.errors import KeyAbsent, LeaseHeld, NoSubnetLeft
from flannel_multi.model.lease import LEASE_TTL_S
from flannel_multi.model.subnet import Subnet, format_ip, parse_ip
from flannel_multi.store.expiries import NEVER
from flannel_multi.store.protocol import (
    Lease,
    LeaseGone,
    LeaseWritten,
)
from tests.store.contract import SMALL
from tests.store.ledger_hooks import FIVE, ONE, SIX, TWO, LedgerHooks, ends_in, lease_of
from tests.store.rig import attrs, config, run, value, watched


class LeasesContract(LedgerHooks):
    # -- grant ---------------------------------------------------------------------------------------------------

    def test_a_grant_gives_a_new_host_a_lease_and_knows_its_end(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                lease = await ledger.grant(net, config(), attrs(ONE))
                assert lease.ttl_s == LEASE_TTL_S
                assert await lease_of(ledger, net, lease.record.subnet) == lease.record
                assert ends_in(ledger, lease.record, LEASE_TTL_S)

        run(story())

    def test_a_grant_of_what_the_host_has_writes_the_key_all_the_same(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as later:
                first = await ledger.grant(net, config(), attrs(ONE))
                start = await ledger.snapshot(net)
                async with watched(ledger, net, start.revision) as watch:
                    same = await later.grant(net, config(), attrs(ONE))
                    await watch.until(lambda: len(watch.changes) == 1)
                    other = await later.grant(net, config(), attrs(ONE, vni=7))
                    await watch.until(lambda: len(watch.changes) == 2)
                assert watch.changes == [LeaseWritten(same.record), LeaseWritten(other.record)]
                for again in (same, other):
                    assert again.record.subnet == first.record.subnet
                    assert again.record.lease_id == first.record.lease_id
                    assert again.ttl_s == LEASE_TTL_S
                assert same.record.attrs == first.record.attrs
                assert ends_in(later, same.record, LEASE_TTL_S)

        run(story())

    def test_an_outdated_first_listing_grants_no_subnet_twice(self, net: str) -> None:
        async def story() -> None:
            small = config(SMALL)
            async with self.open() as ledger:
                empty = await ledger.snapshot(net)
                one = await ledger.grant(net, small, attrs(ONE), first=empty)
                other = await ledger.grant(net, small, attrs(TWO), first=empty)
                full = await ledger.snapshot(net)
                again = await ledger.grant(net, small, attrs(ONE), first=full)
                assert again.record.subnet == one.record.subnet != other.record.subnet
                await ledger.revoke(net, one.record.subnet)
                third = await ledger.grant(net, small, attrs("192.0.2.3"), first=full)
                assert third.record.subnet == one.record.subnet

        run(story())

    def test_a_granted_reservation_stays_without_end(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                await ledger.reserve(net, FIVE, parse_ip(ONE))
                before = await ledger.snapshot(net)
                lease = await ledger.grant(net, config(), attrs(ONE))
                assert (lease.record.subnet, lease.ttl_s, lease.record.permanent) == (FIVE, None, True)
                assert lease.record.revision > before.revision.number
                assert await lease_of(ledger, net, FIVE) == lease.record
                assert ledger.expiries.of(lease.record) == NEVER

        run(story())

    def test_a_full_network_grants_nothing_new_and_finds_what_a_host_has(self, net: str) -> None:
        async def story() -> None:
            small = config(SMALL)
            async with self.open() as ledger:
                await ledger.write_config(net, SMALL)
                one = await ledger.grant(net, small, attrs(ONE))
                await ledger.grant(net, small, attrs(TWO))
                with pytest.raises(NoSubnetLeft):
                    await ledger.grant(net, small, attrs("192.0.2.3"))
                assert (await ledger.grant(net, small, attrs(ONE))).record.subnet == one.record.subnet

        run(story())

    # -- put_lease -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("ttl_s", [LEASE_TTL_S, 500, None])
    def test_a_lease_that_is_absent_is_created_to_end_as_asked(self, net: str, ttl_s: int | None) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                lease = await ledger.put_lease(net, FIVE, attrs(ONE), ttl_s=ttl_s)
                assert (lease.record.subnet, lease.record.attrs, lease.ttl_s) == (FIVE, attrs(ONE), ttl_s)
                assert lease.record.permanent == (ttl_s is None)
                assert await lease_of(other, net, FIVE) == lease.record
                for asked in (ledger, other):
                    await asked.learn_expiries([lease.record])
                    if ttl_s is None:
                        assert asked.expiries.of(lease.record) == NEVER
                    else:
                        assert ends_in(asked, lease.record, ttl_s)

        run(story())

    def test_a_lease_put_again_stays_the_same_lease_with_a_new_revision(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                first = await ledger.grant(net, config(), attrs(ONE))
                subnet = first.record.subnet
                same = await other.put_lease(net, subnet, attrs(ONE))
                new = await other.put_lease(net, subnet, attrs(ONE, vni=9))
                for lease in (same, new):
                    assert lease.record.lease_id == first.record.lease_id
                    assert lease.ttl_s == LEASE_TTL_S
                    assert ends_in(other, lease.record, LEASE_TTL_S)
                assert first.record.revision < same.record.revision < new.record.revision
                assert await lease_of(ledger, net, subnet) == new.record

        run(story())

    def test_a_lease_put_again_outlives_its_first_end(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                await ledger.put_lease(net, FIVE, attrs(ONE), ttl_s=4)
                await ledger.put_lease(net, SIX, attrs(TWO), ttl_s=4)
                start = await ledger.snapshot(net)
                async with watched(ledger, net, start.revision) as watch:
                    await asyncio.sleep(2.5)
                    await ledger.put_lease(net, FIVE, attrs(ONE))
                    await watch.until(lambda: any(isinstance(change, LeaseGone) for change in watch.changes))
                    left = await ledger.snapshot(net)
                assert list(left.leases) == [FIVE]

        run(story())

    @pytest.mark.parametrize("how", ["acquired", "renewed", "put"])
    def test_a_lease_that_was_written_with_little_time_left_gets_a_full_day_from_its_host(
        self, net: str, how: str
    ) -> None:
        """As a copy from another store writes them."""

        async def story() -> None:
            async with self.open() as ledger:
                short = await ledger.put_lease(net, FIVE, attrs(ONE), ttl_s=300)
                if how == "acquired":
                    lease = await ledger.acquire(net, config(), attrs(ONE), prefer=None)
                elif how == "renewed":
                    lease = await ledger.renew(net, short)
                else:
                    lease = await ledger.put_lease(net, FIVE, attrs(ONE))
                assert lease.ttl_s == LEASE_TTL_S
                assert await lease_of(ledger, net, FIVE) == lease.record
                again = await ledger.renew(net, lease)
                assert (again.record, again.ttl_s) == (lease.record, LEASE_TTL_S)

        run(story())

    def test_whoever_sees_a_lease_put_knows_its_end_as_the_one_who_put_it(self, net: str) -> None:
        """Both exchanges X15 and X16 of the spec show one Expiration."""

        async def story() -> None:
            async with self.open() as ledger:
                first = await ledger.put_lease(net, FIVE, attrs(ONE), ttl_s=500)
                ledger.expiries.note(first.record, 77)  # old and wrong: what an event must not show
                seen: list[int | None] = []

                async def look() -> None:
                    async for change in ledger.watch(net, after=start.revision):
                        assert isinstance(change, LeaseWritten)
                        seen.append(ledger.expiries.of(change.record))
                        if len(seen) == 2:
                            return

                start = await ledger.snapshot(net)
                looking = asyncio.create_task(look())
                again = await ledger.put_lease(net, FIVE, attrs(ONE))
                new = await ledger.put_lease(net, SIX, attrs(TWO), ttl_s=300)
                await asyncio.wait_for(looking, 10)
                known = [ledger.expiries.of(lease.record) for lease in (again, new)]
                assert all(
                    a is not None and b is not None and abs(a - b) <= 1 for a, b in zip(seen, known, strict=True)
                )
                assert ends_in(ledger, again.record, LEASE_TTL_S)
                assert ends_in(ledger, new.record, 300)

        run(story())

    def test_a_reservation_that_is_put_keeps_having_no_end(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                await ledger.reserve(net, FIVE, parse_ip(ONE))
                lease = await ledger.put_lease(net, FIVE, attrs(ONE, vni=4))
                assert (lease.ttl_s, lease.record.permanent) == (None, True)
                assert await lease_of(ledger, net, FIVE) == lease.record
                assert lease.record.attrs == attrs(ONE, vni=4)

        run(story())

    @pytest.mark.parametrize("permanent", [False, True])
    def test_a_lease_of_another_host_is_not_overwritten(self, net: str, permanent: bool) -> None:
        self.put_lease(net, FIVE.key, value(ONE), permanent=permanent)

        async def story() -> None:
            async with self.open() as ledger:
                before = await ledger.snapshot(net)
                for replaces in (None, parse_ip("192.0.2.9")):
                    with pytest.raises(LeaseHeld) as caught:
                        await ledger.put_lease(net, FIVE, attrs(TWO), replaces=replaces)
                    assert caught.value.holder == ONE
                    assert caught.value.message == f"lease {FIVE} is held by {ONE}"
                after = await ledger.snapshot(net)
                assert (after.leases, after.revision) == (before.leases, before.revision)

        run(story())

    def test_a_host_with_a_new_address_puts_its_lease_by_naming_the_old_one(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                first = await ledger.grant(net, config(), attrs(ONE))
                subnet = first.record.subnet
                moved = await ledger.put_lease(net, subnet, attrs(TWO), replaces=parse_ip(ONE))
                assert moved.record.lease_id == first.record.lease_id
                assert await lease_of(ledger, net, subnet) == moved.record
                assert moved.record.attrs == attrs(TWO)

        run(story())

    def test_of_two_hosts_that_put_one_absent_lease_at_once_one_gets_it(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                for at in range(5):
                    subnet = Subnet.parse(f"10.1.{at}.0/24")
                    results = await asyncio.gather(
                        ledger.put_lease(net, subnet, attrs(ONE)),
                        other.put_lease(net, subnet, attrs(TWO)),
                        return_exceptions=True,
                    )
                    won = [result for result in results if isinstance(result, Lease)]
                    lost = [result for result in results if isinstance(result, LeaseHeld)]
                    assert (len(won), len(lost)) == (1, 1), results
                    assert await lease_of(ledger, net, subnet) == won[0].record
                    assert lost[0].holder == format_ip(won[0].record.attrs.public_ip)

        run(story())

    def test_puts_of_one_lease_by_its_host_at_once_all_succeed(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                first = await ledger.grant(net, config(), attrs(ONE))
                subnet = first.record.subnet
                leases = await asyncio.gather(
                    *(store.put_lease(net, subnet, attrs(ONE, vni=at)) for at, store in enumerate((ledger, other)))
                )
                assert {lease.record.lease_id for lease in leases} == {first.record.lease_id}
                last = max((lease.record for lease in leases), key=lambda record: record.revision)
                assert await lease_of(ledger, net, subnet) == last

        run(story())

    # -- revoke --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("permanent", [False, True])
    def test_a_revoked_lease_or_reservation_is_gone_and_told(self, net: str, permanent: bool) -> None:
        self.put_lease(net, FIVE.key, value(ONE), permanent=permanent)

        async def story() -> None:
            async with self.open() as ledger:
                start = await ledger.snapshot(net)
                async with watched(ledger, net, start.revision) as watch:
                    revision = await ledger.revoke(net, FIVE)
                    await watch.until(lambda: bool(watch.changes))
                assert watch.changes == [LeaseGone(FIVE, revision)]
                assert not (await ledger.snapshot(net)).leases

        run(story())

    def test_revoking_an_absent_lease_names_the_key_and_the_revision(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                now = (await ledger.snapshot(net)).revision.number
                with pytest.raises(KeyAbsent) as caught:
                    await ledger.revoke(net, FIVE)
                assert caught.value.key.endswith(f"{net}/subnets/{FIVE.key}")
                assert caught.value.revision >= now

        run(story())

    def test_a_lease_of_another_holder_is_not_revoked(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                lease = await ledger.put_lease(net, FIVE, attrs(ONE))
                with pytest.raises(LeaseHeld) as caught:
                    await ledger.revoke(net, FIVE, holder=parse_ip(TWO))
                assert caught.value.holder == ONE
                assert await lease_of(ledger, net, FIVE) == lease.record
                await ledger.revoke(net, FIVE, holder=parse_ip(ONE))
                assert await lease_of(ledger, net, FIVE) is None

        run(story())

    def test_a_key_whose_value_is_no_lease_can_be_revoked_and_written_over(self, net: str) -> None:
        self.put_lease(net, FIVE.key, "poison")
        self.put_lease(net, SIX.key, b"\xff", permanent=True)

        async def story() -> None:
            async with self.open() as ledger:
                await ledger.revoke(net, FIVE, holder=parse_ip(ONE))
                lease = await ledger.put_lease(net, SIX, attrs(ONE))
                snapshot = await ledger.snapshot(net)
                assert (dict(snapshot.leases), snapshot.skipped) == ({SIX: lease.record}, ())

        run(story())
