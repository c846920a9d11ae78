"""The lease store in etcd v3, over its JSON gateway: `LeaseStore` put together from the modules beside it.

It is all that a worker needs. What only servers and flannelctl need is in `ledger.py`, which no worker imports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.lease import LeaseAttrs
from flannel_multi.model.subnet import Subnet
from flannel_multi.options import EtcdOptions
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd import keeping, snapshots, watching
from flannel_multi.store.etcd.acquiring import Acquirer
from flannel_multi.store.etcd.gateway import Gateway
from flannel_multi.store.expiries import Expiries
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.protocol import Change, Known, Lease, Revision, Snapshot


class EtcdStore:
    """flannel's keys (spec §3) in etcd 3.4 or newer. Making one does nothing: no file is read, nobody is asked.

    A watch has a connection of its own; all else shares one, and a second while two calls are under way.
    """

    def __init__(self, options: EtcdOptions) -> None:
        self._prefix = options.prefix
        self._gateway = Gateway(options)
        self.expiries = Expiries()
        self._acquirer = Acquirer(self._gateway, self.expiries)
        self._histories: dict[str, int] = {}  # of the store, as the last snapshot of each network knew them

    async def snapshot(self, network: str, *, known: Known | None = None, timeout_s: float = 5.0) -> Snapshot:
        """See LeaseStore."""
        before = self._histories.get(network, self._gateway.history)
        if before != self._gateway.history:
            known = None  # it is a point of a history that was replaced
        taken = await snapshots.take(self._gateway, self._keys(network), known, Deadline(timeout_s))
        self._histories[network] = self._gateway.history
        return replace(taken, restored=taken.restored or before != self._gateway.history)

    def watch(self, network: str, *, after: Revision) -> AsyncIterator[Change]:
        """See LeaseStore."""
        return watching.watch(self._gateway, self._keys(network), after)

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
        """See LeaseStore."""
        return await self._acquirer.acquire(
            self._keys(network), config, attrs, prefer=prefer, first=first, deadline=Deadline(timeout_s)
        )

    async def renew(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> Lease:
        """See LeaseStore."""
        return await keeping.renew(self._gateway, self._keys(network), lease, self.expiries, Deadline(timeout_s))

    async def publish(self, network: str, lease: Lease, attrs: LeaseAttrs, *, timeout_s: float = 5.0) -> Lease:
        """See LeaseStore."""
        return await keeping.publish(self._gateway, self._keys(network), lease, attrs, Deadline(timeout_s))

    async def release(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> None:
        """See LeaseStore."""
        await keeping.release(self._gateway, self._keys(network), lease, Deadline(timeout_s))

    async def close(self) -> None:
        """Ends every connection but those of watches, which end with their iterators."""
        self._gateway.close()

    def _keys(self, network: str) -> NetworkKeys:
        return NetworkKeys.of(self._prefix, network)
