"""What is etcd's own in its ledger: foreign keys, etcd leases left over, lost answers, outages."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from flannel_multi.model.errors import FlannelError, KeyAbsent, LeaseHeld, StoreUnavailable
from flannel_multi.model.lease import LEASE_TTL_S
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd.changing import TRIES, ChangingKey, delete_key
from flannel_multi.store.etcd.gateway import Gateway
from flannel_multi.store.etcd.ledger import EtcdLedger
from flannel_multi.store.protocol import NetworkGone, NetworkWritten
from flannel_multi.store.reserving import NotReservable, reserve
from tests.lab.etcd import Etcd
from tests.store.lossy import lossy
from tests.store.rig import CONFIG, PREFIX, attrs, config, key, opened_ledger, options, reading, run, value

_numbers = itertools.count()
FIVE = Subnet.parse("10.1.5.0/24")
ONE, TWO = "192.0.2.1", "192.0.2.2"
TXN, GRANT, KEEP_ALIVE = "/v3/kv/txn", "/v3/lease/grant", "/v3/lease/keepalive"
FOREIGN = [
    ".hidden/config", "a/b/config", "all/config", "_/config", "subnets/config", "config/config", "-x/config",
    "spaced name/config", "/config", "x" * 64 + "/config", "{}x/configs", "{}x/config/", "{}x/config/sub", "{}x",
    "{}é/config",
]  # fmt: skip


@pytest.fixture
def net() -> str:
    return f"etcdledger{next(_numbers)}"


@pytest.fixture
def clean(etcd: Etcd) -> Iterator[Etcd]:
    """The tests' etcd, of which a test that leaves an etcd lease without a key fails."""
    before = set(etcd.leases())
    yield etcd
    for lease in set(etcd.leases()) - before:
        assert etcd.call("/v3/lease/timetolive", {"ID": str(lease), "keys": True}).get("keys"), "a lease without a key"


# -- etcd leases ---------------------------------------------------------------------------------------------------


def test_a_key_that_moves_or_goes_leaves_no_etcd_lease_behind(clean: Etcd, net: str) -> None:
    async def story() -> None:
        async with opened_ledger(clean) as ledger:
            first = await ledger.put_lease(net, FIVE, attrs(ONE))
            await ledger.reserve(net, FIVE, parse_ip(ONE))
            assert clean.ttl(first.record.lease_id) == -1
            second = await ledger.unreserve(net, FIVE)
            third = await ledger.unreserve(net, FIVE)
            assert clean.ttl(second.lease_id) == -1
            assert clean.ttl(third.lease_id) > LEASE_TTL_S - 60
            await ledger.revoke(net, FIVE)
            assert clean.ttl(third.lease_id) == -1
            with pytest.raises(KeyAbsent):
                await ledger.unreserve(net, FIVE)

    run(story())


def test_who_loses_the_race_for_a_lease_leaves_no_etcd_lease_behind(clean: Etcd, net: str) -> None:
    async def story() -> None:
        ledgers = [EtcdLedger(options(clean)) for _ in range(20)]
        puts = (ledger.put_lease(net, FIVE, attrs(f"192.0.2.{at}")) for at, ledger in enumerate(ledgers))
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert sum(isinstance(result, LeaseHeld) for result in results) == 19, results
        for ledger in ledgers:
            await ledger.close()

    run(story())


def test_an_etcd_lease_that_strangers_use_too_is_not_ended(etcd: Etcd, net: str) -> None:
    shared = etcd.grant(3600)
    etcd.put(key(net, str(FIVE)), value(ONE), lease=shared)
    etcd.put(f"/stranger/{net}", "precious", lease=shared)

    async def story() -> None:
        async with opened_ledger(etcd) as ledger:
            await ledger.revoke(net, FIVE)

    run(story())
    assert etcd.get(key(net, str(FIVE))) is None
    assert etcd.get(f"/stranger/{net}") == b"precious"


