"""What SQLite and the kernel answer, in words that say what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from flannel_multi.model.errors import FlannelError, StoreRefused, StoreUnavailable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explained(path: str, error: sqlite3.Error | OSError) -> FlannelError:
    """`error`, met at the store file `path`, as one for the caller."""
    if isinstance(error, OSError):
        return _full(path) if error.errno in _FULL else StoreRefused(f"store file {path}: {error.strerror}")
    name = getattr(error, "sqlite_errorname", "")  # none on what Python's module says itself
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return StoreUnavailable(f"store file {path} is locked by {holder(path)}")
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_READONLY:
            return StoreRefused(f"store file {path} cannot be written: {_why_not_written(path)}")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return _full(path) if _no_space(path) else StoreRefused(_cannot_open(path))
        case sqlite3.SQLITE_CORRUPT:
            return StoreRefused(
                f"store file {path} is damaged ({error}): stop what uses it, keep a copy, "
                f"and put a backup there or what `sqlite3 {path} .recover` saves"
            )
        case sqlite3.SQLITE_NOTADB:
            return StoreRefused(f"{path} is no store file (SQLite: {error}): put a backup there, or name another file")
        case sqlite3.SQLITE_IOERR:
            if _no_space(path):
                return _full(path)
            return StoreRefused(f"store file {path}: the disk failed ({name}): see the kernel's log")
        case _:
            return StoreRefused(f"store file {path}: {error} {name}".rstrip())


def is_broken(error: sqlite3.Error) -> bool:
    """True when the connection is better made anew: the file may be mended or replaced before the next call."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL)


def holder(path: str) -> str:
    """Who holds a write lock on the store file or its wal-index, as the kernel lists it."""
    inodes = {found.st_ino for name in (path, f"{path}-shm") if (found := _stat(name)) is not None}
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:  # 1: POSIX  ADVISORY  WRITE 4711 fe:01:131 120 120
        words = line.split()
        if len(words) == 8 and words[3] == "WRITE" and int(words[5].rpartition(":")[2]) in inodes:
            return _process(int(words[4]))
    return "another process"


def _process(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it has just ended, or lives in another PID namespace
        return f"process {pid}"
    return f"process {pid} ({name})"


def _full(path: str) -> StoreRefused:
    return StoreRefused(
        f"no space left for store file {path}: free some in {Path(path).parent}; "
        "what was stored stays, and writing goes on once there is room"
    )


def _why_not_written(path: str) -> str:
    if not os.access(Path(path).parent, os.W_OK):
        return f"{Path(path).parent} is read-only, or its permissions forbid it; a store needs to write beside it"
    if not os.access(path, os.W_OK):
        return "its permissions forbid it"
    return "SQLite calls it read-only: see its owner, mode and mount"


def _cannot_open(path: str) -> str:
    found = _stat(path)
    if found is not None and not Path(path).is_file():
        return f"store file {path} is no regular file: name another by --store"
    return f"store file {path} cannot be opened: see the permissions of it and of {Path(path).parent}"


def _stat(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except OSError:
        return None


def _no_space(path: str) -> bool:
    """True when the file system is full: SQLite says so of some writes only by a general error."""
    try:
        space = os.statvfs(Path(path).parent)
    except OSError:
        return False
    return space.f_blocks > 0 and space.f_bavail * space.f_frsize < 65536
