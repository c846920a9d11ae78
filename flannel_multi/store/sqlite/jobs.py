"""From the loop to a thread and back: SQLite waits for disks and locks, and a loop must not.

The thread lives as long as there is something to do. It tells the loop by an eventfd that calls are done, since a
worker's loop takes calls from no other thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeVar, cast

from flannel_multi.model.errors import StoreUnavailable
from flannel_multi.store.sqlite.database import Database
from flannel_multi.store.sqlite.tables import Tables

TOGETHER = 256  # writes in one transaction: others wait for the lock meanwhile
CLOSING_S = 5.0
_T = TypeVar("_T")


class _Call:
    """One caller's wish; to leave the file, if `work` is None. Its thread writes the outcome, the loop reads it."""

    __slots__ = ("_error", "_result", "ends_s", "future", "work", "writes")

    def __init__(
        self, work: Callable[[Tables], Any] | None, writes: bool, ends_s: float, future: asyncio.Future[Any]
    ) -> None:
        self.work = work
        self.writes = writes
        self.ends_s = ends_s
        self.future = future
        self._result: Any = None
        self._error: BaseException | None = None

    def do(self, tables: Tables) -> Any:
        assert self.work is not None
        return self.work(tables)

    def done(self, result: Any) -> None:
        self._result = result

    def failed(self, error: BaseException) -> None:
        self._error = error

    def tell(self) -> None:
        if self.future.done():  # given up meanwhile
            return
        if self._error is None:
            self.future.set_result(self._result)
        else:
            self.future.set_exception(self._error)


class Jobs:
    """Calls on one database, one after another. The loop is the one that runs at the first call."""

    def __init__(self, path: str, database: Database) -> None:
        self._path = path
        self._database = database
        self._lock = threading.Lock()  # over the five below
        self._waiting: deque[_Call] = deque()
        self._finished: deque[_Call] = deque()
        self._running = False
        self._closed = False
        self._event = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    async def read(self, work: Callable[[Tables], _T], timeout_s: float) -> _T:
        """What `work` finds in one transaction. Raises what it raises, StoreUnavailable, StoreRefused."""
        return cast(_T, await self._do(work, False, timeout_s))

    async def write(self, work: Callable[[Tables], _T], timeout_s: float) -> _T:
        """As `read`; what it wrote is on disk."""
        return cast(_T, await self._do(work, True, timeout_s))

    async def close(self) -> None:
        """Waits for what is under way, and leaves the file."""
        if self._loop is None or self._closed:
            return
        try:
            await self._do(None, False, CLOSING_S)
        except StoreUnavailable:  # the thread hangs in the kernel, and ends with the process
            pass
        with self._lock:
            self._closed = True
            self._loop.remove_reader(self._event)
            os.close(self._event)

    async def _do(self, work: Callable[[Tables], Any] | None, writes: bool, timeout_s: float) -> Any:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self._event = loop, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            loop.add_reader(self._event, self._tell)
        call = _Call(work, writes, monotonic() + timeout_s, loop.create_future())
        try:
            async with asyncio.timeout(timeout_s):
                self._ask(call)
                return await call.future
        except TimeoutError:
            raise StoreUnavailable(
                f"store file {self._path}: no answer within {timeout_s:g} s: its disk hangs, or is too slow"
            ) from None

    def _ask(self, call: _Call) -> None:
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"store file {self._path} was closed")
            self._waiting.append(call)
            if self._running:
                return
            try:
                threading.Thread(target=self._run, name="store", daemon=True).start()
            except RuntimeError as error:  # the limit of processes is reached
                self._waiting.remove(call)
                raise StoreUnavailable(f"store file {self._path}: no thread to be had: {error}") from None
            self._running = True

    def _tell(self) -> None:
        """In the loop: hands out what is done."""
        os.eventfd_read(self._event)
        while self._finished:
            self._finished.popleft().tell()

    def _run(self) -> None:
        """The thread."""
        while batch := self._next():
            first = batch[0]
            waiting: Sequence[_Call] = ()
            if first.work is None:
                self._database.close()
            elif first.writes:
                waiting = self._database.write(batch)
            else:
                self._database.read(first)
            with self._lock:
                self._waiting.extend(waiting)
                self._finished.extend(call for call in batch if call not in waiting)
                if not self._closed:
                    os.eventfd_write(self._event, 1)

    def _next(self) -> list[_Call]:
        """The next read, or the writes up to it; without those whose callers have given up."""
        batch: list[_Call] = []
        with self._lock:
            while self._waiting and len(batch) < TOGETHER:
                if batch and not (batch[0].writes and self._waiting[0].writes):
                    break
                call = self._waiting.popleft()
                if not call.future.done():
                    batch.append(call)
            self._running = bool(batch)
        return batch