def test_a_reservation_and_its_end_leave_a_foreign_value_byte_for_byte(etcd: Etcd, net: str) -> None:
    raw = b'{"PublicIP": "192.0.2.1", "PublicIPv6": null,"BackendType":"vxlan","BackendData":{"VNI":1, "x":[1,2]}}\n'
    etcd.put(key(net, str(FIVE)), raw, lease=etcd.grant(3600))

    async def story() -> None:
        async with opened_ledger(etcd) as ledger:
            await ledger.reserve(net, FIVE, parse_ip(ONE))
            assert etcd.get(key(net, str(FIVE))) == raw
            await ledger.unreserve(net, FIVE)
            assert etcd.get(key(net, str(FIVE))) == raw

    run(story())


def test_twenty_puts_of_one_lease_at_once_all_end_and_the_lease_is_one(clean: Etcd, net: str) -> None:
    async def story() -> None:
        async with opened_ledger(clean) as ledger:
            await ledger.put_lease(net, FIVE, attrs(ONE))
            puts = (ledger.put_lease(net, FIVE, attrs(ONE, vni=at)) for at in range(20))
            results = await asyncio.gather(*puts, return_exceptions=True)
            failed = [result for result in results if isinstance(result, BaseException)]
            assert all(isinstance(error, StoreUnavailable) and "no more tries" in str(error) for error in failed), (
                failed
            )
            assert len(failed) < 20
            assert len((await ledger.snapshot(net)).leases) == 1

    run(story())


def test_a_key_that_changes_under_every_try_is_given_up_with_flannels_words(etcd: Etcd, net: str) -> None:
    name = key(net, str(FIVE))
    etcd.put(name, value(ONE))

    async def story() -> None:
        gateway = Gateway(options(etcd))
        writes = itertools.count()
        with pytest.raises(StoreUnavailable, match=r"^subnet: no more tries \(.*10\.1\.5\.0-24 was changed 10 times"):
            await delete_key(
                ChangingKey(gateway, name.encode(), Deadline(10.0)), lambda: etcd.put(name, str(next(writes)))
            )
        gateway.close()
        assert next(writes) == TRIES

    run(story())


# -- networks ------------------------------------------------------------------------------------------------------


def test_keys_that_are_no_config_of_a_named_network_are_no_network(etcd: Etcd, net: str) -> None:
    foreign = [f"{PREFIX}/{name.format(net)}" for name in FOREIGN]
    foreign += [f"{PREFIX}x/{net}/config", f"{PREFIX[:-1]}/{net}/config"]

    async def story() -> None:
        async with opened_ledger(etcd) as ledger:
            start = await ledger.networks()
            async with reading(ledger.watch_networks(after=start.revision)) as watch:
                for name in (*foreign, f"{PREFIX}/\x00\udcff/config"):
                    await asyncio.to_thread(etcd.put, name.encode("utf-8", "surrogateescape"), CONFIG)
                revision = await ledger.write_config(net, CONFIG)
                await watch.until(lambda: bool(watch.changes))
                assert watch.changes == [NetworkWritten(net, revision)]
            assert set((await ledger.networks()).names) - set(start.names) == {net}

    try:
        run(story())
    finally:
        for name in foreign:
            etcd.delete(name)


def test_networks_behind_folders_of_more_leases_than_a_page_are_listed(etcd: Etcd, net: str) -> None:
    names = [f"{net}{letter}" for letter in "abc"]
    for name in names:
        etcd.put(f"{PREFIX}/{name}/config", CONFIG)
        leases = ((f"{PREFIX}/{name}/subnets/10.{at >> 8}.{at & 255}.0-24", value(ONE)) for at in range(1500))
        etcd.put_many(leases)
    etcd.put_many((f"{PREFIX}/{net}d{at:04d}/config", CONFIG) for at in range(1100))

    async def story() -> None:
        async with opened_ledger(etcd) as ledger:
            found = [name for name in (await ledger.networks()).names if name.startswith(net)]
            assert found == [*names, *(f"{net}d{at:04d}" for at in range(1100))]

    run(story())
    for name in (*names, f"{net}d"):
        etcd.delete_prefix(f"{PREFIX}/{name}")


