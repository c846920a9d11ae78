"""Leases got, kept and given back, each within one transaction: nobody else writes between the look and the write.

What has ended was deleted before (`Tables.settle`). A key whose value is no lease belongs to nobody: it may be written
over by name, and is in the way of a choice.
"""

from __future__ import annotations

import random
from math import ceil
from typing import NamedTuple

from flannel_multi.model.allocation import Reuse, Take, choose
from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import KeyAbsent, LeaseHeld, LeaseLost
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord, decode_value, encode_value
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.store.keys import NetworkKeys, shown
from flannel_multi.store.listing import KeyValue, Skips, records
from flannel_multi.store.protocol import Lease
from flannel_multi.store.sqlite.tables import Row, Tables

_rng = random.SystemRandom()  # the kernel's: forked workers must not draw the same numbers
_NOBODY = LeaseAttrs(0)


class Seen(NamedTuple):
    """A key that stands; `attrs` None: its value is no lease."""

    row: Row
    attrs: LeaseAttrs | None


class Network:
    """One network in one transaction that may write."""

    def __init__(self, keys: NetworkKeys, name: bytes, tables: Tables) -> None:
        self.keys = keys
        self._name = name
        self._tables = tables

    def acquire(self, config: NetworkConfig, attrs: LeaseAttrs, prefer: Subnet | None, *, always: bool) -> Lease:
        """See `LeaseStore.acquire`; with `always` see `Ledger.grant`. Raises NoSubnetLeft."""
        choice = choose(config, self._listed(), public_ip=attrs.public_ip, prefer=prefer, rng=_rng)
        for stale in choice.stale:
            self._tables.delete_lease(self._name, stale.subnet.key.encode())
        match choice:
            case Take(subnet):
                return self._put(subnet, attrs, _id_for(LEASE_TTL_S), LEASE_TTL_S)
            case Reuse(record):
                if always or record.attrs != attrs:
                    return self._put(record.subnet, attrs, record.lease_id, LEASE_TTL_S)
                return self._prolong(record)

    def renew(self, held: LeaseRecord) -> Lease:
        """See `LeaseStore.renew`."""
        return self._prolong(self._ours(held, self._seen(held.subnet), {held.attrs.public_ip}))

    def publish(self, held: LeaseRecord, attrs: LeaseAttrs) -> Lease:
        """See `LeaseStore.publish`. A key that was rewritten and is still ours is written all the same."""
        seen = self._seen(held.subnet)
        holders = {held.attrs.public_ip, attrs.public_ip}
        if seen is not None and seen.attrs is not None and seen.row.lease_id == held.lease_id != 0:
            holders.add(seen.attrs.public_ip)  # a lease id is ours alone, whatever address it names
        record = self._ours(held, seen, holders)
        assert seen is not None
        row = seen.row
        if record.attrs != attrs:
            row = self._tables.put_lease(self._name, row._replace(value=encode_value(attrs)))
        return self._lease(held.subnet, attrs, row)

    def release(self, held: LeaseRecord) -> None:
        """See `LeaseStore.release`."""
        seen = self._seen(held.subnet)
        if held.permanent or seen is None or seen.attrs is None or seen.row.expires_at is None:
            return
        if seen.attrs.public_ip == held.attrs.public_ip:
            self._tables.delete_lease(self._name, seen.row.name)

    def put(self, subnet: Subnet, attrs: LeaseAttrs, replaces: int | None, ttl_s: int | None) -> Lease:
        """See `Ledger.put_lease`."""
        seen = self._seen(subnet)
        if seen is None:
            return self._put(subnet, attrs, _id_for(ttl_s), ttl_s)
        self._check_holder(subnet, seen, {attrs.public_ip, replaces})
        return self._put(subnet, attrs, seen.row.lease_id, LEASE_TTL_S)

    def revoke(self, subnet: Subnet, holder: int | None) -> int:
        """See `Ledger.revoke`."""
        seen = self._seen(subnet)
        if seen is None:
            raise self._absent(self.keys.lease(subnet))
        if holder is not None:
            self._check_holder(subnet, seen, {holder})
        return self._tables.delete_lease(self._name, seen.row.name)

    def reserve(self, subnet: Subnet, public_ip: int) -> LeaseRecord:
        """See `Ledger.reserve`. A reservation that stands is left as it is."""
        seen = self._seen(subnet)
        if seen is None or seen.attrs is None:
            return self._put(subnet, LeaseAttrs(public_ip), 0, None).record
        self._check_holder(subnet, seen, {public_ip})
        if seen.row.expires_at is None:
            return self._lease(subnet, seen.attrs, seen.row).record
        return self._put(subnet, seen.attrs, 0, None).record

    def unreserve(self, subnet: Subnet) -> Lease:
        """See `Ledger.unreserve`."""
        seen = self._seen(subnet)
        if seen is None or seen.attrs is None:
            raise self._absent(self.keys.lease(subnet))
        return self._put(subnet, seen.attrs, seen.row.lease_id or _id_for(LEASE_TTL_S), LEASE_TTL_S)

    def put_config(self, raw: bytes) -> int:
        return self._tables.put_config(self._name, raw)

    def delete_config(self) -> int:
        """Raises KeyAbsent."""
        if self._tables.config(self._name) is None:
            raise self._absent(self.keys.config)
        return self._tables.delete_config(self._name)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _listed(self) -> list[LeaseRecord]:
        """All leases; a subnet whose value is no lease is nobody's, and taken all the same."""
        pairs = [KeyValue(self.keys.subnets + row.name, row.value, row.lease_id, row.revision)
                 for row in self._tables.leases(self._name)]  # fmt: skip
        found = records(self.keys, pairs, Skips())
        if len(found) != len(pairs):
            named = {subnet for pair in pairs if (subnet := self.keys.subnet(pair.key)) is not None}
            return [*found.values(), *(LeaseRecord(subnet, _NOBODY) for subnet in named - found.keys())]
        return list(found.values())

    def _seen(self, subnet: Subnet) -> Seen | None:
        row = self._tables.lease(self._name, subnet.key.encode())
        if row is None:
            return None
        try:
            return Seen(row, decode_value(row.value))
        except ValueError:
            return Seen(row, None)

    def _ours(self, held: LeaseRecord, seen: Seen | None, holders: set[int]) -> LeaseRecord:
        """The lease in `seen`, when it names one of `holders`. Raises LeaseLost."""
        key = shown(self.keys.lease(held.subnet))
        if seen is None or seen.attrs is None:
            raise LeaseLost(f"{key} is gone, or holds no lease any more")
        if seen.attrs.public_ip not in holders:
            raise LeaseLost(f"{key} names {format_ip(seen.attrs.public_ip)}, not {format_ip(held.attrs.public_ip)}")
        return self._lease(held.subnet, seen.attrs, seen.row).record

    def _check_holder(self, subnet: Subnet, seen: Seen, holders: set[int | None]) -> None:
        """Raises LeaseHeld."""
        if seen.attrs is not None and seen.attrs.public_ip not in holders:
            raise LeaseHeld(str(subnet), format_ip(seen.attrs.public_ip))

    def _put(self, subnet: Subnet, attrs: LeaseAttrs, lease_id: int, ttl_s: int | None) -> Lease:
        """Writes the key, to end in `ttl_s` seconds; never, if `lease_id` is 0."""
        expires_at = None if lease_id == 0 or ttl_s is None else self._tables.now_s + ttl_s
        row = Row(subnet.key.encode(), encode_value(attrs), lease_id, expires_at, 0)
        return self._lease(subnet, attrs, self._tables.put_lease(self._name, row))

    def _prolong(self, record: LeaseRecord) -> Lease:
        if record.permanent:
            return Lease(record, None)
        self._tables.prolong(self._name, record.subnet.key.encode(), LEASE_TTL_S)
        return Lease(record, LEASE_TTL_S)

    def _lease(self, subnet: Subnet, attrs: LeaseAttrs, row: Row) -> Lease:
        record = LeaseRecord(subnet, attrs, row.lease_id, row.revision)
        return Lease(record, None if row.expires_at is None else ceil(row.expires_at - self._tables.now_s))

    def _absent(self, key: bytes) -> KeyAbsent:
        return KeyAbsent(key.decode(), self._tables.number)


def _id_for(ttl_s: int | None) -> int:
    """A lease's id; 0 says reservation."""
    return 0 if ttl_s is None else _rng.getrandbits(62) + 1
