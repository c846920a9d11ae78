"""What the store tests share: options for an etcd, a store that closes, a watch that is read in the background."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, TypeVar

from flannel_multi.model.config import NetworkConfig, parse_config
from flannel_multi.model.errors import StoreUnavailable
from flannel_multi.model.lease import LeaseAttrs
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.options import EtcdOptions
from flannel_multi.store.etcd.ledger import EtcdLedger
from flannel_multi.store.etcd.store import EtcdStore
from flannel_multi.store.protocol import Change, LeaseStore, LeaseWritten, Revision
from tests.lab.etcd import Etcd

PREFIX = "/coreos.com/network"
CONFIG = b'{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}'
PATIENCE_S = 20.0
T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a test's coroutine returns."""
    return asyncio.run(coroutine)


def options(etcd: Etcd, **more: Any) -> EtcdOptions:
    """Options that reach `etcd`."""
    settings: dict[str, Any] = {
        "endpoints": etcd.urls, "prefix": PREFIX, "cafile": "", "certfile": "", "keyfile": "", "username": "",
        "password": "",
    }  # fmt: skip
    return EtcdOptions(**{**settings, **more})


@asynccontextmanager
async def opened(etcd: Etcd, **more: Any) -> AsyncIterator[EtcdStore]:
    """A store on `etcd`, closed at the end."""
    store = EtcdStore(options(etcd, **more))
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_ledger(etcd: Etcd, **more: Any) -> AsyncIterator[EtcdLedger]:
    """A ledger on `etcd`, closed at the end."""
    ledger = EtcdLedger(options(etcd, **more))
    try:
        yield ledger
    finally:
        await ledger.close()


def config(raw: bytes = CONFIG) -> NetworkConfig:
    return parse_config(raw)


def attrs(ip: str, vni: int = 1) -> LeaseAttrs:
    return LeaseAttrs(parse_ip(ip), "vxlan", {"VNI": vni, "VtepMAC": "6e:bb:a9:11:4b:86"})


def value(ip: str) -> str:
    """A lease value as flannel writes it."""
    return json.dumps({"PublicIP": ip, "BackendType": "vxlan"}, separators=(",", ":"))


def key(network: str, subnet: str) -> str:
    """The lease key of `subnet`, given as a CIDR."""
    return f"{folder(network)}/subnets/{Subnet.parse(subnet).key}"


def folder(network: str) -> str:
    """Where a network's keys are; `network` "" is the unnamed one."""
    return f"{PREFIX}/{network}" if network else PREFIX


class Watcher(Generic[T]):
    """A watch read by a task of its own: what it gave, and how it ended."""

    def __init__(self, watch: AsyncIterator[T]) -> None:
        self.changes: list[T] = []
        self.ended: BaseException | None = None
        self.ended_at_s = 0.0
        self._news = asyncio.Event()
        self._watch = watch
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for change in self._watch:
                self.changes.append(change)
                self._news.set()
        except Exception as error:  # noqa: BLE001  a test's end of the watch is what it asserts on
            self.ended = error
        finally:
            self.ended_at_s = asyncio.get_running_loop().time()
            self._news.set()

    async def until(self, true: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Waits until `true` says so, looked at after each change."""
        async with asyncio.timeout(timeout_s):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def end(self, timeout_s: float = PATIENCE_S) -> BaseException:
        """How the watch ended."""
        await self.until(lambda: self.ended is not None, timeout_s)
        assert self.ended is not None
        return self.ended

    def subnets(self) -> set[str]:
        """Subnets written so far, as CIDRs."""
        return {str(change.record.subnet) for change in self.changes if isinstance(change, LeaseWritten)}

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def watched(store: LeaseStore, network: str, after: Revision) -> AbstractAsyncContextManager[Watcher[Change]]:
    """A watch of one network that stands for the length of a `with`."""
    return reading(store.watch(network, after=after))


@asynccontextmanager
async def reading(watch: AsyncIterator[T]) -> AsyncIterator[Watcher[T]]:
    """A watch of any kind, read for the length of a `with`."""
    watcher = Watcher(watch)
    try:
        yield watcher
    finally:
        await watcher.stop()


async def asked_again(call: Callable[[], Coroutine[Any, Any, T]], timeout_s: float = PATIENCE_S) -> T:
    """What `call` returns once the store answers, asked as a worker does: again and again, with a wait between."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(0.1)