def test_with_the_root_as_prefix_networks_are_the_folders_there(etcd: Etcd, net: str) -> None:
    async def story() -> None:
        async with opened_ledger(etcd, prefix="") as ledger:
            start = await ledger.networks()
            async with reading(ledger.watch_networks(after=start.revision)) as watch:
                first = await ledger.write_config(net, CONFIG)
                gone = await ledger.delete_config(net)
                await watch.until(lambda: len(watch.changes) == 2)
            assert watch.changes == [NetworkWritten(net, first), NetworkGone(net, gone)]
            assert "coreos.com" not in start.names

    run(story())


# -- lost answers and outages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [GRANT, TXN])
def test_a_lease_put_with_a_lost_answer_is_created_once(clean: Etcd, net: str, lost: str) -> None:
    async def story() -> None:
        async with lossy(clean) as proxy, opened_ledger(clean, endpoints=(proxy.url,)) as ledger:
            await ledger.read_config(net)  # a kept connection: what is lost on it is asked for again
            proxy.lose = [lost]
            lease = await ledger.put_lease(net, FIVE, attrs(ONE))
            assert proxy.lost == 1
            assert (await ledger.snapshot(net)).leases == {FIVE: lease.record}
            if lost == TXN:
                assert lease.record.revision == (await ledger.snapshot(net)).revision.number, "written twice"

    run(story())


@pytest.mark.parametrize("change", ["put", "reserve", "unreserve", "revoke"])
@pytest.mark.parametrize("lost", [GRANT, KEEP_ALIVE, TXN])
def test_a_change_of_a_standing_lease_with_a_lost_answer_is_made_once(
    clean: Etcd, net: str, change: str, lost: str
) -> None:
    async def story() -> None:
        async with lossy(clean) as proxy, opened_ledger(clean, endpoints=(proxy.url,)) as ledger:
            await ledger.put_lease(net, FIVE, attrs(ONE))
            before = clean.revision
            proxy.lose = [lost]
            match change:
                case "put":
                    left = {FIVE: (await ledger.put_lease(net, FIVE, attrs(ONE, vni=2))).record}
                case "reserve":
                    left = {FIVE: await ledger.reserve(net, FIVE, parse_ip(ONE))}
                case "unreserve":
                    left = {FIVE: await ledger.unreserve(net, FIVE)}
                case _:
                    await ledger.revoke(net, FIVE)
                    left = {}
            proxy.lose = []
            found = await ledger.snapshot(net)
            assert (found.leases, found.revision.number) == (left, before + 1)

    run(story())


def test_a_config_deleted_with_a_lost_answer_is_no_error(etcd: Etcd, net: str) -> None:
    async def story() -> None:
        async with lossy(etcd) as proxy, opened_ledger(etcd, endpoints=(proxy.url,)) as ledger:
            revision = await ledger.write_config(net, CONFIG)
            proxy.lose = [TXN]
            assert await ledger.delete_config(net) == revision + 1
            assert proxy.lost == 1

    run(story())


def test_a_reservation_whose_end_failed_half_way_is_still_there(etcd: Etcd, net: str) -> None:
    async def story() -> None:
        async with lossy(etcd) as proxy, opened_ledger(etcd, endpoints=(proxy.url,)) as ledger:
            await ledger.reserve(net, FIVE, parse_ip(ONE))
            proxy.lose = [TXN, TXN]
            with pytest.raises(StoreUnavailable):
                await ledger.unreserve(net, FIVE)
            proxy.lose = []
            assert list((await ledger.snapshot(net)).leases) == [FIVE]
            assert not (await ledger.unreserve(net, FIVE)).permanent

    run(story())


