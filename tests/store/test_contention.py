"""Many hosts at once, and many keys that are no leases."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest

from flannel_multi.model.errors import NoSubnetLeft
from flannel_multi.model.subnet import format_ip, parse_ip
from flannel_multi.store.etcd.store import EtcdStore
from flannel_multi.store.protocol import Lease, LeaseWritten, Skipped
from tests.lab.etcd import Etcd
from tests.store.rig import PREFIX, attrs, config, key, opened, options, run, value, watched

HOSTS = 200
_numbers = itertools.count()


@pytest.fixture
def net() -> str:
    return f"crowd{next(_numbers)}"


def test_two_hundred_hosts_at_once_get_two_hundred_subnets(
    etcd: Etcd, net: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(etcd.leases())

    async def story() -> list[Lease]:
        stores = [EtcdStore(options(etcd)) for _ in range(HOSTS)]
        try:
            empty = await stores[0].snapshot(net)  # all of them chose by the same listing: the worst there is
            return await asyncio.gather(*(
                store.acquire(
                    net, config(), attrs(format_ip(parse_ip("192.0.2.0") + at)), prefer=None, first=empty,
                    timeout_s=30.0,
                )
                for at, store in enumerate(stores)
            ))  # fmt: skip
        finally:
            for store in stores:
                await store.close()

    began_s = time.perf_counter()
    leases = run(story())
    with capsys.disabled():  # a figure for whoever runs the tests
        print(f"\n{HOSTS} hosts acquired at once in {time.perf_counter() - began_s:.2f} s")
    assert len({lease.record.subnet for lease in leases}) == HOSTS
    assert len(etcd.keys(f"{PREFIX}/{net}/subnets/")) == HOSTS
    assert set(etcd.leases()) - before == {lease.record.lease_id for lease in leases}, "an etcd lease without a key"


def test_hosts_that_outnumber_the_subnets_get_a_clear_error_and_leave_nothing(etcd: Etcd, net: str) -> None:
    small = config(
        b'{"Network":"10.1.0.0/16","SubnetMin":"10.1.1.0","SubnetMax":"10.1.8.0","Backend":{"Type":"alloc"}}'
    )
    before = set(etcd.leases())

    async def story() -> list[Lease | BaseException]:
        stores = [EtcdStore(options(etcd)) for _ in range(20)]
        try:
            return await asyncio.gather(
                *(s.acquire(net, small, attrs(f"192.0.2.{at}"), prefer=None) for at, s in enumerate(stores)),
                return_exceptions=True,
            )
        finally:
            for store in stores:
                await store.close()

    began_s = time.perf_counter()
    results = run(story())
    took_s = time.perf_counter() - began_s
    won = [result for result in results if isinstance(result, Lease)]
    lost = [result for result in results if not isinstance(result, Lease)]
    assert len({lease.record.subnet for lease in won}) == len(won) == 8
    assert all(isinstance(error, NoSubnetLeft) for error in lost), lost
    assert "out of subnets" in str(lost[0])
    assert set(etcd.leases()) - before == {lease.record.lease_id for lease in won}
    assert took_s < 5.0


def test_two_daemons_that_share_a_public_ip_share_its_lease(etcd: Etcd, net: str) -> None:
    async def story() -> None:
        async with opened(etcd) as one, opened(etcd) as two:
            first = await one.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
            second = await two.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
            assert first.record == second.record

    run(story())


POISON: list[tuple[bytes, bytes]] = [
    (b"foo", b"bar"),
    (b"", b"{}"),
    (b"10.1.1.0", b'{"PublicIP":"192.0.2.1"}'),
    (b"10.1.1.0-33", b'{"PublicIP":"192.0.2.1"}'),
    (b"10.1.1.0-32", b'{"PublicIP":"192.0.2.1"}'),
    (b"10.1.1.1-24", b'{"PublicIP":"192.0.2.1"}'),
    (b"10.1.01.0-24", b'{"PublicIP":"192.0.2.1"}'),
    (b"10.1.300.0-24", b'{"PublicIP":"192.0.2.1"}'),
    (b"10.1.1.0-24/deeper", b'{"PublicIP":"192.0.2.1"}'),
    (b"10.5.52.0-24&fc00:0:0:1::-64", b'{"PublicIP":"192.0.2.1"}'),
    ("10.1.1.0-٢٤".encode(), b'{"PublicIP":"192.0.2.1"}'),
    (b"\xff\xfe\x00\n\x1b[31m", b"\x00"),
    (b"x" * 4000, b"long key"),
    (b"10.1.10.0-24", b""),
    (b"10.1.11.0-24", b"null"),
    (b"10.1.12.0-24", b"[]"),
    (b"10.1.13.0-24", b"\xff\xfe"),
    (b"10.1.14.0-24", b'{"PublicIP":'),
    (b"10.1.15.0-24", b'{"PublicIP":7}'),
    (b"10.1.16.0-24", b'{"PublicIP":"::1"}'),
    (b"10.1.17.0-24", b'{"PublicIP":"192.0.2.1","BackendType":5}'),
    (b"10.1.18.0-24", b"[" * 100_000),
    (b"10.1.19.0-24", b'{"PublicIP":"192.0.2.1","BackendData":' + b'{"a":' * 200 + b"1" + b"}" * 201),
    (b"10.1.20.0-24", b'{"a":[1'),
    (b"10.1.21.0-24", b"2]}"),
    (b"10.1.22.0-24", b'{"PublicIP":"192.0.2.1"},{"PublicIP":"192.0.2.2"}'),
    (b"10.1.23.0-24", b'{"PublicIP":"192.0.2.1"}]'),
    (b"10.1.24.0-24", b"9" * 5000),
    (b"10.1.25.0-24", b"NaN"),
    (b"10.1.26.0-24", b'{"PublicIP":"192.0.2.1","BackendData":Infinity}'),
    (b"10.1.27.0-24", b'"' + b"y" * 100_000),
]


@pytest.mark.parametrize("at", range(len(POISON)), ids=[f"{at}" for at in range(len(POISON))])
def test_one_odd_key_is_one_line_and_the_rest_is_served(etcd: Etcd, net: str, at: int) -> None:
    name, raw = POISON[at]

    async def story() -> None:
        async with opened(etcd) as store:
            etcd.put(key(net, "10.1.200.0/24"), value("192.0.2.7"))
            start = await store.snapshot(net)
            async with watched(store, net, start.revision) as watch:
                await asyncio.to_thread(etcd.put, f"{PREFIX}/{net}/subnets/".encode() + name, raw)
                await asyncio.to_thread(etcd.put, key(net, "10.1.201.0/24"), value("192.0.2.8"))
                await watch.until(lambda: watch.subnets() == {"10.1.201.0/24"})
                lines = [change.text for change in watch.changes if isinstance(change, Skipped)]
            whole = await store.snapshot(net)
            assert list(whole.skipped) == lines
            assert len(lines) == 1
            assert lines[0].isprintable()
            assert len(lines[0]) < 250
            assert sorted(map(str, whole.leases)) == ["10.1.200.0/24", "10.1.201.0/24"]
            assert await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)

    run(story())


def test_ten_thousand_odd_keys_are_survived_in_few_lines(etcd: Etcd, net: str) -> None:
    folder = f"{PREFIX}/{net}/subnets/"

    async def story() -> None:
        async with opened(etcd) as store:
            start = await store.snapshot(net)
            async with watched(store, net, start.revision) as watch:
                odd = (
                    (f"{folder}x{at}" if at % 2 else f"{folder}10.7.{at % 250}.0-{24 + at % 7}y", b"?")
                    for at in range(10_000)
                )
                await asyncio.to_thread(etcd.put_many, odd)
                await asyncio.to_thread(etcd.put, key(net, "10.1.201.0/24"), value("192.0.2.8"))
                await watch.until(lambda: watch.subnets() == {"10.1.201.0/24"})
                assert len(watch.changes) < 50
            began_s = time.perf_counter()
            whole = await store.snapshot(net)
            assert time.perf_counter() - began_s < 3.0
            assert len(whole.skipped) < 30
            assert "more keys skipped" in whole.skipped[-1]
            assert list(map(str, whole.leases)) == ["10.1.201.0/24"]
            lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None, first=whole)
            assert (await store.renew(net, lease)) == lease

    run(story())


def test_other_networks_do_not_reach_the_watch_of_the_unnamed_one(etcd: Etcd) -> None:
    """Its config and subnets have the folders of all other networks between them."""
    prefix = f"/alone{next(_numbers)}"
    lease = json.dumps({"PublicIP": "192.0.2.1"})

    async def story() -> None:
        async with opened(etcd, prefix=prefix) as store:
            start = await store.snapshot("")
            async with watched(store, "", start.revision) as watch:
                await asyncio.to_thread(etcd.put, f"{prefix}/green/subnets/10.1.5.0-24", lease)
                await asyncio.to_thread(etcd.put, f"{prefix}/config", b"{}")
                await asyncio.to_thread(etcd.put, f"{prefix}/subnets/10.1.6.0-24", lease)
                await watch.until(lambda: len(watch.changes) == 2)
            written = watch.changes[1]
            assert isinstance(written, LeaseWritten)
            assert str(written.record.subnet) == "10.1.6.0/24"
            assert (await store.snapshot("")).config == b"{}"

    run(story())
