"""SqliteStore is a ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flannel_multi.options import SqliteOptions
from flannel_multi.store.sqlite import SqliteStore
from tests.lab.store_file import StoreFile
from tests.store.ledger_contract import ReplayContract


@asynccontextmanager
async def opened(path: Path, **more: Any) -> AsyncIterator[SqliteStore]:
    """A store on the file at `path`, closed at the end."""
    store = SqliteStore(SqliteOptions(str(path)), **more)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(scope="module")
def store_file(tmp_path_factory: pytest.TempPathFactory) -> StoreFile:
    return StoreFile(tmp_path_factory.mktemp("store") / "store.db")


class TestSqliteStore(ReplayContract):
    @pytest.fixture(autouse=True)
    def _file(self, store_file: StoreFile) -> None:
        self._there = store_file

    def open(self) -> AbstractAsyncContextManager[SqliteStore]:
        return opened(self._there.path)

    def put_config(self, network: str, raw: bytes) -> None:
        self._there.put_config(network, raw)

    def delete_config(self, network: str) -> None:
        self._there.delete_config(network)

    def put_lease(self, network: str, name: str | bytes, raw: str | bytes, *, permanent: bool = False) -> None:
        self._there.put_lease(network, name, raw, permanent=permanent)

    def put_leases(self, network: str, items: list[tuple[str, str]]) -> None:
        self._there.put_leases(network, items)

    def delete_lease(self, network: str, name: str) -> None:
        self._there.delete_lease(network, name)

    def expire(self, network: str, name: str) -> None:
        self._there.end(network, name)

    def compact(self) -> None:
        self._there.forget()
