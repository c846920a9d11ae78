"""The embedded lease store: `Ledger` on one SQLite file, put together from the modules beside it."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.options import SqliteOptions
from flannel_multi.store.expiries import Expiries
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.protocol import (
    Change,
    ConfigRead,
    Known,
    Lease,
    LeaseWritten,
    NetworkChange,
    NetworkGone,
    NetworkList,
    NetworkWritten,
    Revision,
    Snapshot,
)
from flannel_multi.store.sqlite import reading
from flannel_multi.store.sqlite.changes import Bounded, changes
from flannel_multi.store.sqlite.clock import Clock, host_clock
from flannel_multi.store.sqlite.database import Database
from flannel_multi.store.sqlite.jobs import Jobs
from flannel_multi.store.sqlite.leasing import Network
from flannel_multi.store.sqlite.tables import HISTORY, HistoryRow, Tables
from flannel_multi.store.sqlite.watching import Tail

PREFIX = "/coreos.com/network"
_T = TypeVar("_T")


class SqliteStore:
    """flannel's keys in one file of this host. Making one does nothing: the first call opens the file, or makes it.

    Not to be carried over a fork once it was asked anything. `clock` is this host's, but for tests;
    `history`: changes kept for watches to go on from.
    """

    def __init__(self, options: SqliteOptions, *, clock: Clock | None = None, history: int = HISTORY) -> None:
        self._database = Database(options.path, clock or host_clock(), history)
        self._jobs = Jobs(options.path, self._database)
        self._tail = Tail(options.path, self._jobs, self._database)
        self._seen: dict[str, Revision] = {}  # by the last snapshot of each network
        self._ends_wanted = False  # by a server or flannelctl: a worker asks for none, and remembers none
        self.expiries = Expiries()

    # -- a worker's ----------------------------------------------------------------------------------------------

    async def snapshot(self, network: str, *, known: Known | None = None, timeout_s: float = 5.0) -> Snapshot:
        """See LeaseStore."""
        work = partial(reading.snapshot, self.keys(network), network.encode(), known)
        taken = await self._jobs.read(work, timeout_s)
        before = self._seen.get(network)
        self._seen[network] = now = taken.revision
        if before is not None and (before.cluster != now.cluster or before.number > now.number):
            return replace(taken, restored=True)
        return taken

    def watch(self, network: str, *, after: Revision) -> AsyncGenerator[Change, None]:
        """See LeaseStore."""
        return self._changes(self.keys(network), network.encode(), after)

    async def acquire(
        self,
        network: str,
        config: NetworkConfig,
        attrs: LeaseAttrs,
        *,
        prefer: Subnet | None,
        first: Snapshot | None = None,
        timeout_s: float = 5.0,
    ) -> Lease:
        """See LeaseStore. The listing is that of the transaction, whatever `first` says."""
        return self._noted(
            await self._write(network, lambda net: net.acquire(config, attrs, prefer, always=False), timeout_s)
        )

    async def renew(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> Lease:
        """See LeaseStore."""
        return self._noted(await self._write(network, lambda net: net.renew(lease.record), timeout_s))

    async def publish(self, network: str, lease: Lease, attrs: LeaseAttrs, *, timeout_s: float = 5.0) -> Lease:
        """See LeaseStore."""
        return self._noted(await self._write(network, lambda net: net.publish(lease.record, attrs), timeout_s))

    async def release(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> None:
        """See LeaseStore."""
        await self._write(network, lambda net: net.release(lease.record), timeout_s)

    async def close(self) -> None:
        """Ends what watches, waits for what is under way, leaves the file."""
        self._tail.stop()
        await self._jobs.close()

    # -- a server's and flannelctl's -----------------------------------------------------------------------------

    def keys(self, network: str) -> NetworkKeys:
        """See Ledger. As they would stand in etcd under flannel's own prefix."""
        return NetworkKeys.of(PREFIX, network)

    async def read_config(self, network: str, *, timeout_s: float = 5.0) -> ConfigRead:
        """See Ledger."""
        return await self._jobs.read(partial(reading.config, network.encode()), timeout_s)

    async def write_config(self, network: str, raw: bytes, *, timeout_s: float = 5.0) -> int:
        """See Ledger."""
        return await self._write(network, lambda net: net.put_config(raw), timeout_s)

    async def delete_config(self, network: str, *, timeout_s: float = 5.0) -> int:
        """See Ledger."""
        return await self._write(network, Network.delete_config, timeout_s)

    async def networks(self, *, timeout_s: float = 5.0) -> NetworkList:
        """See Ledger."""
        return await self._jobs.read(reading.networks, timeout_s)

    async def watch_networks(self, *, after: Revision) -> AsyncGenerator[NetworkChange, None]:
        """See Ledger."""
        rows = self._tail.watch(None, after)
        try:
            async for row in rows:
                if row.name is None and row.network:
                    name = row.network.decode("utf-8", "replace")
                    yield NetworkGone(name, row.revision) if row.value is None else NetworkWritten(name, row.revision)
        finally:
            await rows.aclose()

    async def replay(self, network: str, *, after: int, upto: Snapshot, timeout_s: float = 5.0) -> list[Change]:
        """See Ledger."""
        work = partial(reading.replay, self.keys(network), network.encode(), after, upto.revision)
        return await self._jobs.read(work, timeout_s)

    async def grant(
        self,
        network: str,
        config: NetworkConfig,
        attrs: LeaseAttrs,
        *,
        first: Snapshot | None = None,
        timeout_s: float = 5.0,
    ) -> Lease:
        """See Ledger, and `acquire` for `first`."""
        return self._noted(
            await self._write(network, lambda net: net.acquire(config, attrs, None, always=True), timeout_s)
        )

    async def put_lease(
        self,
        network: str,
        subnet: Subnet,
        attrs: LeaseAttrs,
        *,
        replaces: int | None = None,
        ttl_s: int | None = LEASE_TTL_S,
        timeout_s: float = 5.0,
    ) -> Lease:
        """See Ledger."""
        return self._noted(await self._write(network, lambda net: net.put(subnet, attrs, replaces, ttl_s), timeout_s))

    async def revoke(self, network: str, subnet: Subnet, *, holder: int | None = None, timeout_s: float = 5.0) -> int:
        """See Ledger."""
        return await self._write(network, lambda net: net.revoke(subnet, holder), timeout_s)

    async def reserve(self, network: str, subnet: Subnet, public_ip: int, *, timeout_s: float = 5.0) -> LeaseRecord:
        """See Ledger."""
        return await self._write(network, lambda net: net.reserve(subnet, public_ip), timeout_s)

    async def unreserve(self, network: str, subnet: Subnet, *, timeout_s: float = 5.0) -> LeaseRecord:
        """See Ledger."""
        return self._noted(await self._write(network, lambda net: net.unreserve(subnet), timeout_s)).record

    async def learn_expiries(self, records: Iterable[LeaseRecord], *, timeout_s: float = 5.0) -> None:
        """See Ledger. From the first call on, watches note the ends of what they tell."""
        self._ends_wanted = True
        unknown = self.expiries.unknown(records)
        if not unknown:
            return
        ends = await self._jobs.read(partial(reading.ends, {record.lease_id for record in unknown}), timeout_s)
        for record in unknown:
            if (left_s := ends.get(record.lease_id)) is not None:
                self.expiries.note(record, math.ceil(left_s))

    # -- parts ---------------------------------------------------------------------------------------------------

    async def _write(self, network: str, change: Callable[[Network], _T], timeout_s: float) -> _T:
        keys, name = self.keys(network), network.encode()

        def work(tables: Tables) -> _T:
            return change(Network(keys, name, tables))

        return await self._jobs.write(work, timeout_s)

    async def _changes(self, keys: NetworkKeys, name: bytes, after: Revision) -> AsyncGenerator[Change, None]:
        bounded = Bounded(keys)
        rows = self._tail.watch(name, after)
        try:
            async for row in rows:
                for change in changes(keys, row):
                    self._note_end(row, change)
                    if (given := bounded.given(change)) is not None:
                        yield given
        finally:
            await rows.aclose()

    def _noted(self, lease: Lease) -> Lease:
        self.expiries.note(lease.record, lease.ttl_s)
        return lease

    def _note_end(self, row: HistoryRow, change: Change) -> None:
        if self._ends_wanted and row.ends_in_s is not None and isinstance(change, LeaseWritten):
            self.expiries.note(change.record, math.ceil(row.ends_in_s))
