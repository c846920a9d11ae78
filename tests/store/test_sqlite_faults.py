"""What can go wrong with a file: full and read-only disks, locks, damage, strangers, copies, and clocks that jump."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from flannel_multi.model.errors import Compacted, LeaseLost, StoreRefused, StoreUnavailable
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.protocol import ConfigWritten, Known, LeaseWritten
from flannel_multi.store.sqlite import SqliteStore
from flannel_multi.store.sqlite.clock import Clock, host_clock
from flannel_multi.store.sqlite.database import Database
from flannel_multi.store.sqlite.jobs import Jobs
from tests.lab.small_disk import on_small_disk, remount
from tests.lab.store_file import StoreFile
from tests.store.rig import CONFIG, attrs, config, run, value, watched
from tests.store.test_sqlite_contract import opened

NET = "blue"
FIVE = Subnet.parse("10.1.5.0/24")
DAY_S = 86_400


@pytest.fixture
def there(tmp_path: Path) -> StoreFile:
    return StoreFile(tmp_path / "store.db")


async def fill(store: SqliteStore) -> list[bytes]:
    """Writes configs until it is refused; those that were acknowledged."""
    written: list[bytes] = []
    while len(written) < 10_000:
        raw = b"%06d" % len(written) + b"x" * 8000
        try:
            await store.write_config(NET, raw)
        except StoreRefused:
            break
        written.append(raw)
    with pytest.raises(StoreRefused, match=r"no space left for store file .*goes on once there is room"):
        await store.write_config(NET, bytes(200_000))
    return written


def test_a_full_disk_is_said_loses_nothing_and_is_written_again_once_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        ballast = tmp_path / "ballast"
        ballast.write_bytes(bytes(200 << 10))
        path = tmp_path / "store.db"
        async with opened(path) as store, opened(path) as other:
            lease = await store.acquire(NET, config(), attrs("192.0.2.1"), prefer=None)
            start = await store.snapshot(NET)
            written = await fill(store)
            assert written
            for reader in (store, other):
                found = await reader.snapshot(NET)
                assert found.config == written[-1]
                assert found.leases == {lease.record.subnet: lease.record}
            async with watched(other, NET, start.revision) as watch:
                await watch.until(lambda: len(watch.changes) == len(written))
                ballast.unlink()
                new = await store.put_lease(NET, FIVE, attrs("192.0.2.5"))
                await watch.until(lambda: len(watch.changes) == len(written) + 1)
            assert (await other.renew(NET, lease)).record == lease.record
        async with opened(path) as later:
            found = await later.snapshot(NET)
            assert found.leases == {lease.record.subnet: lease.record, FIVE: new.record}

    on_small_disk(tmp_path, 800, lambda: run(story()))


def test_a_lease_that_ends_on_a_full_disk_is_not_shown_and_is_gone_once_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        ballast = tmp_path / "ballast"
        ballast.write_bytes(bytes(200 << 10))
        async with opened(tmp_path / "store.db") as store:
            await store.put_lease(NET, FIVE, attrs("192.0.2.5"), ttl_s=2)
            before = await store.snapshot(NET)
            await fill(store)
            full = await store.snapshot(NET)
            await asyncio.sleep(2.1)
            for known in (None, Known(before.revision, before.leases), Known(full.revision, full.leases)):
                assert not (await store.snapshot(NET, known=known)).leases
            async with watched(store, NET, full.revision) as watch:
                await asyncio.sleep(0.2)
                assert not watch.changes
                ballast.unlink()
                await watch.until(lambda: bool(watch.changes), 4)

    on_small_disk(tmp_path, 800, lambda: run(story()))


def test_no_room_for_a_new_store_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "ballast").write_bytes(bytes(56 << 10))
        async with opened(tmp_path / "store.db") as store:
            with pytest.raises(StoreRefused, match="no space left for store file"):
                await store.snapshot(NET)
            (tmp_path / "ballast").unlink()
            assert (await store.snapshot(NET)).config is None
        assert [entry.name for entry in tmp_path.iterdir()] == ["store.db"]

    on_small_disk(tmp_path, 128, lambda: run(story()))


def test_a_read_only_disk_is_said_and_is_written_again_once_it_is_not(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "store.db") as store:
            await store.write_config(NET, CONFIG)
        remount(tmp_path, writable=False)
        async with opened(tmp_path / "store.db") as store:
            with pytest.raises(StoreRefused, match=r"store file .*store\.db .*(read-only|be opened)"):
                await store.write_config(NET, b"two")
            remount(tmp_path, writable=True)
            await store.write_config(NET, b"three")
            assert (await store.read_config(NET)).config == b"three"

    on_small_disk(tmp_path, 800, lambda: run(story()))


@contextmanager
def lock_holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of a write."""
    program = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_locked_file_is_said_in_time_with_who_holds_it_and_reads_go_on(there: StoreFile) -> None:
    there.put_config(NET, CONFIG)

    async def story() -> None:
        async with opened(there.path) as store:
            with lock_holder(there.path) as holder:
                began_s = monotonic()
                patient = asyncio.create_task(store.put_lease(NET, FIVE, attrs("192.0.2.5"), timeout_s=10))
                with pytest.raises(StoreUnavailable, match=rf"is locked by process {holder.pid} \(python"):
                    await store.write_config(NET, b"two", timeout_s=0.5)
                assert 0.3 < monotonic() - began_s < 0.9
                holder.kill()
                assert (await patient).record.subnet == FIVE
            with lock_holder(there.path):
                assert (await store.snapshot(NET)).config == CONFIG

    run(story())


