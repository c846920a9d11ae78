"""EtcdStore is a lease store, EtcdLedger a ledger that tells its history."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from flannel_multi.store.etcd.ledger import EtcdLedger
from flannel_multi.store.etcd.store import EtcdStore
from tests.lab.etcd import Etcd
from tests.store.contract import LeaseStoreContract
from tests.store.ledger_contract import ReplayContract
from tests.store.rig import folder, opened, opened_ledger


class EtcdHooks:
    """What the contracts need to do behind a store's back, with the tests' etcd."""

    @pytest.fixture(autouse=True)
    def _running(self, etcd: Etcd) -> None:
        self._etcd = etcd

    def put_config(self, network: str, raw: bytes) -> None:
        self._etcd.put(f"{folder(network)}/config", raw)

    def delete_config(self, network: str) -> None:
        self._etcd.delete(f"{folder(network)}/config")

    def put_lease(self, network: str, name: str | bytes, raw: str | bytes, *, permanent: bool = False) -> None:
        key = f"{folder(network)}/subnets/".encode() + (name.encode() if isinstance(name, str) else name)
        self._etcd.put(key, raw, lease=0 if permanent else self._etcd.grant(3600))

    def put_leases(self, network: str, items: list[tuple[str, str]]) -> None:
        self._etcd.put_many((f"{folder(network)}/subnets/{name}", raw) for name, raw in items)

    def delete_lease(self, network: str, name: str) -> None:
        self._etcd.delete(f"{folder(network)}/subnets/{name}")

    def expire(self, network: str, name: str) -> None:
        kv = self._etcd.kv(f"{folder(network)}/subnets/{name}")
        assert kv is not None
        self._etcd.revoke(int(kv["lease"]))

    def compact(self) -> None:
        self._etcd.compact()


class TestEtcdStore(EtcdHooks, LeaseStoreContract):
    """What a worker uses."""

    def open(self) -> AbstractAsyncContextManager[EtcdStore]:
        return opened(self._etcd)


class TestEtcdLedger(EtcdHooks, ReplayContract):
    """What a server and flannelctl use: a lease store as well."""

    def open(self) -> AbstractAsyncContextManager[EtcdLedger]:
        return opened_ledger(self._etcd)
