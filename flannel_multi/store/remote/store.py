"""The lease store of flanneld servers: `Ledger` put together from the modules beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import Compacted
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.options import RemoteOptions
from flannel_multi.store.client import Deadline
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.protocol import (
    Change,
    ConfigRead,
    Known,
    Lease,
    NetworkChange,
    NetworkList,
    Revision,
    Snapshot,
)
from flannel_multi.store.remote import keeping, reading, watching
from flannel_multi.store.remote.session import Session

V1 = "/v1"


class RemoteStore:
    """Networks of flanneld servers, ours or flannel's 0.5 to 0.7. Making one does nothing: nobody is asked.

    A watch has two connections of its own; all else shares one, and a second while two calls are under way.
    """

    def __init__(self, options: RemoteOptions) -> None:
        self._session = Session(options)
        self.expiries = self._session.expiries

    def keys(self, network: str) -> NetworkKeys:
        """See Ledger."""
        return NetworkKeys.of(V1, network or "_")

    # -- what a worker needs -------------------------------------------------------------------------------------

    async def snapshot(self, network: str, *, known: Known | None = None, timeout_s: float = 5.0) -> Snapshot:
        """See LeaseStore."""
        return await reading.take(self._session, network, known, Deadline(timeout_s))

    def watch(self, network: str, *, after: Revision) -> AsyncIterator[Change]:
        """See LeaseStore."""
        return watching.watch(self._session, network, after)

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
        """See LeaseStore. The server chooses, so `first` is of no use."""
        return await keeping.acquire(
            self._session, network, config, attrs, prefer=prefer, quiet=True, deadline=Deadline(timeout_s)
        )

    async def renew(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> Lease:
        """See LeaseStore. An older server writes the key."""
        return await keeping.renew(self._session, network, lease, Deadline(timeout_s))

    async def publish(self, network: str, lease: Lease, attrs: LeaseAttrs, *, timeout_s: float = 5.0) -> Lease:
        """See LeaseStore."""
        return await keeping.publish(self._session, network, lease, attrs, Deadline(timeout_s))

    async def release(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> None:
        """See LeaseStore."""
        await keeping.release(self._session, network, lease, Deadline(timeout_s))

    async def close(self) -> None:
        """Ends every connection but those of watches, which end with their iterators."""
        self._session.close()

    # -- what flannelctl needs besides; imported when it does ------------------------------------------------------

    async def read_config(self, network: str, *, timeout_s: float = 5.0) -> ConfigRead:
        """See Ledger. An older server tells it parsed, with its defaults."""
        return await reading.config_read(self._session, network, Deadline(timeout_s))

    async def write_config(self, network: str, raw: bytes, *, timeout_s: float = 5.0) -> int:
        """See Ledger."""
        from flannel_multi.store.remote import ledger

        return await ledger.write_config(self._session, network, raw, Deadline(timeout_s))

    async def delete_config(self, network: str, *, timeout_s: float = 5.0) -> int:
        """See Ledger."""
        from flannel_multi.store.remote import ledger

        return await ledger.delete_config(self._session, network, Deadline(timeout_s))

    async def networks(self, *, timeout_s: float = 5.0) -> NetworkList:
        """See Ledger."""
        from flannel_multi.store.remote import ledger

        return await ledger.networks(self._session, Deadline(timeout_s))

    def watch_networks(self, *, after: Revision) -> AsyncIterator[NetworkChange]:
        """See Ledger."""
        from flannel_multi.store.remote import ledger

        return ledger.watch_networks(self._session, after)

    async def replay(self, network: str, *, after: int, upto: Snapshot, timeout_s: float = 5.0) -> list[Change]:
        """See Ledger: nobody serves from a store that is served itself."""
        raise Compacted(f"{self.keys(network).config.decode()}: a server tells no history but to its watches")

    async def grant(
        self,
        network: str,
        config: NetworkConfig,
        attrs: LeaseAttrs,
        *,
        first: Snapshot | None = None,
        timeout_s: float = 5.0,
    ) -> Lease:
        """See Ledger."""
        return await keeping.acquire(
            self._session, network, config, attrs, prefer=None, quiet=False, deadline=Deadline(timeout_s)
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
        from flannel_multi.store.remote import ledger

        return await ledger.put_lease(
            self._session, network, subnet, attrs, replaces=replaces, ttl_s=ttl_s, deadline=Deadline(timeout_s)
        )

    async def revoke(self, network: str, subnet: Subnet, *, holder: int | None = None, timeout_s: float = 5.0) -> int:
        """See Ledger."""
        from flannel_multi.store.remote import ledger

        return await ledger.revoke(self._session, network, subnet, holder, Deadline(timeout_s))

    async def reserve(self, network: str, subnet: Subnet, public_ip: int, *, timeout_s: float = 5.0) -> LeaseRecord:
        """See Ledger."""
        from flannel_multi.store.remote import ledger

        return await ledger.reserve(self._session, network, subnet, public_ip, Deadline(timeout_s))

    async def unreserve(self, network: str, subnet: Subnet, *, timeout_s: float = 5.0) -> LeaseRecord:
        """See Ledger."""
        from flannel_multi.store.remote import ledger

        return await ledger.unreserve(self._session, network, subnet, Deadline(timeout_s))

    async def learn_expiries(self, records: Iterable[LeaseRecord], *, timeout_s: float = 5.0) -> None:
        """See Ledger."""
        from flannel_multi.store.remote import ledger

        await ledger.learn_expiries(self._session, records, Deadline(timeout_s))
