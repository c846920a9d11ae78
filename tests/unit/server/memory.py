"""A ledger in memory: what the server's pure half needs of a store, told and broken by tests at will."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import Compacted, FlannelError, KeyAbsent
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.expiries import Expiries
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.protocol import (
    Change,
    ConfigRead,
    ConfigWritten,
    Known,
    Lease,
    LeaseGone,
    LeaseWritten,
    NetworkChange,
    NetworkGone,
    NetworkList,
    NetworkWritten,
    Revision,
    Skipped,
    Snapshot,
)

TTL_S = 3600
CONFIG = b'{"Network":"10.1.0.0/16","Backend":{"Type":"alloc"}}'


class MemoryLedger:
    """`reads` counts snapshots, `watches` the watches that stand, `asked` the leases whose ends were asked for.
    `fault`, when set, is what every call raises."""

    def __init__(self) -> None:
        self.expiries = Expiries()
        self.cluster, self.number, self.floor = "c1", 10, 0
        self.fault: FlannelError | None = None
        self.reads = self.watches = 0
        self.asked: list[LeaseRecord] = []
        self._configs: dict[str, bytes] = {}
        self._leases: dict[str, dict[Subnet, LeaseRecord]] = {}
        self._log: list[tuple[int, str, Change]] = []
        self._names: list[tuple[int, NetworkChange]] = []
        self._news = asyncio.Event()
        self._broken: FlannelError | None = None

    # -- what tests do -------------------------------------------------------------------------------------------

    def put(self, network: str, subnet: str, ip: int = 1, *, lease_id: int = 7, data: Any = None) -> LeaseRecord:
        self.number += 1
        found = Subnet.parse(subnet)
        record = LeaseRecord(found, LeaseAttrs(ip, "", data), lease_id, self.number)
        self._leases.setdefault(network, {})[found] = record
        self._tell(network, LeaseWritten(record))
        return record

    def end(self, network: str, *subnets: str) -> None:
        """They end together, in one revision."""
        self.number += 1
        for subnet in map(Subnet.parse, subnets):
            del self._leases[network][subnet]
            self._tell(network, LeaseGone(subnet, self.number))

    def config(self, network: str, raw: bytes | None = CONFIG) -> None:
        self.number += 1
        if raw is None:
            del self._configs[network]
        else:
            self._configs[network] = raw
        self._tell(network, ConfigWritten(raw, self.number))
        if network:
            change = NetworkGone if raw is None else NetworkWritten
            self._names.append((self.number, change(network, self.number)))
            self._wake()

    def poison(self, network: str, text: str) -> None:
        self.number += 1
        self._tell(network, Skipped(text))

    def pass_by(self, count: int) -> None:
        """Writes of others, which are no news to anybody here."""
        self.number += count

    def compact(self) -> None:
        """Forgets all history."""
        self.floor = self.number

    def break_watches(self, error: FlannelError) -> None:
        """Each watch that stands raises `error`."""
        self._broken = error
        self._wake()

    def restore(self, number: int) -> None:
        """The store is put back to a backup: fewer revisions, another history."""
        self.number, self.floor = number, 0
        self._log, self._names = [], []
        self._leases, self._configs = {}, {}

    # -- a ledger ------------------------------------------------------------------------------------------------

    def keys(self, network: str) -> NetworkKeys:
        return NetworkKeys.of("/p", network)

    async def snapshot(self, network: str, *, known: Known | None = None, timeout_s: float = 5.0) -> Snapshot:
        self.reads += 1
        await self._answer()
        leases = dict(self._leases.get(network, {}))
        at = Revision(self.cluster, self.number)
        restored = known is not None and (known.revision.cluster, known.revision.number) > (at.cluster, at.number)
        return Snapshot(at, self._configs.get(network), leases, restored=restored)

    async def watch(self, network: str, *, after: Revision) -> AsyncIterator[Change]:
        async for _, change in self._follow(lambda: self._log_of(network), after):
            yield change

    async def watch_networks(self, *, after: Revision) -> AsyncIterator[NetworkChange]:
        async for _, change in self._follow(lambda: self._names, after):
            yield change

    async def read_config(self, network: str, *, timeout_s: float = 5.0) -> ConfigRead:
        await self._answer()
        return ConfigRead(self._configs.get(network), Revision(self.cluster, self.number))

    async def write_config(self, network: str, raw: bytes, *, timeout_s: float = 5.0) -> int:
        await self._answer()
        self.config(network, raw)
        return self.number

    async def delete_config(self, network: str, *, timeout_s: float = 5.0) -> int:
        await self._answer()
        if network not in self._configs:
            raise KeyAbsent(self.keys(network).config.decode(), self.number)
        self.config(network, None)
        return self.number

    async def networks(self, *, timeout_s: float = 5.0) -> NetworkList:
        await self._answer()
        return NetworkList(tuple(sorted(name for name in self._configs if name)), Revision(self.cluster, self.number))

    async def replay(self, network: str, *, after: int, upto: Snapshot, timeout_s: float = 5.0) -> list[Change]:
        await self._answer()
        if after < self.floor:
            raise Compacted("forgotten")
        kept = [(number, change) for number, change in self._log_of(network) if after < number <= upto.revision.number]
        return [change for _, change in kept if isinstance(change, LeaseWritten | LeaseGone)]

    async def learn_expiries(self, records: Iterable[LeaseRecord], *, timeout_s: float = 5.0) -> None:
        await self._answer()
        for record in records:
            self.asked.append(record)
            self.expiries.note(record, TTL_S)

    async def acquire(
        self, network: str, config: NetworkConfig, attrs: LeaseAttrs, *, prefer: Subnet | None,
        first: Snapshot | None = None, timeout_s: float = 5.0,
    ) -> Lease:  # fmt: skip
        return await self.put_lease(network, prefer or Subnet.of(config.subnet_min, config.subnet_len), attrs)

    async def grant(
        self, network: str, config: NetworkConfig, attrs: LeaseAttrs, *, first: Snapshot | None = None,
        timeout_s: float = 5.0,
    ) -> Lease:  # fmt: skip
        return await self.acquire(network, config, attrs, prefer=None)

    async def put_lease(
        self, network: str, subnet: Subnet, attrs: LeaseAttrs, *, replaces: int | None = None,
        ttl_s: int | None = TTL_S, timeout_s: float = 5.0,
    ) -> Lease:  # fmt: skip
        await self._answer()
        record = self.put(network, str(subnet), attrs.public_ip, data=attrs.backend_data)
        return Lease(record, ttl_s)

    async def renew(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> Lease:
        raise NotImplementedError

    async def publish(self, network: str, lease: Lease, attrs: LeaseAttrs, *, timeout_s: float = 5.0) -> Lease:
        raise NotImplementedError

    async def release(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> None:
        raise NotImplementedError

    async def revoke(self, network: str, subnet: Subnet, *, holder: int | None = None, timeout_s: float = 5.0) -> int:
        self.end(network, str(subnet))
        return self.number

    async def reserve(self, network: str, subnet: Subnet, public_ip: int, *, timeout_s: float = 5.0) -> LeaseRecord:
        return self.put(network, str(subnet), public_ip, lease_id=0)

    async def unreserve(self, network: str, subnet: Subnet, *, timeout_s: float = 5.0) -> LeaseRecord:
        return self.put(network, str(subnet))

    async def close(self) -> None:
        return

    def _tell(self, network: str, change: Change) -> None:
        self._log.append((self.number, network, change))
        self._wake()

    def _log_of(self, network: str) -> list[tuple[int, Change]]:
        return [(number, change) for number, name, change in self._log if name == network]

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault

    async def _follow(
        self, log: Callable[[], list[tuple[int, Any]]], after: Revision
    ) -> AsyncIterator[tuple[int, Any]]:
        await self._answer()
        if after.number < self.floor:
            raise Compacted("forgotten")
        at = sum(number <= after.number for number, _ in log())
        self._broken, self.watches = None, self.watches + 1
        try:
            while True:
                news = self._news
                for item in log()[at:]:
                    at += 1
                    yield item
                if self._broken is not None:
                    raise self._broken
                await news.wait()
        finally:
            self.watches -= 1


async def settle() -> None:
    """Every task that can go on has gone on."""
    for _ in range(50):
        await asyncio.sleep(0)


class _Hurried(selectors.DefaultSelector):
    """Where a loop would wait for its next timer, its clock is set forward instead."""

    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.skipped_s += max(timeout, 0.0)
        return ready


class _HurriedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._hurried = _Hurried()
        super().__init__(self._hurried)

    def time(self) -> float:
        return super().time() + self._hurried.skipped_s


def story(told: Callable[[MemoryLedger], Awaitable[None]]) -> None:
    """Runs a test's story over a ledger of its own, in which waiting for a time takes none."""

    async def main() -> None:
        async with asyncio.timeout(300.0):
            await told(MemoryLedger())

    with asyncio.Runner(loop_factory=_HurriedLoop) as runner:
        runner.run(main())
