"""etcd killed, hung, absent, compacted, failed over, restored: what the caller of the store sees."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest

from flannel_multi.model.errors import Compacted, StoreUnavailable
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.protocol import Known
from tests.lab.etcd import Etcd, b64
from tests.store.rig import CONFIG, PREFIX, asked_again, attrs, config, key, opened, run, value, watched

FIVE = Subnet.parse("10.1.5.0/24")


def test_a_watch_and_calls_go_on_after_etcd_was_killed_and_started_again() -> None:
    async def story(etcd: Etcd) -> None:
        async with opened(etcd) as store:
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
            start = await store.snapshot("blue")
            async with watched(store, "blue", start.revision) as watch:
                await watch.until(lambda: True)
                await asyncio.to_thread(etcd.put, key("blue", "10.1.5.0/24"), value("192.0.2.5"))
                await watch.until(lambda: watch.subnets() == {"10.1.5.0/24"})
                await asyncio.to_thread(etcd.kill)
                assert isinstance(await watch.end(2.0), StoreUnavailable)
            with pytest.raises(StoreUnavailable, match="connection refused"):
                await store.renew("blue", lease)
            await asyncio.to_thread(etcd.start)
            assert await store.renew("blue", lease) == lease
            after = await store.snapshot("blue", known=Known(start.revision, start.leases))
            assert not after.restored
            assert FIVE in after.leases
            async with watched(store, "blue", start.revision) as watch:  # resumes where it was, not where etcd is now
                await watch.until(lambda: watch.subnets() == {"10.1.5.0/24"})

    with Etcd() as etcd:
        run(story(etcd))


def test_etcd_that_is_absent_costs_no_time_and_is_found_when_it_comes() -> None:
    async def story(etcd: Etcd) -> None:
        async with opened(etcd) as store:
            began_cpu_s = time.process_time()
            for _ in range(20):
                with pytest.raises(StoreUnavailable, match=r"http://127\.0\.0\.1:\d+: connection refused"):
                    await store.snapshot("blue")
            assert time.process_time() - began_cpu_s < 0.5
            etcd.start()
            assert (await store.snapshot("blue")).config is None
            assert await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)

    etcd = Etcd()
    try:
        run(story(etcd))
    finally:
        etcd.close()


def test_a_hung_etcd_is_noticed_within_ten_seconds_and_the_watch_resumes_without_a_gap() -> None:
    async def story(etcd: Etcd) -> None:
        async with opened(etcd) as store:
            loop = asyncio.get_running_loop()
            start = await store.snapshot("blue")
            async with watched(store, "blue", start.revision) as watch:
                await asyncio.to_thread(etcd.put, key("blue", "10.1.5.0/24"), value("192.0.2.5"))
                await watch.until(lambda: bool(watch.changes))
                etcd.pause()
                paused_at_s = loop.time()
                error = await watch.end(12.0)
                assert isinstance(error, StoreUnavailable)
                assert "no answer in time" in error.message
                assert watch.ended_at_s - paused_at_s < 10.0
                print(f"hung etcd noticed after {watch.ended_at_s - paused_at_s:.1f} s")
            began_s = loop.time()
            with pytest.raises(StoreUnavailable, match="no answer in time"):
                await store.snapshot("blue", timeout_s=1.0)
            assert loop.time() - began_s < 1.5
            etcd.resume()
            async with watched(store, "blue", start.revision) as watch:
                await watch.until(lambda: watch.subnets() == {"10.1.5.0/24"})

    with Etcd() as etcd:
        run(story(etcd))


def test_an_idle_watch_stands_and_costs_next_to_nothing() -> None:
    async def story(etcd: Etcd) -> None:
        async with opened(etcd) as store:
            start = await store.snapshot("blue")
            async with watched(store, "blue", start.revision) as watch:
                await asyncio.sleep(0.5)
                began_cpu_s = time.process_time()
                await asyncio.sleep(5.0)  # one look at the endpoint falls in here
                assert watch.ended is None
                assert time.process_time() - began_cpu_s < 0.05
                assert _connections(etcd) <= 2
                await asyncio.to_thread(etcd.put, key("blue", "10.1.5.0/24"), value("192.0.2.5"))
                await watch.until(lambda: watch.subnets() == {"10.1.5.0/24"}, 1.0)

    with Etcd() as etcd:
        run(story(etcd))


def _connections(etcd: Etcd) -> int:
    """TCP connections of this process to the first member."""
    port = etcd.members[0].ports[0]
    ours = [c for c in psutil.net_connections("tcp") if c.pid == os.getpid() and c.raddr]
    return sum(c.raddr[1] == port for c in ours)


def test_history_compacted_while_the_watch_was_away_asks_for_a_snapshot() -> None:
    async def story(etcd: Etcd) -> None:
        async with opened(etcd) as store:
            etcd.put(key("blue", "10.1.4.0/24"), value("192.0.2.4"))
            start = await store.snapshot("blue")
            for number in range(20):
                etcd.put(key("blue", f"10.1.{100 + number}.0/24"), value("192.0.2.9"))
            etcd.delete(key("blue", "10.1.4.0/24"))
            etcd.compact()
            async with watched(store, "blue", start.revision) as watch:
                assert isinstance(await watch.end(), Compacted)
            after = await store.snapshot("blue", known=Known(start.revision, start.leases))
            assert not after.restored
            assert len(after.leases) == 20
            async with watched(store, "blue", after.revision) as watch:
                await asyncio.to_thread(etcd.put, key("blue", "10.1.5.0/24"), value("192.0.2.5"))
                await watch.until(lambda: watch.subnets() == {"10.1.5.0/24"})

    with Etcd() as etcd:
        run(story(etcd))


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_calls_and_watches_fail_over_in_a_cluster_of_three(how: str) -> None:
    async def story(etcd: Etcd) -> None:
        loop = asyncio.get_running_loop()
        async with opened(etcd) as store:
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
            start = await store.snapshot("blue")
            async with watched(store, "blue", start.revision) as watch:
                await asyncio.to_thread(etcd.put, key("blue", "10.1.5.0/24"), value("192.0.2.5"))
                await watch.until(lambda: bool(watch.changes))
                getattr(etcd.members[0], how)()  # the one that is asked first, and watched
                lost_at_s = loop.time()
                renewed = await asked_again(lambda: store.renew("blue", lease))
                print(f"{how}: renewed through another member after {loop.time() - lost_at_s:.1f} s")
                assert renewed == lease
                assert isinstance(await watch.end(10.0), StoreUnavailable)
            snapshot = await asked_again(lambda: store.snapshot("blue", known=Known(start.revision, start.leases)))
            assert not snapshot.restored
            assert FIVE in snapshot.leases
            async with watched(store, "blue", snapshot.revision) as watch:
                await asyncio.to_thread(etcd.call, "/v3/kv/put", _put("10.1.6.0/24"), member=1)
                await watch.until(lambda: watch.subnets() == {"10.1.6.0/24"})

    with Etcd(members=3) as etcd:
        run(story(etcd))


def test_a_member_without_the_majority_is_said_to_have_no_leader() -> None:
    async def story(etcd: Etcd) -> None:
        async with opened(etcd, endpoints=etcd.urls[:1]) as store:
            start = await store.snapshot("blue")
            async with watched(store, "blue", start.revision) as watch:
                await watch.until(lambda: True)
                await asyncio.to_thread(etcd.members[1].kill)
                await asyncio.to_thread(etcd.members[2].kill)
                error = await watch.end(10.0)
                assert isinstance(error, StoreUnavailable)
            with pytest.raises(StoreUnavailable, match=r"no leader|no answer in time"):
                async with watched(store, "blue", start.revision) as watch:
                    raise await watch.end(10.0)
            await asyncio.to_thread(etcd.start)
            assert (await asked_again(lambda: store.snapshot("blue"))).config is None

    with Etcd(members=3) as etcd:
        run(story(etcd))


@pytest.mark.parametrize("same_cluster", [True, False], ids=["same ids", "other ids"])
def test_a_store_restored_from_an_older_snapshot_is_known_as_such(tmp_path: Path, same_cluster: bool) -> None:
    async def story(etcd: Etcd) -> None:
        async with opened(etcd) as store:
            etcd.put(f"{PREFIX}/blue/config", CONFIG)
            etcd.put(key("blue", "10.1.4.0/24"), value("192.0.2.4"))
            etcd.save(tmp_path / "saved")
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=FIVE)
            known = await store.snapshot("blue")
            etcd.restore(tmp_path / "saved", same_cluster=same_cluster)
            async with watched(store, "blue", known.revision) as watch:
                assert isinstance(await watch.end(), Compacted)
            after = await store.snapshot("blue", known=Known(known.revision, known.leases))
            assert after.restored
            assert list(map(str, after.leases)) == ["10.1.4.0/24"]
            again = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=lease.record.subnet)
            assert again.record.subnet == lease.record.subnet
            settled = await store.snapshot("blue", known=Known(after.revision, after.leases))
            assert not settled.restored

    with Etcd() as etcd:
        run(story(etcd))


def test_a_restored_store_that_has_caught_up_in_number_is_still_known_as_restored(tmp_path: Path) -> None:
    async def story(etcd: Etcd) -> None:
        async with opened(etcd) as store:
            etcd.restart()  # a history with more than one election
            etcd.save(tmp_path / "saved")
            etcd.put(key("blue", "10.1.4.0/24"), value("192.0.2.4"))
            known = await store.snapshot("blue")
            etcd.restore(tmp_path / "saved")
            for _ in range(5):
                etcd.put(f"{PREFIX}/elsewhere", b"x")
            after = await store.snapshot("blue", known=Known(known.revision, known.leases))
            assert after.revision.number > known.revision.number
            assert after.restored
            assert not after.leases

    with Etcd() as etcd:
        run(story(etcd))


def _put(subnet: str) -> dict[str, str]:
    return {"key": b64(key("blue", subnet)), "value": b64(value("192.0.2.6"))}
