"""The embedded store: one SQLite file, shared by every process of this host that opens it."""

from flannel_multi.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
