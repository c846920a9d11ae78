"""One connection and the transactions on it. Everything here blocks: it runs in the store's thread (`jobs.py`).

Writes that wait at the same time share one transaction, and so one fsync; each stands or falls alone in it, by a
savepoint, and is acknowledged after the COMMIT. A reader finds what has ended first, and deletes it if it can.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TypeVar

from flannel_multi.model.errors import FlannelError, StoreUnavailable
from flannel_multi.store.sqlite.clock import Clock
from flannel_multi.store.sqlite.faults import explained, is_broken
from flannel_multi.store.sqlite.schema import Opened, files_beside, inode_of, open_file
from flannel_multi.store.sqlite.tables import HISTORY, Tables

SETTLE_S = 0.2  # a reader waits so long for the lock to delete what has ended; without it, it looks past that
TURN_S = 0.25  # writers wait so long for the lock, then readers have their turn
SPARE_S = 0.05  # of a call's time, for the way back to its caller


class Call(Protocol):
    """What a caller wants done within a transaction, and by when (monotonic)."""

    @property
    def ends_s(self) -> float: ...
    def do(self, tables: Tables) -> Any: ...
    def done(self, result: Any) -> None: ...
    def failed(self, error: BaseException) -> None: ...


_C = TypeVar("_C", bound=Call)


class Database:
    """The store file at `path`, opened when it is first asked, and again when it was replaced."""

    def __init__(self, path: str, clock: Clock, history: int = HISTORY) -> None:
        self._path = path
        self._file = Path(path)
        self._clock = clock
        self._history = history
        self._opened: Opened | None = None

    @property
    def inode(self) -> int:
        """Of the file that was last read; 0: none yet."""
        return self._opened.inode if self._opened else 0

    def read(self, call: Call) -> None:
        """Does `call` in a transaction that writes nothing."""
        try:
            connection = self._connection(call.ends_s)
            tables = _begun(connection, "BEGIN", call.ends_s, self._clock)
            if tables.due():
                connection.execute("ROLLBACK")
                self._settle(connection)
                tables = _begun(connection, "BEGIN", call.ends_s, self._clock)
            result = call.do(tables)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  the edge of the thread: whoever asked hears of it
            call.failed(self._given_up(error))
        else:
            call.done(result)

    def write(self, calls: Sequence[_C]) -> Sequence[_C]:
        """Does all `calls` in one transaction. Returns those that wait on: another process has the lock."""
        ends_s = min(monotonic() + TURN_S, *(call.ends_s for call in calls))
        try:
            connection = self._connection(ends_s)
            tables = _begun(connection, "BEGIN IMMEDIATE", ends_s, self._clock)
            tables.settle()
            outcomes = [(call, *_alone(connection, tables, call)) for call in calls]
            self._commit(connection, tables)
        except Exception as error:  # noqa: BLE001  as above
            given_up = self._given_up(error)
            late_s = monotonic() + 2 * SPARE_S
            waiting = [call for call in calls if call.ends_s > late_s and isinstance(given_up, StoreUnavailable)]
            for call in calls:
                if call not in waiting:
                    call.failed(given_up)
            return waiting
        for call, result, refused in outcomes:
            call.done(result) if refused is None else call.failed(refused)
        return ()

    def close(self) -> None:
        """Leaves the file; the last to do so folds its log into it."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            try:
                opened.connection.close()
            except sqlite3.Error:  # a full disk: the log stays, and is read by whoever opens the file next
                pass

    def _settle(self, connection: sqlite3.Connection) -> None:
        """Deletes what has ended, if that can be had at once: else the reader looks past it, and a later one tries."""
        try:
            tables = _begun(connection, "BEGIN IMMEDIATE", monotonic() + SETTLE_S, self._clock)
            tables.settle()
            self._commit(connection, tables)
        except sqlite3.Error as error:
            _rolled_back(connection)
            if is_broken(error):
                raise

    def _commit(self, connection: sqlite3.Connection, tables: Tables) -> None:
        changed = tables.finish(self._history)
        connection.execute("COMMIT")
        if changed:
            try:
                os.utime(self._path)  # rings: watchers hear of a change of the file's times (see bell.py)
            except OSError:  # they look by themselves soon
                pass

    def _connection(self, ends_s: float) -> sqlite3.Connection:
        if self._opened is not None and self._replaced(self._opened):
            self._leave_replaced()
        if self._opened is None:
            self._opened = open_file(self._path, self._clock, _busy_ms(ends_s))
        return self._opened.connection

    def _replaced(self, opened: Opened) -> bool:
        try:
            return inode_of(self._file.stat()) != opened.inode
        except FileNotFoundError:
            return True

    def _leave_replaced(self) -> None:
        """The log of the file that went must not be taken for one of the file that came."""
        ours = self._opened.beside if self._opened else {}
        self.close()
        for name, inode in files_beside(self._path).items():
            if ours.get(name) == inode:
                Path(name).unlink(missing_ok=True)

    def _given_up(self, error: Exception) -> Exception:
        """`error` for the caller; the connection is without a transaction afterwards, or closed."""
        if self._opened is not None:
            if isinstance(error, sqlite3.Error) and is_broken(error):
                self.close()
            else:
                _rolled_back(self._opened.connection)
        return explained(self._path, error) if isinstance(error, (sqlite3.Error, OSError)) else error


def _begun(connection: sqlite3.Connection, begin: str, ends_s: float, clock: Clock) -> Tables:
    connection.execute(f"PRAGMA busy_timeout={_busy_ms(ends_s)}")
    connection.execute(begin)
    return Tables(connection, clock)


def _alone(connection: sqlite3.Connection, tables: Tables, call: Call) -> tuple[Any, Exception | None]:
    """The result of `call`, or why it is refused: then it has changed nothing. Raises sqlite3.Error: all is lost."""
    number = tables.number
    connection.execute("SAVEPOINT call")
    result, refused = None, None
    try:
        result = call.do(tables)
    except (FlannelError, ValueError, TypeError) as error:
        connection.execute("ROLLBACK TO call")
        tables.number, refused = number, error
    connection.execute("RELEASE call")
    return result, refused


def _rolled_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:  # SQLite rolled back by itself
            pass


def _busy_ms(ends_s: float) -> int:
    return max(0, int((ends_s - SPARE_S - monotonic()) * 1000))
