"""Watches: one task of a store reads what is new in the history, and gives it to all who watch.

It is woken by the bell (`bell.py`), by the end of the next lease, and every LOOK_S besides: a writer that was killed
between its COMMIT and its ringing has changed the store all the same.

No gap and no double: a watcher is on the list before it reads the history up to where it stands, and reads are done in
the order in which they were asked. So what it is given later follows what it has read, or is among it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import NamedTuple

from flannel_multi.model.errors import Compacted, FlannelError, StoreUnavailable
from flannel_multi.store.protocol import Revision
from flannel_multi.store.sqlite.bell import Bell
from flannel_multi.store.sqlite.database import Database
from flannel_multi.store.sqlite.jobs import Jobs
from flannel_multi.store.sqlite.tables import HistoryRow, Tables

LOOK_S = 3.0
LOOK_DEAF_S = 0.5  # without inotify
LATE_S = 1.0  # a lease that has ended and cannot be deleted (full disk, lock) is tried again
PAGE = 1000  # changes read at a time
BACKLOG = 5000  # changes kept for a watcher that does not take them; then it reads the history itself
READ_S = 5.0


class Page(NamedTuple):
    """Changes up to `upto`; `more` when there are others after it. `next_end_s`: from now, of a lease."""

    rows: list[HistoryRow]
    upto: Revision
    more: bool
    next_end_s: float | None


def page_after(after: Revision, network: bytes | None, tables: Tables) -> Page:
    """The first changes after `after`. Raises Compacted when not all of them are known."""
    check_history(after, tables)
    rows = tables.history(after.number, network, PAGE)
    more = len(rows) == PAGE
    upto = after._replace(number=rows[-1].revision) if more else tables.revision
    return Page(rows, upto, more, tables.next_end_s())


def check_history(after: Revision, tables: Tables) -> None:
    """Raises Compacted when `after` is no point of this history, or one before its beginning."""
    if after.cluster != tables.cluster or after.number > tables.number:
        raise Compacted("the store file is another, or older, than the one known")
    if after.number < tables.floor:
        raise Compacted(f"changes up to revision {tables.floor} are forgotten")


class _Watcher:
    """One who watches `network`, or all (None). `behind`: what is new is not kept for it, it reads the history next."""

    def __init__(self, network: bytes | None) -> None:
        self.network = network
        self.behind = True
        self._rows: list[HistoryRow] = []
        self._fault: FlannelError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def give(self, rows: list[HistoryRow]) -> None:
        if not self.behind:
            self._rows.extend(rows)
            if len(self._rows) > BACKLOG:
                self._rows.clear()
                self.behind = True
        _wake(self._waiter)

    def fail(self, fault: FlannelError) -> None:
        self._fault = fault
        _wake(self._waiter)

    async def next_rows(self) -> list[HistoryRow]:
        """What is new, waited for; nothing when it is behind. Raises what the watch ends with."""
        while not (self._rows or self.behind):
            if self._fault is not None:
                raise self._fault
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        rows, self._rows = self._rows, []
        return rows


class Tail:
    """The end of the history, followed while anyone watches."""

    def __init__(self, path: str, jobs: Jobs, database: Database) -> None:
        self._path = path
        self._jobs = jobs
        self._database = database
        self._watchers: dict[bytes | None, set[_Watcher]] = {}
        self._follower: asyncio.Task[None] | None = None

    async def watch(self, network: bytes | None, after: Revision) -> AsyncGenerator[HistoryRow, None]:
        """Every change after `after`, of one network or of all. Raises Compacted, StoreUnavailable, StoreRefused."""
        watcher = _Watcher(network)
        self._watchers.setdefault(network, set()).add(watcher)
        try:
            at, more = after, True
            while True:
                while more:
                    watcher.behind = False
                    page = await self._jobs.read(partial(page_after, at, network), READ_S)
                    for row in page.rows:
                        yield row
                    at, more = page.upto, page.more
                self._follow(at)
                for row in await watcher.next_rows():
                    if row.revision > at.number:
                        at = at._replace(number=row.revision)
                        yield row
                more = watcher.behind
        finally:
            self._leave(watcher)

    def stop(self) -> None:
        """Nobody is given anything any more."""
        if self._follower is not None:
            self._follower.cancel()
            self._follower = None

    def _leave(self, watcher: _Watcher) -> None:
        group = self._watchers[watcher.network]
        group.discard(watcher)
        if not group:
            del self._watchers[watcher.network]
        if not self._watchers:
            self.stop()

    def _follow(self, at: Revision) -> None:
        if self._follower is None:
            follower = _Follower(self._path, self._jobs, self._database)
            self._follower = asyncio.get_running_loop().create_task(self._give_all(follower, at))
            self._follower.add_done_callback(self._ended)

    async def _give_all(self, follower: _Follower, at: Revision) -> None:
        try:
            async for rows in follower.pages(at):
                self._give(rows)
        finally:
            follower.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The store failed, or a mistake of ours: watches that are told nothing more must not look alive."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._follower is task:
            self._follower = None
        fault = (
            error if isinstance(error, FlannelError) else StoreUnavailable(f"{self._path}: the look failed: {error!r}")
        )
        for group in self._watchers.values():
            for watcher in group:
                watcher.fail(fault)

    def _give(self, rows: list[HistoryRow]) -> None:
        by_network: dict[bytes | None, list[HistoryRow]] = {None: rows}
        for row in rows:
            by_network.setdefault(row.network, []).append(row)
        for network, some in by_network.items():
            for watcher in self._watchers.get(network, ()):
                watcher.give(some)


class _Follower:
    """Reads on whenever the file changes."""

    def __init__(self, path: str, jobs: Jobs, database: Database) -> None:
        self._path = path
        self._jobs = jobs
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._rung = False
        self._heard = 0  # the inode that the bell hangs on
        self._bell = self._new_bell()

    async def pages(self, at: Revision) -> AsyncGenerator[list[HistoryRow], None]:
        while True:
            fresh = self._hang()  # before the look: what comes after the look rings
            self._rung = False
            page = await self._jobs.read(partial(page_after, at, None), READ_S)
            at = page.upto
            if page.rows:
                yield page.rows
            if not (page.more or fresh):
                await self._rest(page.next_end_s)

    def close(self) -> None:
        if self._bell is not None:
            self._loop.remove_reader(self._bell.fd)
            self._bell.close()
            self._bell = None

    def _new_bell(self) -> Bell | None:
        try:
            bell = Bell()
        except OSError:  # fs.inotify.max_user_instances: LOOK_DEAF_S does instead
            return None
        self._loop.add_reader(bell.fd, self._ring)
        return bell

    def _hang(self) -> bool:
        """Listens to the file that is read, if that is another than before; True then."""
        if self._bell is None or self._heard == self._database.inode:
            return False
        try:
            self._bell.hang(self._path)
        except OSError:  # it was taken away just now: the next look says so
            return False
        self._heard = self._database.inode
        return True

    def _ring(self) -> None:
        if self._bell is not None:
            self._bell.hush()
        self._rung = True
        _wake(self._waiter)

    async def _rest(self, next_end_s: float | None) -> None:
        """Until there may be something new."""
        if self._rung:
            return
        wait_s = LOOK_S if self._bell is not None else LOOK_DEAF_S
        if next_end_s is not None:
            wait_s = min(wait_s, next_end_s if next_end_s > 0 else LATE_S)
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(wait_s, _wake, self._waiter)
        try:
            await self._waiter
        finally:
            timer.cancel()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