def test_every_call_ends_in_time_when_etcd_hangs_and_so_does_the_watch(net: str) -> None:
    with Etcd() as own:

        async def story() -> None:
            async with opened_ledger(own) as ledger:
                lease = await ledger.grant(net, config(), attrs(ONE))
                start, upto = await ledger.networks(), await ledger.snapshot(net)
                loop = asyncio.get_running_loop()
                async with reading(ledger.watch_networks(after=start.revision)) as watch:
                    await ledger.write_config(net, CONFIG)
                    await watch.until(lambda: bool(watch.changes))
                    own.pause()
                    paused_s = loop.time()
                    for call in (
                        ledger.read_config(net, timeout_s=0.3),
                        ledger.write_config(net, b"x", timeout_s=0.3),
                        ledger.delete_config(net, timeout_s=0.3),
                        ledger.networks(timeout_s=0.3),
                        ledger.replay(net, after=1, upto=upto, timeout_s=0.3),
                        ledger.grant(net, config(), attrs(TWO), timeout_s=0.3),
                        ledger.put_lease(net, FIVE, attrs(TWO), timeout_s=0.3),
                        ledger.revoke(net, lease.record.subnet, timeout_s=0.3),
                        ledger.reserve(net, FIVE, parse_ip(TWO), timeout_s=0.3),
                        ledger.unreserve(net, FIVE, timeout_s=0.3),
                        ledger.learn_expiries([lease.record._replace(lease_id=7)], timeout_s=0.3),
                        reserve(ledger, net, FIVE, parse_ip(TWO), timeout_s=0.3),
                    ):
                        began_s = loop.time()
                        with pytest.raises(StoreUnavailable):
                            await call
                        assert loop.time() - began_s < 1.0
                    assert isinstance(await watch.end(), StoreUnavailable)
                    assert watch.ended_at_s - paused_s < 10.5
                    own.resume()

        run(story())


# -- reserving -----------------------------------------------------------------------------------------------------


def test_what_the_config_does_not_allow_is_not_reserved(etcd: Etcd, net: str) -> None:
    async def refused(ledger: EtcdLedger, subnet: str) -> FlannelError:
        with pytest.raises(FlannelError) as caught:
            await reserve(ledger, net, Subnet.parse(subnet), parse_ip(ONE))
        return caught.value

    async def story() -> None:
        async with opened_ledger(etcd) as ledger:
            absent = await refused(ledger, "10.1.5.0/24")
            assert isinstance(absent, KeyAbsent)
            assert absent.key == f"{PREFIX}/{net}/config"
            await ledger.write_config(net, CONFIG)
            assert isinstance(await refused(ledger, "10.1.5.0/25"), NotReservable)
            assert isinstance(await refused(ledger, "10.2.5.0/24"), NotReservable)
            assert not (await ledger.snapshot(net)).leases
            record = await reserve(ledger, net, FIVE, parse_ip(ONE))
            assert (await ledger.snapshot(net)).leases == {FIVE: record}

    run(story())


def test_an_absent_lease_is_named_by_its_full_key(etcd: Etcd, net: str) -> None:
    async def story() -> None:
        async with opened_ledger(etcd) as ledger:
            with pytest.raises(KeyAbsent) as caught:
                await ledger.revoke(net, FIVE)
            assert caught.value.message == f"100: Key not found ({key(net, str(FIVE))}) [{etcd.revision}]"
            assert caught.value.key == ledger.keys(net).lease(FIVE).decode()

    run(story())


def test_what_a_failed_grant_left_is_cleared_up_for_its_own_host_and_by_no_other(etcd: Etcd, net: str) -> None:
    async def story() -> None:
        async with lossy(etcd) as proxy, opened_ledger(etcd, endpoints=(proxy.url,)) as ledger:
            start = await ledger.snapshot(net)
            proxy.lose, proxy.refuse = [TXN, TXN], ["/v3/lease/revoke"]
            with pytest.raises(StoreUnavailable):
                await ledger.grant(net, config(), attrs(ONE), first=start)
            assert (proxy.lose, proxy.refuse) == ([], [])
            left = (await ledger.snapshot(net)).leases
            await ledger.grant(net, config(), attrs(TWO))
            now = (await ledger.snapshot(net)).leases
            assert len(left) == 1
            assert left.items() <= now.items()
            again = await ledger.grant(net, config(), attrs(ONE))
            assert [
                r.subnet for r in (await ledger.snapshot(net)).leases.values() if r.attrs.public_ip == parse_ip(ONE)
            ] == [again.record.subnet]

    run(story())