def test_reads_and_watches_go_on_while_a_write_waits_for_a_lock(there: StoreFile) -> None:
    async def story() -> None:
        async with opened(there.path) as store:
            start = await store.snapshot(NET)
            async with watched(store, NET, start.revision) as watch:
                with lock_holder(there.path):
                    waiting = asyncio.create_task(store.write_config(NET, b"two", timeout_s=10))
                    for _ in range(5):
                        await asyncio.sleep(0.05)
                        assert (await store.snapshot(NET, timeout_s=1)).config is None
                revision = await waiting
                await watch.until(lambda: bool(watch.changes))
                assert watch.changes == [ConfigWritten(b"two", revision)]

    run(story())


def test_a_call_ends_in_time_though_the_disk_hangs_and_the_next_is_done_once_it_does_not(there: StoreFile) -> None:
    released = threading.Event()

    async def story() -> None:
        jobs = Jobs(str(there.path), Database(str(there.path), host_clock()))
        began_s = monotonic()
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.3 s: its disk hangs"):
            await jobs.read(lambda tables: released.wait(10), 0.3)
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.2 s"):
            await jobs.read(lambda tables: tables.number, 0.2)
        assert monotonic() - began_s < 0.8
        released.set()
        assert await jobs.read(lambda tables: tables.number, 5) == 1
        await jobs.close()

    run(story())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty, no store: if it is to be a new one, remove it"),
        (b"[settings]\n" * 400, "is no store file"),
    ],
)
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)

    async def story() -> None:
        async with opened(path) as store:
            with pytest.raises(StoreRefused, match=text):
                await store.write_config(NET, CONFIG)

    run(story())
    assert path.read_bytes() == content


def test_another_program_s_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE leases (id)")
    before = path.read_bytes()

    async def story() -> None:
        async with opened(path) as store:
            with pytest.raises(StoreRefused, match="another program's database"):
                await store.snapshot(NET)

    run(story())
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_and_left_as_it_is(there: StoreFile) -> None:
    there.put_config(NET, CONFIG)
    with there.sql() as connection:
        connection.execute("PRAGMA user_version=2")

    async def story() -> None:
        async with opened(there.path) as store:
            with pytest.raises(StoreRefused, match=r"has schema 2, and this flannel-multi knows 1: run the version"):
                await store.write_config(NET, b"two")

    run(story())
    with closing(sqlite3.connect(there.path)) as connection:
        assert connection.execute("SELECT value FROM configs").fetchone() == (CONFIG,)


def test_a_folder_and_a_folder_that_cannot_be_made_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    async def story() -> None:
        for path, text in ((tmp_path, "no regular file"), (tmp_path / "file" / "store.db", "Not a directory")):
            async with opened(path) as store:
                with pytest.raises(StoreRefused, match=text):
                    await store.snapshot(NET)

    run(story())


