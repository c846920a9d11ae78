"""EtcdStore is a lease store."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from flannel_multi.store.etcd import EtcdStore
from tests.lab.etcd import Etcd
from tests.store.contract import LeaseStoreContract
from tests.store.rig import PREFIX, opened


class TestEtcdStore(LeaseStoreContract):
    @pytest.fixture(autouse=True)
    def _running(self, etcd: Etcd) -> None:
        self._etcd = etcd

    def open(self) -> AbstractAsyncContextManager[EtcdStore]:
        return opened(self._etcd)

    def put_config(self, network: str, raw: bytes) -> None:
        self._etcd.put(f"{PREFIX}/{network}/config", raw)

    def delete_config(self, network: str) -> None:
        self._etcd.delete(f"{PREFIX}/{network}/config")

    def put_lease(self, network: str, name: str | bytes, raw: str | bytes, *, permanent: bool = False) -> None:
        key = f"{PREFIX}/{network}/subnets/".encode() + (name.encode() if isinstance(name, str) else name)
        self._etcd.put(key, raw, lease=0 if permanent else self._etcd.grant(3600))

    def put_leases(self, network: str, items: list[tuple[str, str]]) -> None:
        self._etcd.put_many((f"{PREFIX}/{network}/subnets/{name}", raw) for name, raw in items)

    def delete_lease(self, network: str, name: str) -> None:
        self._etcd.delete(f"{PREFIX}/{network}/subnets/{name}")

    def expire(self, network: str, name: str) -> None:
        kv = self._etcd.kv(f"{PREFIX}/{network}/subnets/{name}")
        assert kv is not None
        self._etcd.revoke(int(kv["lease"]))
