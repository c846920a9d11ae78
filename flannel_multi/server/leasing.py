"""The writes of protocol v1 to leases: take one, renew or rewrite it, give it back (spec §6.5)."""

from __future__ import annotations

from flannel_multi.model.allocation import fits
from flannel_multi.model.config import NetworkConfig, parse_layout
from flannel_multi.model.errors import KeyAbsent, LeaseHeld
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.server import answers, bodies
from flannel_multi.server.asked import Asked
from flannel_multi.server.exchange import Response
from flannel_multi.server.network import Network
from flannel_multi.server.registry import Registry
from flannel_multi.store.protocol import Lease, Ledger, Revision, Snapshot


class Leasing:
    """One method a route."""

    def __init__(self, ledger: Ledger, registry: Registry) -> None:
        self._ledger = ledger
        self._registry = registry

    async def take(self, asked: Asked) -> Response:
        """POST leases: the lease of this public IP, or a new one."""
        attrs = bodies.read_attrs(asked.body)
        asked.rights.hold(asked.shown, attrs.public_ip)
        board = self._registry.network(asked.network).board
        first = await board.read()
        config = self._config(asked, first)
        if asked.flag("quiet"):
            prefer = Subnet.from_key(asked.query.get("prefer", [""])[0])
            lease = await self._ledger.acquire(asked.network, config, attrs, prefer=prefer, first=first)
        else:
            lease = await self._ledger.grant(asked.network, config, attrs, first=first)
        return self._told(asked, lease, first.revision.cluster)

    async def put(self, asked: Asked) -> Response:
        """PUT lease: it is written and prolonged, or created when it has vanished."""
        if asked.subnet is None:
            return answers.refused(400, "bad subnet")
        wanted = bodies.read_lease(asked.body)
        if wanted.subnet != asked.subnet:
            return answers.refused(400, f"subnet {wanted.subnet} of the body is not {asked.subnet} of the path")
        asked.rights.hold(asked.shown, wanted.attrs.public_ip)
        replaces, ttl_s = asked.address("from"), asked.ttl_s()
        if replaces is not None:
            asked.rights.hold(asked.shown, replaces)
        if ttl_s is not None:
            asked.rights.arrange(asked.shown)
        first = await self._registry.network(asked.network).board.read()
        if asked.flag("renew"):
            return await self._renew(asked, wanted.attrs, first)
        # With a time to live it comes from another store, before its config does, and perhaps reserved outside of it.
        created = asked.subnet not in first.leases and ttl_s is None
        if created and not asked.rights.arranges(asked.shown):
            _check_alone(first, wanted.attrs.public_ip)
        if created and not fits(config := self._config(asked, first), asked.subnet):
            text = f"no lease of {asked.subnet}: the network leases /{config.subnet_len} of {config.network}"
            return answers.refused(400, text)
        lease = await self._ledger.put_lease(
            asked.network, asked.subnet, wanted.attrs,
            replaces=replaces, ttl_s=LEASE_TTL_S if ttl_s is None else ttl_s or None,
        )  # fmt: skip
        return self._told(asked, lease, first.revision.cluster)

    async def delete(self, asked: Asked) -> Response:
        """DELETE lease, or reservation."""
        if asked.subnet is None:
            return answers.refused(400, "failed to parse subnet")
        asked.rights.join(asked.shown)
        holder = asked.address("holder")
        if not asked.rights.arranges(asked.shown):  # then it must be the peer's own
            first = await self._registry.network(asked.network).board.read()
            record = first.leases.get(asked.subnet)
            if record is None:
                raise KeyAbsent(self._ledger.keys(asked.network).lease(asked.subnet).decode(), first.revision.number)
            if record.permanent:
                asked.rights.arrange(asked.shown)  # a reservation is the operator's
            asked.rights.hold(asked.shown, record.attrs.public_ip)
            holder = record.attrs.public_ip if holder is None else holder
        number = await self._ledger.revoke(asked.network, asked.subnet, holder=holder)
        return answers.done(Revision(await self._registry.cluster(), number))

    async def _renew(self, asked: Asked, attrs: LeaseAttrs, first: Snapshot) -> Response:
        """Prolongs what stands so already, and writes nothing."""
        assert asked.subnet is not None
        record = first.leases.get(asked.subnet)
        if record is None:
            return answers.refused(409, f"lease {asked.subnet} is gone")
        if record.attrs.public_ip == attrs.public_ip and record.attrs != attrs:
            lease = await self._ledger.put_lease(asked.network, asked.subnet, attrs)
        else:
            lease = await self._ledger.renew(asked.network, Lease(record._replace(attrs=attrs), None))
        return self._told(asked, lease, first.revision.cluster)

    def _config(self, asked: Asked, first: Snapshot) -> NetworkConfig:
        """Raises KeyAbsent, ConfigError."""
        if first.config is None:
            raise KeyAbsent(self._ledger.keys(asked.network).config.decode(), first.revision.number)
        return parse_layout(first.config)

    def _told(self, asked: Asked, lease: Lease, cluster: str) -> Response:
        network: Network = self._registry.network(asked.network)
        text = network.board.text(lease.record, rich=asked.flag("revisions"))
        return answers.json_line(text, Revision(cluster, lease.record.revision))


def _check_alone(first: Snapshot, public_ip: int) -> None:
    """A host that may only hold its own lease has one: else it could take the whole network, lease by lease. Raises
    LeaseHeld."""
    for record in first.leases.values():
        if record.attrs.public_ip == public_ip:
            raise LeaseHeld(str(record.subnet), f"{format_ip(public_ip)}, which may have one lease only")