def test_a_damaged_file_is_said_to_callers_and_watchers_and_a_backup_put_in_its_place_is_taken(
    there: StoreFile, tmp_path: Path
) -> None:
    there.put_leases(NET, [(f"10.1.{at}.0-24", value("192.0.2.1")) for at in range(250)])
    backup = tmp_path / "backup.db"
    shutil.copy(there.path, backup)
    with there.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (there.path.stat().st_size - 4096))

    async def story() -> None:
        async with opened(there.path) as store:
            with pytest.raises(StoreRefused, match=r"is damaged .*put a backup there"):
                await store.snapshot(NET)
            backup.rename(there.path)
            assert len((await store.snapshot(NET)).leases) == 250

    run(story())


# -- copies --------------------------------------------------------------------------------------------------------


def test_a_restored_copy_is_noticed_by_those_who_watch_list_and_start_anew(there: StoreFile, tmp_path: Path) -> None:
    there.put_lease(NET, "10.1.5.0-24", value("192.0.2.5"))
    backup = tmp_path / "backup.db"
    shutil.copy(there.path, backup)

    async def story() -> None:
        async with opened(there.path) as store, opened(there.path) as other:
            await other.put_lease(NET, Subnet.parse("10.1.6.0/24"), attrs("192.0.2.6"))
            before = await store.snapshot(NET)
            await other.snapshot(NET)
            async with watched(store, NET, before.revision) as watch:
                await asyncio.sleep(0.2)
                backup.rename(there.path)
                assert isinstance(await watch.end(6), Compacted)
            for at in range(7, 10):  # its revisions overtake those that are known
                await other.put_lease(NET, Subnet.parse(f"10.1.{at}.0/24"), attrs(f"192.0.2.{at}"))
            for reader, known in ((store, Known(before.revision, before.leases)), (other, None)):
                found = await reader.snapshot(NET, known=known)
                assert found.restored
                assert sorted(subnet.key for subnet in found.leases) == [
                    "10.1.5.0-24", "10.1.7.0-24", "10.1.8.0-24", "10.1.9.0-24",
                ]  # fmt: skip
        async with opened(there.path) as later:
            assert (await later.snapshot(NET, known=Known(before.revision, before.leases))).restored
            whole = await later.snapshot(NET)
            assert not whole.restored
            assert not (await later.snapshot(NET, known=Known(whole.revision, whole.leases))).restored

    run(story())


def test_a_file_put_back_in_place_by_sqlite_itself_is_noticed_by_its_lower_revision(
    there: StoreFile, tmp_path: Path
) -> None:
    there.put_lease(NET, "10.1.5.0-24", value("192.0.2.5"))
    with closing(sqlite3.connect(there.path)) as source, closing(sqlite3.connect(tmp_path / "backup.db")) as target:
        source.backup(target)

    async def story() -> None:
        async with opened(there.path) as store:
            await store.put_lease(NET, Subnet.parse("10.1.6.0/24"), attrs("192.0.2.6"))
            before = await store.snapshot(NET)
            async with watched(store, NET, before.revision) as watch:
                await asyncio.sleep(0.2)
                with (
                    closing(sqlite3.connect(tmp_path / "backup.db")) as source,
                    closing(sqlite3.connect(there.path)) as target,
                ):
                    source.backup(target)
                assert isinstance(await watch.end(6), Compacted)
            assert (await store.snapshot(NET, known=Known(before.revision, before.leases))).restored

    run(story())


def test_a_file_that_was_deleted_under_running_stores_is_another_store(there: StoreFile) -> None:
    async def story() -> None:
        async with opened(there.path) as store, opened(there.path) as other:
            await other.put_lease(NET, FIVE, attrs("192.0.2.5"))
            before = await store.snapshot(NET)
            there.path.unlink()
            found = await store.snapshot(NET, known=Known(before.revision, before.leases))
            assert found.restored
            assert not found.leases
            await other.put_lease(NET, FIVE, attrs("192.0.2.5"))
            assert list((await store.snapshot(NET)).leases) == [FIVE]

    run(story())


# -- clocks --------------------------------------------------------------------------------------------------------


@dataclass
class Hands:
    """A machine's clocks, to be set: `passes` moves both, `is_set` the wall clock alone."""

    boot: str = "one"
    wall_s: float = 1_800_000_000.0
    since_boot_s: float = 100.0

    def clock(self) -> Clock:
        return Clock(self.boot, lambda: self.wall_s, lambda: self.since_boot_s)

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.since_boot_s += seconds

    def is_set(self, by_s: float) -> None:
        self.wall_s += by_s

    def reboots(self, boot: str, wall_s: float) -> None:
        self.boot, self.wall_s, self.since_boot_s = boot, wall_s, 5.0


