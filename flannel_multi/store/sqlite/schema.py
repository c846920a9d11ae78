"""The file: its tables, how it is made, and what is looked at before it is used.

A lease has the name and value that it has in etcd, so that poison is poison here too. Each change of a key has a
revision of its own, and one row of history. Names are bytes: SQLite keeps any, Python's str does not.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path
from typing import NamedTuple

from flannel_multi.model.errors import StoreRefused
from flannel_multi.store.sqlite.clock import Clock

APPLICATION_ID = 0x464C4E4C  # "FLNL", in the file's header
VERSION = 1  # user_version
CACHE_KIB = 512  # of SQLite's own; the kernel caches the file for all workers together
WAL_BYTES = 16 << 20  # what a write-ahead log that once grew is cut to

_TABLES = """
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    cluster TEXT NOT NULL,      -- whose history the revisions are of: drawn anew when the file is a copy
    inode INTEGER NOT NULL,     -- of the file, by which a copy is known
    revision INTEGER NOT NULL,  -- of the last change
    floor INTEGER NOT NULL,     -- history up to here is forgotten
    boot TEXT NOT NULL, ahead_s REAL NOT NULL, wall_s REAL NOT NULL  -- the clocks at the last write
);
CREATE TABLE configs (
    network TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE leases (
    network TEXT NOT NULL,
    name TEXT NOT NULL,         -- 10.1.5.0-24
    value BLOB NOT NULL,        -- JSON, as in etcd
    lease_id INTEGER NOT NULL,  -- 0: a reservation
    expires_at REAL,            -- Unix time; NULL: never
    revision INTEGER NOT NULL,  -- of the last write of the value
    PRIMARY KEY (network, name)
) WITHOUT ROWID;
CREATE INDEX leases_by_end ON leases (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE history (
    revision INTEGER PRIMARY KEY,
    network TEXT NOT NULL,
    name TEXT,                  -- NULL: the config
    value BLOB,                 -- NULL: deleted
    lease_id INTEGER NOT NULL
);
"""


class Opened(NamedTuple):
    """A connection, the inode of the file that it is to, and those of the files `beside` it, by path."""

    connection: sqlite3.Connection
    inode: int
    beside: dict[str, int]


def open_file(path: str, clock: Clock, busy_ms: int) -> Opened:
    """Opens the store at `path`, made if there is none. Raises sqlite3.Error, OSError, StoreRefused.

    An existing file is never opened but by SQLite: to close a descriptor of it would drop every lock on it that this
    process holds, those of another connection too (fcntl(2)).
    """
    while True:
        try:
            found = Path(path).stat()
            break
        except FileNotFoundError:
            _make(path, clock)
    if found.st_size == 0:
        raise StoreRefused(f"store file {path} is empty, no store: if it is to be a new one, remove it")
    connection, inode = _connect(path, busy_ms), inode_of(found)
    try:
        _check(connection, path)
        _settle_identity(connection, inode)
    except BaseException:
        connection.close()
        raise
    return Opened(connection, inode, files_beside(path))


def files_beside(path: str) -> dict[str, int]:
    """The inodes of the log and its index, which SQLite keeps while anybody has the file open."""
    found: dict[str, int] = {}
    for name in (f"{path}-wal", f"{path}-shm"):
        try:
            found[name] = Path(name).stat().st_ino
        except FileNotFoundError:
            pass
    return found


def inode_of(found: os.stat_result) -> int:
    """As a number that SQLite can keep."""
    return found.st_ino & 0x7FFFFFFFFFFFFFFF


def _connect(path: str, busy_ms: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_ms / 1000, isolation_level=None, check_same_thread=False)
    connection.text_factory = bytes
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: str) -> None:
    """Raises StoreRefused when the file is not one that this version can keep."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreRefused(f"{path} is another program's database, not a flannel store: name another file by --store")
    if version != VERSION:
        raise StoreRefused(
            f"store file {path} has schema {version}, and this flannel-multi knows {VERSION}: "
            "run the version that wrote it, or upgrade this one; nothing was changed"
        )
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != b"wal":  # somebody switched it off
        connection.execute("PRAGMA journal_mode=WAL")


def _settle_identity(connection: sqlite3.Connection, inode: int) -> None:
    """A file that was copied or restored begins a history of its own: what its leases did since, nobody knows."""
    if connection.execute("SELECT inode FROM meta").fetchone()[0] != inode:
        connection.execute(
            "UPDATE meta SET cluster = ?, inode = ?, floor = revision WHERE inode != ?",
            (_new_cluster(), inode, inode),
        )


def _make(path: str, clock: Clock) -> None:
    """A whole store appears under its name at once, or none: others may be doing the same just now."""
    folder = Path(path).parent
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = f"{path}.new-{secrets.token_hex(8)}"
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        connection = _connect(draft, 0)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            now = clock.read()
            meta = (_new_cluster(), inode_of(Path(draft).stat()), *now)
            connection.executescript(
                f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; BEGIN; {_TABLES} COMMIT"
            )
            connection.execute("INSERT INTO meta VALUES (1, ?, ?, 1, 0, ?, ?, ?)", meta)
        finally:
            connection.close()
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was faster: its store is as good
    finally:
        for name in (draft, f"{draft}-wal", f"{draft}-shm"):
            Path(name).unlink(missing_ok=True)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _new_cluster() -> str:
    return secrets.token_hex(8)
