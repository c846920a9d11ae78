"""Servers killed, hung, failed over, with a store that is away: what the caller of the remote store sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from flannel_multi.model.errors import Compacted, StoreUnavailable
from flannel_multi.store.protocol import ConfigWritten, LeaseWritten, Revision
from flannel_multi.store.remote import RemoteStore
from tests.lab.etcd import Etcd
from tests.lab.server import Server
from tests.store.remote_rig import admin, opened_remote
from tests.store.rig import CONFIG, PREFIX, asked_again, attrs, config, key, run, value, watched


@pytest.fixture
def pair(etcd: Etcd, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers over one etcd."""
    flags = [f"--etcd-endpoints={','.join(etcd.urls)}", *admin(tmp_path)]
    with (
        Server("etcd", tmp_path, flags=flags, name="one") as one,
        Server("etcd", tmp_path, flags=flags, name="two") as two,
    ):
        yield one, two


class Journal:
    """Follows a network from `after` on, as long as it takes: resumes each watch where the last one ended."""

    def __init__(self, store: RemoteStore, network: str, after: Revision) -> None:
        self._store, self._network, self._at = store, network, after
        self.revisions: list[int] = []
        self.configs: list[bytes | None] = []
        self.outages: list[str] = []
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                watch = cast(Any, self._store.watch(self._network, after=self._at))
                async with aclosing(watch):
                    async for change in watch:
                        if isinstance(change, LeaseWritten):
                            self.revisions.append(change.record.revision)
                            self._at = self._at._replace(number=change.record.revision)
                        elif isinstance(change, ConfigWritten):
                            self.configs.append(change.config)
            except StoreUnavailable as error:
                self.outages.append(error.message)
                await asyncio.sleep(0.05)

    async def until(self, count: int, timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            while len(self.revisions) < count:
                assert not self._task.done(), self._task.exception()
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def test_of_a_server_killed_and_restarted_under_a_watch_no_event_is_lost_and_none_doubled(
    etcd: Etcd, pair: tuple[Server, Server]
) -> None:
    server, _ = pair
    etcd.put(f"{PREFIX}/killed/config", CONFIG)

    def write(start: int) -> None:
        for at in range(start, start + 25):
            etcd.put(key("killed", f"10.1.{at}.0/24"), value("192.0.2.5"))

    async def story() -> None:
        async with opened_remote(server.url) as store:
            begin = await store.snapshot("killed")
            journal = Journal(store, "killed", begin.revision)
            for round_ in range(4):
                writing = asyncio.create_task(asyncio.to_thread(write, 25 * round_))
                await asyncio.sleep(0.02)
                await asyncio.to_thread(server.kill)
                await writing
                await asyncio.to_thread(etcd.put, f"{PREFIX}/killed/config", f"round {round_}".encode())
                await asyncio.to_thread(server.start)
            await journal.until(100)
            await asyncio.sleep(0.5)  # for one too many to come
            await journal.stop()
            snapshot = await store.snapshot("killed")
            assert journal.revisions == sorted(record.revision for record in snapshot.leases.values())
            assert len(journal.revisions) == 100
            assert journal.configs[-1] == b"round 3"
            assert len(journal.outages) >= 4

    run(story())


def test_calls_and_watches_fail_over_to_the_other_server(etcd: Etcd, pair: tuple[Server, Server]) -> None:
    one, two = pair
    etcd.put(f"{PREFIX}/over/config", CONFIG)

    async def story() -> None:
        async with opened_remote(one.url, two.url) as store:
            lease = await store.acquire("over", config(), attrs("192.0.2.1"), prefer=None)
            begin = await store.snapshot("over")
            journal = Journal(store, "over", begin.revision)
            await asyncio.to_thread(etcd.put, key("over", "10.1.100.0/24"), value("192.0.2.5"))
            await journal.until(1)
            for at, (dead, alive) in enumerate([(one, two), (two, one)]):
                dead.kill()
                lost_at_s = time.monotonic()
                assert (await store.renew("over", lease)).record == lease.record
                await asyncio.to_thread(etcd.put, key("over", f"10.1.{101 + at}.0/24"), value("192.0.2.5"))
                await journal.until(2 + at)
                print(f"renewed and watching at the other server {time.monotonic() - lost_at_s:.2f} s after the kill")
                assert time.monotonic() - lost_at_s < 2.0
                await asyncio.to_thread(dead.start)
                assert alive.process is not None
            await journal.stop()
            assert len(journal.revisions) == len(set(journal.revisions)) == 3

    run(story())


def test_a_hung_server_is_noticed_within_ten_seconds_and_the_other_one_takes_over(
    etcd: Etcd, pair: tuple[Server, Server]
) -> None:
    one, two = pair

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with opened_remote(one.url, two.url) as store:
            begin = await store.snapshot("hung")
            async with watched(store, "hung", begin.revision) as watch:
                await asyncio.to_thread(etcd.put, key("hung", "10.1.5.0/24"), value("192.0.2.5"))
                await watch.until(lambda: bool(watch.changes))
                one.pause()
                paused_at_s = loop.time()
                error = await watch.end(12.0)
                print(f"hung server noticed after {watch.ended_at_s - paused_at_s:.1f} s")
                assert isinstance(error, StoreUnavailable)
                assert "no answer in time" in error.message
                assert watch.ended_at_s - paused_at_s < 10.0
            async with watched(store, "hung", begin.revision) as watch:
                await watch.until(lambda: watch.subnets() == {"10.1.5.0/24"}, 3.0)

    try:
        run(story())
    finally:
        one.resume()


def test_a_call_to_a_server_that_hangs_ends_in_time(pair: tuple[Server, Server]) -> None:
    server, _ = pair

    async def story() -> None:
        async with opened_remote(server.url) as store:
            lease = None
            await store.write_config("slow", CONFIG)
            lease = await store.acquire("slow", config(), attrs("192.0.2.1"), prefer=None)
            server.pause()
            loop = asyncio.get_running_loop()
            for attempt in (
                store.snapshot("slow", timeout_s=0.5),
                store.renew("slow", lease, timeout_s=0.5),
                store.networks(timeout_s=0.5),
                store.write_config("slow", b"{}", timeout_s=0.5),
            ):
                began_s = loop.time()
                with pytest.raises(StoreUnavailable, match="no answer in time"):
                    await attempt
                assert loop.time() - began_s < 1.0
            server.resume()
            assert (await asked_again(lambda: store.renew("slow", lease))).record == lease.record

    try:
        run(story())
    finally:
        server.resume()


def test_a_server_that_is_absent_costs_no_time_and_is_found_when_it_comes(etcd: Etcd, tmp_path: Path) -> None:
    server = Server("etcd", tmp_path, flags=[f"--etcd-endpoints={','.join(etcd.urls)}"])

    async def story() -> None:
        async with opened_remote(server.url) as store:
            began_cpu_s = time.process_time()
            for _ in range(20):
                with pytest.raises(StoreUnavailable, match=r"http://127\.0\.0\.1:\d+: connection refused"):
                    await store.snapshot("nobody")
            assert time.process_time() - began_cpu_s < 0.5
            await asyncio.to_thread(server.start)
            assert (await store.snapshot("nobody")).config is None

    try:
        run(story())
    finally:
        server.kill()


def test_an_idle_watch_stands_and_costs_next_to_nothing(etcd: Etcd, pair: tuple[Server, Server]) -> None:
    server, _ = pair

    async def story() -> None:
        async with opened_remote(server.url) as store:
            begin = await store.snapshot("idle")
            async with watched(store, "idle", begin.revision) as watch:
                await asyncio.sleep(0.5)
                began_cpu_s = time.process_time()
                await asyncio.sleep(5.0)  # one look at the server falls in here
                assert watch.ended is None
                assert time.process_time() - began_cpu_s < 0.05
                await asyncio.to_thread(etcd.put, key("idle", "10.1.5.0/24"), value("192.0.2.5"))
                await watch.until(lambda: watch.subnets() == {"10.1.5.0/24"}, 1.0)

    run(story())


def test_a_server_whose_store_is_away_is_said_and_then_served_again(tmp_path: Path) -> None:
    async def story(etcd: Etcd, server: Server) -> None:
        async with opened_remote(server.url) as store:
            begin = await store.snapshot("away")
            async with watched(store, "away", begin.revision) as watch:
                await asyncio.to_thread(etcd.kill)
                assert isinstance(await watch.end(15.0), StoreUnavailable)
            with pytest.raises(StoreUnavailable, match="client: etcd cluster is unavailable"):
                await store.snapshot("away")
            await asyncio.to_thread(etcd.start)
            assert (await asked_again(lambda: store.snapshot("away"))).config is None

    with Etcd() as etcd, Server("etcd", tmp_path, flags=[f"--etcd-endpoints={','.join(etcd.urls)}"]) as server:
        run(story(etcd, server))


def test_a_restored_store_behind_the_server_is_known_as_such(tmp_path: Path) -> None:
    async def story(etcd: Etcd, server: Server) -> None:
        async with opened_remote(server.url) as store:
            etcd.put(f"{PREFIX}/blue/config", CONFIG)
            etcd.put(key("blue", "10.1.4.0/24"), value("192.0.2.4"))
            etcd.save(tmp_path / "saved")
            etcd.put(key("blue", "10.1.5.0/24"), value("192.0.2.5"))
            known = await store.snapshot("blue")
            etcd.restore(tmp_path / "saved", same_cluster=False)
            after = await asked_again(lambda: store.snapshot("blue"))
            assert after.restored
            assert list(map(str, after.leases)) == ["10.1.4.0/24"]
            async with watched(store, "blue", known.revision) as watch:
                assert isinstance(await watch.end(), Compacted)
            assert not (await store.snapshot("blue")).restored

    with Etcd() as etcd, Server("etcd", tmp_path, flags=[f"--etcd-endpoints={','.join(etcd.urls)}"]) as server:
        run(story(etcd, server))
