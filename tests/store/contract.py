"""The definition of a lease store: what every implementation passes.

An implementation's test module subclasses `LeaseStoreContract` and says how to open a store and how to write to it
behind its back. Networks are fresh in each test.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AbstractAsyncContextManager

import pytest

from flannel_multi.model.errors import LeaseLost, NoSubnetLeft
from flannel_multi.model.lease import LEASE_TTL_S, encode_value
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.protocol import ConfigWritten, Known, LeaseGone, LeaseStore, LeaseWritten, Skipped
from tests.store.rig import CONFIG, attrs, config, run, value, watched

_numbers = itertools.count()
SMALL = b'{"Network":"10.1.0.0/16","SubnetLen":24,"SubnetMin":"10.1.1.0","SubnetMax":"10.1.2.0",' \
    b'"Backend":{"Type":"vxlan"}}'  # fmt: skip


class LeaseStoreContract:
    """Subclass it, and fill in the six methods below."""

    def open(self) -> AbstractAsyncContextManager[LeaseStore]:
        """A store with nothing known."""
        raise NotImplementedError

    def put_config(self, network: str, raw: bytes) -> None:
        raise NotImplementedError

    def delete_config(self, network: str) -> None:
        raise NotImplementedError

    def put_lease(self, network: str, name: str | bytes, raw: str | bytes, *, permanent: bool = False) -> None:
        """Writes `raw` under the last key element `name`."""
        raise NotImplementedError

    def delete_lease(self, network: str, name: str) -> None:
        raise NotImplementedError

    def expire(self, network: str, name: str) -> None:
        """Makes the lease end as if its time had run out."""
        raise NotImplementedError

    @pytest.fixture
    def net(self) -> str:
        """A network that no test has used, with a config."""
        network = f"net{next(_numbers)}"
        self.put_config(network, CONFIG)
        return network

    # -- snapshot ------------------------------------------------------------------------------------------------

    def test_an_absent_network_is_empty_and_has_no_config(self) -> None:
        async def story() -> None:
            async with self.open() as store:
                snapshot = await store.snapshot("nobody")
                assert (snapshot.config, dict(snapshot.leases), snapshot.skipped) == (None, {}, ())
                assert not snapshot.restored

        run(story())

    def test_a_snapshot_holds_the_config_and_every_lease(self, net: str) -> None:
        self.put_lease(net, "10.1.5.0-24", value("192.0.2.5"))
        self.put_lease(net, "10.1.6.0-24", value("192.0.2.6"), permanent=True)

        async def story() -> None:
            async with self.open() as store:
                snapshot = await store.snapshot(net)
                assert snapshot.config == CONFIG
                assert sorted(map(str, snapshot.leases)) == ["10.1.5.0/24", "10.1.6.0/24"]
                assert not snapshot.leases[Subnet.parse("10.1.5.0/24")].permanent
                assert snapshot.leases[Subnet.parse("10.1.6.0/24")].permanent

        run(story())

    def test_a_network_whose_name_another_begins_with_is_kept_apart(self, net: str) -> None:
        self.put_lease(net + "x", "10.1.5.0-24", value("192.0.2.5"))

        async def story() -> None:
            async with self.open() as store:
                assert not (await store.snapshot(net)).leases

        run(story())

    @pytest.mark.parametrize("what", ["nothing", "written", "deleted", "deleted and written", "turned bad"])
    def test_a_difference_to_what_is_known_gives_the_same_as_a_whole_listing(self, net: str, what: str) -> None:
        for number in range(5):
            self.put_lease(net, f"10.1.{number}.0-24", value(f"192.0.2.{number}"))

        async def story() -> None:
            async with self.open() as store, self.open() as other:
                before = await store.snapshot(net)
                if "deleted" in what:
                    self.delete_lease(net, "10.1.2.0-24")
                if "written" in what:
                    self.put_lease(net, "10.1.3.0-24", value("192.0.2.77"))
                    self.put_lease(net, "10.1.9.0-24", value("192.0.2.9"))
                if "bad" in what:
                    self.put_lease(net, "10.1.3.0-24", "{")
                after = await store.snapshot(net, known=Known(before.revision, before.leases))
                again = await store.snapshot(net, known=Known(after.revision, after.leases))
                whole = await other.snapshot(net)
                assert after.leases == whole.leases == again.leases
                assert not after.restored

        run(story())

    def test_more_leases_than_a_page_are_all_listed(self, net: str) -> None:
        names = [f"10.{at >> 8}.{at & 255}.0-24" for at in range(2500)]
        self.put_leases(net, [(name, value("192.0.2.1")) for name in names])

        async def story() -> None:
            async with self.open() as store:
                assert len((await store.snapshot(net)).leases) == 2500

        run(story())

    def put_leases(self, network: str, items: list[tuple[str, str]]) -> None:
        """Many at once; a faster way is welcome."""
        for name, raw in items:
            self.put_lease(network, name, raw)

    # -- watch ---------------------------------------------------------------------------------------------------

    def test_a_watch_gives_every_change_after_its_revision_in_order(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                start = await store.snapshot(net)
                self.put_lease(net, "10.1.5.0-24", value("192.0.2.5"))
                async with watched(store, net, start.revision) as watch:
                    await watch.until(lambda: len(watch.changes) == 1)
                    await asyncio.to_thread(self.put_config, net, b"two")
                    await asyncio.to_thread(self.delete_lease, net, "10.1.5.0-24")
                    await asyncio.to_thread(self.delete_config, net)
                    await watch.until(lambda: len(watch.changes) == 4)
                first, second, third, fourth = watch.changes
                assert isinstance(first, LeaseWritten)
                assert first.record.attrs.public_ip == attrs("192.0.2.5").public_ip
                assert isinstance(second, ConfigWritten)
                assert second.config == b"two"
                assert isinstance(third, LeaseGone)
                assert third.subnet == Subnet.parse("10.1.5.0/24")
                assert isinstance(fourth, ConfigWritten)
                assert fourth.config is None
                numbers = [first.record.revision, second.revision, third.revision, fourth.revision]
                assert numbers == sorted(numbers)

        run(story())

    def test_a_lease_that_ends_is_gone_in_the_watch(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                start = await store.snapshot(net)
                async with watched(store, net, start.revision) as watch:
                    await asyncio.to_thread(self.expire, net, lease.record.subnet.key)
                    await watch.until(lambda: bool(watch.changes))
                    assert isinstance(watch.changes[0], LeaseGone)

        run(story())

    def test_a_known_lease_whose_value_turns_bad_is_gone_and_then_skipped(self, net: str) -> None:
        self.put_lease(net, "10.1.5.0-24", value("192.0.2.5"))

        async def story() -> None:
            async with self.open() as store:
                start = await store.snapshot(net)
                async with watched(store, net, start.revision) as watch:
                    await asyncio.to_thread(self.put_lease, net, "10.1.5.0-24", b"\xff\x00{")
                    await asyncio.to_thread(self.put_lease, net, "10.1.6.0-24", value("192.0.2.6"))
                    await watch.until(lambda: len(watch.changes) == 3)
                    assert isinstance(watch.changes[0], LeaseGone)
                    assert isinstance(watch.changes[1], Skipped)
                    assert isinstance(watch.changes[2], LeaseWritten)

        run(story())

    # -- acquire -------------------------------------------------------------------------------------------------

    def test_a_new_host_gets_a_free_subnet_for_a_day(self, net: str) -> None:
        self.put_lease(net, "10.1.1.0-24", value("192.0.2.9"))

        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                assert lease.ttl_s == LEASE_TTL_S
                assert Subnet.parse("10.1.0.0/16").covers(lease.record.subnet)
                assert lease.record.subnet != Subnet.parse("10.1.1.0/24")
                assert (await store.snapshot(net)).leases[lease.record.subnet] == lease.record

        run(story())

    def test_the_preferred_subnet_is_taken_while_free_and_left_when_not(self, net: str) -> None:
        async def story() -> None:
            wish = Subnet.parse("10.1.77.0/24")
            async with self.open() as store:
                mine = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=wish)
                other = await store.acquire(net, config(), attrs("192.0.2.2"), prefer=wish)
                assert mine.record.subnet == wish
                assert other.record.subnet != wish

        run(story())

    def test_the_own_lease_is_found_again_and_brought_up_to_date(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store, self.open() as later:
                first = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                same = await later.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                assert same.record == first.record
                new = await later.acquire(net, config(), attrs("192.0.2.1", vni=7), prefer=None)
                assert new.record.subnet == first.record.subnet
                assert new.record.lease_id == first.record.lease_id
                assert new.record.attrs.backend_data["VNI"] == 7
                assert (await store.snapshot(net)).leases[new.record.subnet] == new.record

        run(story())

    def test_an_outdated_first_listing_does_no_harm(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                empty = await store.snapshot(net)
                wish = Subnet.parse("10.1.77.0/24")
                await store.acquire(net, config(), attrs("192.0.2.1"), prefer=wish)
                other = await store.acquire(net, config(), attrs("192.0.2.2"), prefer=wish, first=empty)
                assert other.record.subnet != wish

        run(story())

    def test_a_full_network_is_said_and_a_lease_that_goes_makes_room(self, net: str) -> None:
        async def story() -> None:
            small = config(SMALL)
            async with self.open() as store:
                one = await store.acquire(net, small, attrs("192.0.2.1"), prefer=None)
                await store.acquire(net, small, attrs("192.0.2.2"), prefer=None)
                with pytest.raises(NoSubnetLeft, match=r"10\.1\.1\.0 to 10\.1\.2\.0"):
                    await store.acquire(net, small, attrs("192.0.2.3"), prefer=None)
                full = await store.snapshot(net)
                await store.release(net, one)
                three = await store.acquire(net, small, attrs("192.0.2.3"), prefer=None, first=full)
                assert three.record.subnet == one.record.subnet

        run(story())

    def test_an_own_lease_that_no_longer_fits_is_deleted(self, net: str) -> None:
        self.put_lease(net, "10.7.0.0-24", value("192.0.2.1"))

        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                assert list((await store.snapshot(net)).leases) == [lease.record.subnet]

        run(story())

    def test_a_reservation_is_taken_and_stays_without_end(self, net: str) -> None:
        self.put_lease(net, "10.1.50.0-24", value("192.0.2.1"), permanent=True)

        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                assert (str(lease.record.subnet), lease.ttl_s) == ("10.1.50.0/24", None)
                lease = await store.publish(net, lease, attrs("192.0.2.1", vni=3))
                assert (await store.renew(net, lease)).ttl_s is None
                await store.release(net, lease)
                kept = (await store.snapshot(net)).leases[lease.record.subnet]
                assert kept.permanent
                assert kept.attrs == attrs("192.0.2.1", vni=3)

        run(story())

    # -- renew, publish, release ---------------------------------------------------------------------------------

    def test_a_renewal_writes_no_key(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                before = await store.snapshot(net)
                assert await store.renew(net, lease) == lease
                after = await store.snapshot(net)
                assert after.revision == before.revision

        run(story())

    def test_a_lease_that_ended_is_lost_at_the_renewal(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                self.expire(net, lease.record.subnet.key)
                with pytest.raises(LeaseLost, match="is gone"):
                    await store.renew(net, lease)
                again = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=lease.record.subnet)
                assert again.record.subnet == lease.record.subnet

        run(story())

    def test_a_host_that_wakes_late_does_not_take_its_subnet_back(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                self.expire(net, lease.record.subnet.key)
                other = await store.acquire(net, config(), attrs("192.0.2.2"), prefer=lease.record.subnet)
                for attempt in (
                    store.renew(net, lease),
                    store.publish(net, lease, attrs("192.0.2.1", vni=9)),
                ):
                    with pytest.raises(LeaseLost, match=r"192\.0\.2\.2"):
                        await attempt
                await store.release(net, lease)
                assert (await store.snapshot(net)).leases == {other.record.subnet: other.record}

        run(story())

    def test_attributes_are_published_on_the_same_lease(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                moved = await store.publish(net, lease, attrs("192.0.2.11", vni=5))
                assert moved.record.lease_id == lease.record.lease_id
                assert (await store.snapshot(net)).leases == {lease.record.subnet: moved.record}
                assert (await store.renew(net, moved)).record == moved.record

        run(story())

    def test_an_own_key_that_was_rewritten_meanwhile_is_published_all_the_same(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                await store.publish(net, lease, attrs("192.0.2.1", vni=2))
                written = await store.publish(net, lease, attrs("192.0.2.1", vni=3))
                assert (await store.snapshot(net)).leases[lease.record.subnet] == written.record

        run(story())

    def test_a_lease_made_a_reservation_is_renewed_without_end(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                name = lease.record.subnet.key
                self.put_lease(net, name, encode_value(lease.record.attrs), permanent=True)
                assert (await store.renew(net, lease)).ttl_s is None

        run(story())

    def test_a_released_lease_is_gone_and_a_second_release_is_no_error(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
                await store.release(net, lease)
                assert not (await store.snapshot(net)).leases
                await store.release(net, lease)

        run(story())
