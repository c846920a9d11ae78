"""The remote store against flanneld servers of 0.5 to 0.7, which know nothing of our extensions."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from flannel_multi.model.config import parse_config
from flannel_multi.model.errors import (
    Compacted,
    ConfigError,
    KeyAbsent,
    LeaseHeld,
    LeaseLost,
    NoSubnetLeft,
    StoreRefused,
    StoreUnavailable,
)
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.store.protocol import (
    ConfigWritten,
    Known,
    LeaseGone,
    LeaseWritten,
    NetworkGone,
    NetworkWritten,
    Revision,
)
from flannel_worker.mirror import Mirror
from flannel_worker.tenure import Claim, judge
from tests.store.old_server import OldServer, old_server
from tests.store.remote_rig import opened_remote
from tests.store.rig import attrs, config, reading, run, watched

CONFIG = '{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}'
FIVE, SIX = Subnet.parse("10.1.5.0/24"), Subnet.parse("10.1.6.0/24")
ONE = {"PublicIP": "192.0.2.1", "BackendType": "vxlan"}
TWO = {"PublicIP": "192.0.2.2", "BackendType": "vxlan"}
BOTH = pytest.mark.parametrize("version", ["0.7", "0.5.5"])


def _fill(old: OldServer, network: str = "blue") -> None:
    old.set_config(network, CONFIG)
    old.set_lease(network, "10.1.5.0/24", ONE, 500)
    old.set_lease(network, "10.1.6.0/24", TWO, None)


@BOTH
def test_a_snapshot_has_the_parsed_config_the_leases_and_their_ends(version: str) -> None:
    async def story() -> None:
        async with old_server(version, skew_s=7200) as old, opened_remote(old.url) as store:
            _fill(old)
            snapshot = await store.snapshot("blue")
            assert snapshot.config is not None
            assert parse_config(snapshot.config).network == Subnet.parse("10.1.0.0/16")
            five, six = snapshot.leases[FIVE], snapshot.leases[SIX]
            assert (five.attrs, five.permanent, six.permanent) == (
                LeaseAttrs(parse_ip("192.0.2.1"), "vxlan"),
                False,
                True,
            )
            assert snapshot.revision.number == old.index
            end_s = store.expiries.of(five)  # by our clock, although the server's is two hours ahead
            assert end_s is not None
            assert abs(end_s - time.time() - 500) <= 3

    run(story())


def test_an_absent_network_is_empty_and_an_invalid_config_is_told_in_the_servers_words() -> None:
    async def story() -> None:
        async with old_server() as old, opened_remote(old.url) as store:
            assert (await store.snapshot("blue")).config is None
            assert (await store.read_config("blue")).config is None
            old.set_config("blue", "zzz")
            for found in (await store.snapshot("blue"), await store.read_config("blue")):
                assert found.config is not None
                with pytest.raises(ConfigError, match="the server says: invalid character 'z'"):
                    parse_config(found.config)

    run(story())


def test_what_has_not_changed_keeps_its_record_and_a_new_holder_is_told_apart() -> None:
    async def story() -> None:
        async with old_server() as old, opened_remote(old.url) as store:
            _fill(old)
            first = await store.snapshot("blue")
            old.set_lease("blue", "10.1.5.0/24", ONE, 86400)  # renewed by its host
            old.set_lease("blue", "10.1.6.0/24", ONE, None)
            second = await store.snapshot("blue", known=Known(first.revision, first.leases))
            assert second.leases[FIVE] == first.leases[FIVE]
            assert second.leases[SIX].revision == old.index
            old.set_lease("blue", "10.1.5.0/24", TWO)
            third = await store.snapshot("blue", known=Known(second.revision, second.leases))
            held = first.leases[FIVE]
            assert judge(held, third.leases[FIVE], held.attrs) is Claim.FOREIGN
            assert not third.restored

    run(story())


@BOTH
def test_every_lease_event_is_told_in_order_and_none_twice(version: str) -> None:
    async def story() -> None:
        async with old_server(version) as old, opened_remote(old.url) as store:
            _fill(old)
            start = await store.snapshot("blue")
            old.set_lease("blue", "10.1.7.0/24", ONE)
            old.set_lease("green", "10.9.7.0/24", ONE)
            async with watched(store, "blue", start.revision) as watch:
                await watch.until(lambda: len(watch.changes) == 1)
                old.drop_lease("blue", "10.1.7.0/24")
                for number in range(20):
                    old.set_lease("blue", f"10.1.{100 + number}.0/24", TWO)
                await watch.until(lambda: len(watch.changes) == 22)
            written, gone, *rest = watch.changes
            assert isinstance(written, LeaseWritten)
            assert isinstance(gone, LeaseGone)
            assert gone.subnet == written.record.subnet == Subnet.parse("10.1.7.0/24")
            subnets = [str(change.record.subnet) for change in rest if isinstance(change, LeaseWritten)]
            assert subnets == [f"10.1.{100 + number}.0/24" for number in range(20)]

    run(story())


def test_a_cursor_that_the_server_has_forgotten_asks_for_a_snapshot() -> None:
    async def story() -> None:
        async with old_server() as old, opened_remote(old.url) as store:
            start = await store.snapshot("blue")
            for _ in range(1100):
                old.set_lease("green", "10.9.7.0/24", ONE)
            async with watched(store, "blue", start.revision) as watch:
                assert isinstance(await watch.end(), Compacted)

    run(story())


def test_a_config_of_a_named_network_is_told_by_event() -> None:
    async def story() -> None:
        async with old_server() as old, opened_remote(old.url) as store:
            _fill(old)
            start = await store.snapshot("blue")
            async with watched(store, "blue", start.revision) as watch:
                await asyncio.sleep(0.2)
                old.set_config("green", CONFIG)
                old.set_config("blue", CONFIG.replace("vxlan", "host-gw"))
                await watch.until(lambda: len(watch.changes) == 1, 2.0)
                old.set_config("blue", None)
                await watch.until(lambda: len(watch.changes) == 2, 2.0)
            first, second = watch.changes
            assert isinstance(first, ConfigWritten)
            assert b"host-gw" in (first.config or b"")
            assert isinstance(second, ConfigWritten)
            assert second.config is None

    run(story())


def test_where_there_is_no_event_the_config_is_asked_for_every_ten_seconds() -> None:
    async def asked(version: str, network: str) -> None:
        async with old_server(version) as old, opened_remote(old.url) as store:
            _fill(old, network or "_")
            start = await store.snapshot(network)
            async with watched(store, network, start.revision) as watch:
                await asyncio.sleep(0.5)
                assert not watch.changes
                old.set_config(network or "_", CONFIG.replace("vxlan", "host-gw"))
                await watch.until(lambda: len(watch.changes) == 1, 12.0)
            (change,) = watch.changes
            assert isinstance(change, ConfigWritten)
            assert b"host-gw" in (change.config or b"")

    async def story() -> None:
        await asyncio.gather(asked("0.7", ""), asked("0.5.5", "blue"))

    run(story())


@BOTH
def test_a_host_gets_its_lease_keeps_it_and_no_write_of_its_own_is_waited_for(version: str) -> None:
    async def story() -> None:
        async with old_server(version) as old, opened_remote(old.url) as store:
            old.set_config("blue", CONFIG)
            start = await store.snapshot("blue")
            mirror = Mirror()
            mirror.listed(start, now_s=0.0)
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
            assert (lease.ttl_s, lease.record.attrs) == (LEASE_TTL_S, attrs("192.0.2.1"))
            mirror.wrote(lease.record)
            assert not mirror.is_ahead(lease.record)  # else the worker would wait for an event with that very number
            async with watched(store, "blue", start.revision) as watch:
                await watch.until(lambda: bool(watch.changes))
                mirror.changed(watch.changes[0])
                seen = mirror.leases[lease.record.subnet]
                assert judge(lease.record, seen, lease.record.attrs) in (Claim.OURS, Claim.MOVED)
            renewed = await store.renew("blue", lease)
            assert renewed.record.lease_id == lease.record.lease_id
            published = await store.publish("blue", renewed, attrs("192.0.2.1", vni=7))
            assert published.record.attrs.backend_data["VNI"] == 7
            assert old.leases["blue"][str(lease.record.subnet)]["Attrs"]["BackendData"]["VNI"] == 7

    run(story())


@BOTH
def test_a_lease_of_another_is_not_written_over(version: str) -> None:
    async def story() -> None:
        async with old_server(version) as old, opened_remote(old.url) as store:
            old.set_config("blue", CONFIG)
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
            subnet = str(lease.record.subnet)
            old.drop_lease("blue", subnet)
            with pytest.raises(LeaseLost, match="is gone"):
                await store.renew("blue", lease)
            old.set_lease("blue", subnet, TWO)
            index = old.index
            for attempt in (store.renew("blue", lease), store.publish("blue", lease, attrs("192.0.2.1", vni=9))):
                with pytest.raises(LeaseLost, match=r"192\.0\.2\.2"):
                    await attempt
            await store.release("blue", lease)
            with pytest.raises(LeaseHeld):
                await store.put_lease("blue", lease.record.subnet, attrs("192.0.2.1"))
            assert old.index == index

    run(story())


def test_a_reservation_outlives_what_older_servers_do_to_it() -> None:
    async def story() -> None:
        async with old_server() as old, opened_remote(old.url) as store:
            old.set_config("blue", CONFIG)
            old.set_lease("blue", "10.1.6.0/24", {"PublicIP": "192.0.2.1"}, None)
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
            assert (lease.record.subnet, lease.ttl_s) == (SIX, None)
            assert (await store.renew("blue", lease)).ttl_s is None
            lease = await store.publish("blue", lease, attrs("192.0.2.1", vni=3))
            assert (lease.ttl_s, lease.record.permanent) == (None, True)
            await store.release("blue", lease)
            there = (await store.snapshot("blue")).leases[SIX]
            assert (there.permanent, there.attrs) == (True, attrs("192.0.2.1", vni=3))

    run(story())


def test_a_ledger_over_an_older_server_does_what_v1_has() -> None:
    async def story() -> None:
        async with old_server() as old, opened_remote(old.url) as store:
            for name in ("green", "blue"):
                old.set_config(name, CONFIG)
            start = await store.networks()
            assert start.names == ("blue", "green")
            async with reading(store.watch_networks(after=start.revision)) as watch:
                old.set_config("red", CONFIG)
                old.set_config("green", None)
                await watch.until(lambda: len(watch.changes) == 2)
                kinds = [(type(change), change.name) for change in watch.changes]
                assert kinds == [(NetworkWritten, "red"), (NetworkGone, "green")]
            record = await store.reserve("blue", FIVE, parse_ip("192.0.2.1"))
            assert record.permanent
            with pytest.raises(LeaseHeld, match=r"10\.1\.5\.0/24 is held by 192\.0\.2\.1"):
                await store.reserve("blue", FIVE, parse_ip("192.0.2.2"))
            assert not (await store.unreserve("blue", FIVE)).permanent
            with pytest.raises(KeyAbsent, match=r"subnets/10\.1\.6\.0-24\) \["):
                await store.unreserve("blue", SIX)
            kept = await store.put_lease("blue", SIX, attrs("192.0.2.3"), ttl_s=None)
            assert (kept.ttl_s, kept.record.attrs) == (None, attrs("192.0.2.3"))
            assert old.leases["blue"]["10.1.6.0/24"]["Expiration"].startswith("0001")
            assert (await store.put_lease("blue", FIVE, attrs("192.0.2.1"))).ttl_s == LEASE_TTL_S
            with pytest.raises(LeaseHeld):
                await store.revoke("blue", FIVE, holder=parse_ip("192.0.2.9"))
            await store.revoke("blue", FIVE)
            with pytest.raises(KeyAbsent):
                await store.revoke("blue", FIVE)
            with pytest.raises(Compacted):
                await store.replay("blue", after=1, upto=await store.snapshot("blue"))
            for attempt in (store.write_config("blue", b"{}"), store.delete_config("blue")):
                with pytest.raises(StoreRefused, match=r"http://127\S+ is an older server, which cannot .* configs"):
                    await attempt

    run(story())


def test_what_0_5_lacks_is_named() -> None:
    async def story() -> None:
        async with old_server("0.5.5") as old, opened_remote(old.url) as store:
            _fill(old)
            for attempt, what in (
                (store.networks(), "list networks"),
                (store.reserve("blue", FIVE, parse_ip("192.0.2.1")), "make reservations"),
                (store.unreserve("blue", FIVE), "end reservations"),
                (store.revoke("blue", FIVE), "delete leases"),
            ):
                with pytest.raises(StoreRefused, match=f"is an older server, which cannot {what}"):
                    await attempt

    run(story())


def test_a_full_network_is_named_with_its_range() -> None:
    async def story() -> None:
        async with old_server() as old, opened_remote(old.url) as store:
            old.set_config("blue", CONFIG)
            for at in range(1, 256):
                old.set_lease("blue", f"10.1.{at}.0/24", TWO)
            with pytest.raises(NoSubnetLeft, match=r"10\.1\.1\.0 to 10\.1\.255\.0 of 10\.1\.0\.0/16"):
                await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)

    run(story())


def test_a_server_whose_etcd_is_away_is_left_for_another() -> None:
    async def story() -> None:
        async with old_server() as one, old_server() as two, opened_remote(one.url, two.url) as store:
            for old in (one, two):
                _fill(old)
            start = await store.snapshot("blue")
            assert not two.seen
            async with watched(store, "blue", start.revision) as watch:
                await asyncio.sleep(0.2)
                one.failing = "client: etcd cluster is unavailable or misconfigured; error #0: dial tcp 127.0.0.1:1\n"
                assert (await store.snapshot("blue")).leases.keys() == {FIVE, SIX}
                assert two.seen
                assert watch.ended is None  # until its next look at the server
                assert isinstance(await watch.end(10.0), StoreUnavailable)
            two.failing = one.failing
            with pytest.raises(StoreUnavailable) as caught:
                await store.snapshot("blue")
            for old in (one, two):
                assert f"{old.url}: client: etcd cluster is unavailable" in caught.value.message

    run(story())


def test_a_server_that_was_renewed_to_one_of_ours_is_another_history() -> None:
    async def story() -> None:
        async with old_server() as old, opened_remote(old.url) as store:
            _fill(old)
            known = Known(Revision("an etcd v3 cluster", 400), {})
            snapshot = await store.snapshot("blue", known=known)
            assert snapshot.restored
            async with watched(store, "blue", known.revision) as watch:
                assert isinstance(await watch.end(), Compacted)

    run(story())


def test_requests_are_those_that_a_flannel_client_sends() -> None:
    async def story() -> None:
        async with old_server() as old, opened_remote(old.url) as store:
            old.set_config("_", CONFIG)
            await store.snapshot("")
            await store.acquire("", config(), attrs("192.0.2.1"), prefer=FIVE)
            plain = [request.partition("?")[0] for request in old.seen]
            assert plain == ["GET /v1/_/config", "GET /v1/_/leases", "POST /v1/_/leases"]
            lease = json.dumps(old.leases["_"])
            assert '"BackendData": {"VNI": 1' in lease

    run(story())
