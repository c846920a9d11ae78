"""A store file that tests write to behind the back of the stores that are open on it, as another process would."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from flannel_multi.store.sqlite.clock import host_clock
from flannel_multi.store.sqlite.schema import open_file
from flannel_multi.store.sqlite.tables import Row, Tables


class StoreFile:
    """The file at `path`, which is made if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite://{path}"
        self._clock = host_clock()

    def put_config(self, network: str, raw: bytes) -> None:
        self._write(lambda tables: tables.put_config(network.encode(), raw))

    def delete_config(self, network: str) -> None:
        self._write(lambda tables: tables.delete_config(network.encode()))

    def put_lease(self, network: str, name: str | bytes, raw: str | bytes, *, permanent: bool = False) -> None:
        """Any name and value: poison too."""
        self.put_leases(network, [(name, raw)], permanent=permanent)

    def put_leases(
        self, network: str, items: Iterable[tuple[str | bytes, str | bytes]], *, permanent: bool = False
    ) -> None:
        def write(tables: Tables) -> None:
            for name, raw in items:
                lease_id = 0 if permanent else secrets.randbits(62) + 1
                end_s = None if permanent else tables.now_s + 3600
                tables.put_lease(network.encode(), Row(_bytes(name), _bytes(raw), lease_id, end_s, 0))

        self._write(write)

    def delete_lease(self, network: str, name: str) -> None:
        self._write(lambda tables: tables.delete_lease(network.encode(), name.encode()))

    def end(self, network: str, name: str, in_s: int = -1) -> None:
        """The lease ends in `in_s` seconds: it has ended when that is past, and stands until somebody looks."""
        self._write(lambda tables: tables.prolong(network.encode(), name.encode(), in_s))

    def forget(self) -> None:
        """All history up to now is forgotten, as if 100,000 changes had been made."""
        with self.sql() as connection:
            connection.execute("UPDATE meta SET floor = revision")
            connection.execute("DELETE FROM history")

    @contextmanager
    def sql(self) -> Iterator[sqlite3.Connection]:
        """A bare connection, each statement committed at once."""
        with closing(open_file(str(self.path), self._clock, 10_000).connection) as connection:
            yield connection

    def _write(self, change: Callable[[Tables], Any]) -> None:
        with self.sql() as connection:
            connection.execute("BEGIN IMMEDIATE")
            tables = Tables(connection, self._clock)
            change(tables)
            tables.finish()
            connection.execute("COMMIT")
        os.utime(self.path)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
