"""All networks of one etcd: what a server and flannelctl need more than a worker does. Put together from beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.options import EtcdOptions
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd import configs, ends, networks, replay
from flannel_multi.store.etcd.store import EtcdStore
from flannel_multi.store.etcd.writing import LeaseWriter
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.protocol import (
    Change,
    ConfigRead,
    Lease,
    NetworkChange,
    NetworkList,
    Revision,
    Snapshot,
)


class EtcdLedger(EtcdStore):
    """The `Ledger` in etcd; each method: see there."""

    def __init__(self, options: EtcdOptions) -> None:
        super().__init__(options)
        self._writer = LeaseWriter(self._gateway, self.expiries)

    def keys(self, network: str) -> NetworkKeys:
        return self._keys(network)

    async def read_config(self, network: str, *, timeout_s: float = 5.0) -> ConfigRead:
        return await configs.read(self._gateway, self._keys(network), Deadline(timeout_s))

    async def write_config(self, network: str, raw: bytes, *, timeout_s: float = 5.0) -> int:
        return await configs.write(self._gateway, self._keys(network), raw, Deadline(timeout_s))

    async def delete_config(self, network: str, *, timeout_s: float = 5.0) -> int:
        return await configs.delete(self._gateway, self._keys(network), Deadline(timeout_s))

    async def networks(self, *, timeout_s: float = 5.0) -> NetworkList:
        return await networks.listed(self._gateway, self._prefix, Deadline(timeout_s))

    def watch_networks(self, *, after: Revision) -> AsyncIterator[NetworkChange]:
        return networks.watch(self._gateway, self._prefix, after)

    async def replay(self, network: str, *, after: int, upto: Snapshot, timeout_s: float = 5.0) -> list[Change]:
        return await replay.replay(self._gateway, self._keys(network), after, upto, Deadline(timeout_s))

    async def grant(
        self,
        network: str,
        config: NetworkConfig,
        attrs: LeaseAttrs,
        *,
        first: Snapshot | None = None,
        timeout_s: float = 5.0,
    ) -> Lease:
        return await self._acquirer.acquire(
            self._keys(network), config, attrs, prefer=None, first=first, deadline=Deadline(timeout_s), rewrite=True
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
        return await self._writer.put(
            self._keys(network), subnet, attrs, replaces=replaces, ttl_s=ttl_s, deadline=Deadline(timeout_s)
        )

    async def revoke(self, network: str, subnet: Subnet, *, holder: int | None = None, timeout_s: float = 5.0) -> int:
        return await self._writer.revoke(self._keys(network), subnet, holder=holder, deadline=Deadline(timeout_s))

    async def reserve(self, network: str, subnet: Subnet, public_ip: int, *, timeout_s: float = 5.0) -> LeaseRecord:
        return await self._writer.reserve(self._keys(network), subnet, public_ip, Deadline(timeout_s))

    async def unreserve(self, network: str, subnet: Subnet, *, timeout_s: float = 5.0) -> LeaseRecord:
        return await self._writer.unreserve(self._keys(network), subnet, Deadline(timeout_s))

    async def learn_expiries(self, records: Iterable[LeaseRecord], *, timeout_s: float = 5.0) -> None:
        """Asks for the first hundred that are unknown; whoever needs the ends of more asks again."""
        await ends.learn(self._gateway, self.expiries, records, Deadline(timeout_s))
