"""One store file, several processes: what one writes the others hear of, and a kill loses no acknowledged write."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time

import pytest

from flannel_multi.model.errors import Compacted, LeaseLost
from flannel_multi.model.subnet import Subnet
from flannel_multi.options import SqliteOptions
from flannel_multi.store.protocol import Known, LeaseGone, LeaseWritten
from flannel_multi.store.sqlite import SqliteStore
from flannel_worker.loop import Loop
from tests.lab.store_file import StoreFile
from tests.lab.store_writer import SUBNETS
from tests.store.rig import CONFIG, attrs, config, run, value, watched
from tests.store.test_sqlite_contract import opened

NET = "blue"
FIVE = Subnet.parse("10.1.5.0/24")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def there(tmp_path: Path) -> StoreFile:
    return StoreFile(tmp_path / "store.db")


@contextmanager
def writer(there: StoreFile, count: int, *, together: int = 1, network: str = NET) -> Iterator[subprocess.Popen[str]]:
    """A process that writes `count` leases, `together` at a time."""
    argv = [sys.executable, "-m", "tests.lab.store_writer", str(there.path), network, str(count), str(together)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'workers'}"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def history(there: StoreFile) -> list[tuple[str, int, int]]:
    """Subnet, VNI and revision of every lease written."""
    with there.sql() as connection:
        rows = connection.execute("SELECT name, value, revision FROM history WHERE value IS NOT NULL").fetchall()
    return [(name.decode().replace("-", "/"), json.loads(raw)["BackendData"]["VNI"], at) for name, raw, at in rows]


def test_every_acknowledged_write_survives_a_kill_in_the_middle_of_ten_thousand_and_none_is_doubled(
    there: StoreFile,
) -> None:
    acknowledged: list[tuple[str, int, int]] = []
    with writer(there, 10_000, together=20) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # cut off by the kill: nobody has read its acknowledgement
            subnet, vni, revision = line.split()
            acknowledged.append((subnet, int(vni), int(revision)))
            if len(acknowledged) == 4000:
                process.kill()
    assert 4000 <= len(acknowledged) < 10_000
    written = history(there)
    assert set(acknowledged) <= set(written)
    assert len({vni for _, vni, _ in written}) == len(written)
    assert len(written) - len(acknowledged) <= 20  # under way at the kill

    async def latest() -> None:
        async with opened(there.path) as store:
            leases = (await store.snapshot(NET)).leases
            for subnet, vni, _ in written[-SUBNETS:]:
                assert leases[Subnet.parse(subnet)].attrs.backend_data["VNI"] == vni

    run(latest())


def test_a_watcher_hears_all_that_two_other_processes_write_once_and_in_order(there: StoreFile) -> None:
    async def story() -> None:
        async with opened(there.path) as store:
            start = await store.snapshot(NET)
            async with watched(store, NET, start.revision) as watch:
                with writer(there, 500, together=5) as one, writer(there, 500, together=5, network="green") as two:
                    await watch.until(lambda: len(watch.changes) == 500)
                    for process in (one, two):
                        assert await asyncio.to_thread(process.wait) == 0
                revisions = [change.record.revision for change in watch.changes if isinstance(change, LeaseWritten)]
                assert sorted(set(revisions)) == revisions
                assert len(revisions) == 500

    run(story())


def test_a_change_by_another_connection_is_heard_at_once_without_polling(there: StoreFile) -> None:
    async def story() -> None:
        async with opened(there.path) as store, opened(there.path) as other:
            start = await store.snapshot(NET)
            async with watched(store, NET, start.revision) as watch:
                await asyncio.sleep(0.3)
                began_s = monotonic()
                await other.put_lease(NET, FIVE, attrs("192.0.2.1"))
                await watch.until(lambda: bool(watch.changes))
                assert monotonic() - began_s < 0.5

    run(story())


def test_a_change_whose_writer_died_before_it_rang_is_heard_within_seconds(there: StoreFile) -> None:
    async def story() -> None:
        async with opened(there.path) as store:
            start = await store.snapshot(NET)
            async with watched(store, NET, start.revision) as watch:
                await asyncio.sleep(0.3)
                with there.sql() as connection:  # no bell
                    connection.execute("INSERT INTO history VALUES (2, ?, NULL, x'31', 0)", (NET,))
                    connection.execute("UPDATE meta SET revision = 2")
                await watch.until(lambda: bool(watch.changes), 5)

    run(story())


def test_a_lease_is_gone_in_watches_within_a_second_of_its_end_and_never_shown_after(there: StoreFile) -> None:
    async def story() -> None:
        async with opened(there.path) as store, opened(there.path) as other:
            lease = await store.put_lease(NET, FIVE, attrs("192.0.2.1"), ttl_s=1)
            ends_s = time() + 1
            start = await other.snapshot(NET)
            async with watched(other, NET, start.revision) as watch:
                await watch.until(lambda: bool(watch.changes), 4)
                assert isinstance(watch.changes[0], LeaseGone)
                assert ends_s - 0.3 < time() < ends_s + 1.0
            assert not (await store.snapshot(NET)).leases
            with pytest.raises(LeaseLost):
                await store.renew(NET, lease)

    run(story())


def test_a_watcher_that_takes_nothing_for_long_misses_nothing(there: StoreFile) -> None:
    async def story() -> None:
        async with opened(there.path) as store:
            start = await store.snapshot(NET)
            slow = store.watch(NET, after=start.revision)
            first = asyncio.ensure_future(anext(slow))
            await asyncio.sleep(0.1)
            items = [(f"10.{at >> 8}.{at & 255}.0-24", value("192.0.2.1")) for at in range(8000)]
            for at in range(0, 8000, 500):
                there.put_leases(NET, items[at : at + 500])
                await asyncio.sleep(0.02)
            told = [await first]
            while len(told) < 8000:
                told.append(await anext(slow))
            await slow.aclose()
            assert [change.record.subnet.key for change in told if isinstance(change, LeaseWritten)] == [
                name for name, _ in items
            ]

    run(story())


def test_history_is_bounded_and_a_watch_from_before_it_says_so(there: StoreFile) -> None:
    async def story() -> None:
        async with opened(there.path, history=50) as store:
            start = await store.snapshot(NET)
            for at in range(70):
                await store.write_config(NET, b"%d" % at)
            with there.sql() as connection:
                assert connection.execute("SELECT count(*) FROM history").fetchone()[0] <= 51
            async with watched(store, NET, start.revision) as watch:
                assert isinstance(await watch.end(), Compacted)

    run(story())


def test_many_processes_that_start_at_once_make_one_store(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    program = (
        "import asyncio, sys\n"
        "from flannel_multi.options import SqliteOptions\n"
        "from flannel_multi.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    store = SqliteStore(SqliteOptions(sys.argv[1]))\n"
        "    await store.write_config(sys.argv[2], b'x')\n"
        "    print((await store.networks()).revision.cluster)\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    argv = [sys.executable, "-c", program, str(path)]
    processes = [subprocess.Popen([*argv, f"net{at}"], stdout=subprocess.PIPE, text=True) for at in range(8)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert len(set(said)) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["store.db"]

    async def story() -> None:
        async with opened(path) as store:
            assert (await store.networks()).names == tuple(f"net{at}" for at in range(8))

    run(story())


def test_a_worker_s_own_loop_serves_it_with_one_thread_while_idle(there: StoreFile) -> None:
    there.put_config(NET, CONFIG)

    async def story() -> None:
        store = SqliteStore(SqliteOptions(str(there.path)))
        lease = await store.acquire(NET, config(), attrs("192.0.2.1"), prefer=None)
        start = await store.snapshot(NET)
        watch = store.watch(NET, after=start.revision)
        first = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.2)
        assert "store" not in {thread.name for thread in threading.enumerate()}
        await store.publish(NET, lease, attrs("192.0.2.1", vni=2))
        assert isinstance(await first, LeaseWritten)
        await watch.aclose()
        await store.close()

    Loop().run(story())


def test_ten_thousand_leases_are_listed_in_a_moment_and_little_memory(there: StoreFile) -> None:
    there.put_leases(NET, [(f"10.{at >> 8}.{at & 255}.0-24", value("192.0.2.1")) for at in range(10_000)])

    async def story() -> None:
        async with opened(there.path) as store:
            await store.snapshot("green")
            tracemalloc.start()
            try:
                listed = await store.snapshot(NET)
                kept, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            began_s = monotonic()
            assert len((await store.snapshot(NET)).leases) == 10_000
            whole_s, began_s = monotonic() - began_s, monotonic()
            await store.snapshot(NET, known=Known(listed.revision, listed.leases))
            print(
                f"10,000 leases: listed in {whole_s * 1000:.0f} ms, the difference in "
                f"{(monotonic() - began_s) * 1000:.1f} ms, {kept >> 10} KiB kept, {most >> 10} KiB at most"
            )
            assert whole_s < 2
            assert most < 40 << 20

    run(story())


def test_a_closed_store_leaves_no_descriptor_behind(there: StoreFile) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def story() -> None:
        before = descriptors()
        for _ in range(3):
            async with opened(there.path) as store:
                start = await store.snapshot(NET)
                async with watched(store, NET, start.revision) as watch:
                    await store.write_config(NET, CONFIG)
                    await watch.until(lambda: bool(watch.changes))
        await asyncio.sleep(0.1)
        assert descriptors() == before

    run(story())