@pytest.mark.parametrize("by_s", [-400 * DAY_S, -3600, 3600, 400 * DAY_S])
def test_a_wall_clock_that_is_set_ends_no_lease_and_lets_none_live_on(there: StoreFile, by_s: float) -> None:
    hands = Hands()

    async def story() -> None:
        async with opened(there.path, clock=hands.clock()) as store, opened(there.path, clock=hands.clock()) as other:
            lease = await store.acquire(NET, config(), attrs("192.0.2.1"), prefer=None)
            hands.is_set(by_s)
            for _ in range(2):
                assert len((await store.snapshot(NET)).leases) == 1
                assert len((await other.snapshot(NET)).leases) == 1
            hands.passes(DAY_S - 10)
            assert (await other.snapshot(NET)).leases == {lease.record.subnet: lease.record}
            hands.passes(20)
            assert not (await other.snapshot(NET)).leases
            with pytest.raises(LeaseLost):
                await store.renew(NET, lease)

    run(story())


@pytest.mark.parametrize(
    ("off_s", "standing"),
    [(3600.0, True), (DAY_S - 60.0, True), (DAY_S + 60.0, False)],
    ids=["an hour", "a day", "more"],
)
def test_time_goes_on_while_the_machine_is_off(there: StoreFile, off_s: float, standing: bool) -> None:
    hands = Hands()

    async def story() -> None:
        async with opened(there.path, clock=hands.clock()) as store:
            await store.acquire(NET, config(), attrs("192.0.2.1"), prefer=None)
        hands.reboots("two", hands.wall_s + off_s)
        async with opened(there.path, clock=hands.clock()) as store:
            assert bool((await store.snapshot(NET)).leases) is standing

    run(story())


def test_a_machine_that_boots_in_1970_and_learns_the_time_later_loses_no_lease(there: StoreFile) -> None:
    hands = Hands()

    async def story() -> None:
        async with opened(there.path, clock=hands.clock()) as store:
            lease = await store.acquire(NET, config(), attrs("192.0.2.1"), prefer=None)
        true_s = hands.wall_s + 60
        hands.reboots("two", 5.0)
        async with opened(there.path, clock=hands.clock()) as store:
            assert len((await store.snapshot(NET)).leases) == 1
            hands.is_set(true_s - hands.wall_s)
            assert (await store.renew(NET, lease)).ttl_s == DAY_S
            hands.passes(DAY_S + 10)
            assert not (await store.snapshot(NET)).leases

    run(story())


def test_a_store_that_is_closed_says_so(there: StoreFile) -> None:
    async def story() -> None:
        async with opened(there.path) as store:
            await store.write_config(NET, CONFIG)
        with pytest.raises(StoreUnavailable, match="was closed"):
            await store.read_config(NET)

    run(story())


def test_a_poisoned_key_is_in_nobody_s_way_and_its_subnet_is_not_given_out(there: StoreFile) -> None:
    tiny = config(b'{"Network":"10.1.0.0/16","SubnetLen":24,"SubnetMin":"10.1.1.0","SubnetMax":"10.1.2.0"}')
    there.put_lease(NET, "10.1.1.0-24", b"\xff{")
    there.put_lease(NET, b"\xff\x00", b"x")

    async def story() -> None:
        async with opened(there.path) as store:
            lease = await store.acquire(NET, tiny, attrs("192.0.2.1"), prefer=Subnet.parse("10.1.1.0/24"))
            assert lease.record.subnet == Subnet.parse("10.1.2.0/24")
            found = await store.snapshot(NET)
            assert list(found.leases) == [lease.record.subnet]
            assert len(found.skipped) == 2
            over = await store.put_lease(NET, Subnet.parse("10.1.1.0/24"), attrs("192.0.2.9"))
            assert isinstance((await store.replay(NET, after=found.revision.number, upto=await store.snapshot(NET)))[0],
                              LeaseWritten)  # fmt: skip
            assert (await store.snapshot(NET)).leases[over.record.subnet] == over.record

    run(story())
