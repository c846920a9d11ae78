"""What a server and flannelctl do to any lease key: put, revoke, reserve, give back. By compare-and-set each.

A key hangs on an etcd lease of its own. One that a key is moved away from, or that was granted for nothing, is ended
if nothing else hangs on it; when that fails no harm is done: it ends by itself within a day.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flannel_multi.model.errors import FlannelError, LeaseHeld, StoreRefused, StoreUnavailable
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord, encode_value
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd.changing import TRIES, ChangingKey, delete_key
from flannel_multi.store.etcd.gateway import Gateway
from flannel_multi.store.etcd.keeping import grant, prolong, record_of, revoke
from flannel_multi.store.expiries import Expiries
from flannel_multi.store.keys import NetworkKeys, Range
from flannel_multi.store.listing import KeyValue
from flannel_multi.store.protocol import Lease


class LeaseWriter:
    """Changes of lease keys in one store. Ends are noted before the write that others see."""

    def __init__(self, gateway: Gateway, expiries: Expiries) -> None:
        self._gateway = gateway
        self._expiries = expiries

    async def put(
        self,
        keys: NetworkKeys,
        subnet: Subnet,
        attrs: LeaseAttrs,
        *,
        replaces: int | None,
        ttl_s: int | None,
        deadline: Deadline,
    ) -> Lease:
        """See `Ledger.put_lease`. A value that is no lease is nobody's, and is written over."""
        async with self._changing(keys, subnet, deadline) as key:
            for _ in range(TRIES):
                pair = await key.look()
                if pair is None:
                    lease_id = 0 if ttl_s is None else await key.granted(max(1, ttl_s))
                    left_s = ttl_s
                else:
                    key.check_holder(attrs.public_ip, replaces)
                    lease_id = pair.lease_id
                    standing = LeaseRecord(subnet, attrs, lease_id)
                    left_s = await prolong(self._gateway, standing, self._expiries, deadline)
                    if left_s == 0:
                        continue
                    if left_s is not None and left_s < LEASE_TTL_S:  # see `keep`
                        lease_id, left_s = await key.granted(LEASE_TTL_S), LEASE_TTL_S
                written = await key.write(encode_value(attrs), lease_id=lease_id)
                if written is not None:
                    return Lease(LeaseRecord(subnet, attrs, lease_id, written.revision), left_s)
            raise key.no_more_tries()

    async def revoke(self, keys: NetworkKeys, subnet: Subnet, *, holder: int | None, deadline: Deadline) -> int:
        """See `Ledger.revoke`."""
        async with self._changing(keys, subnet, deadline) as key:
            deleted = await delete_key(key, lambda: None if holder is None else key.check_holder(holder))
            await self._end(deleted.pair.lease_id, deadline)
            return deleted.revision

    async def reserve(self, keys: NetworkKeys, subnet: Subnet, public_ip: int, deadline: Deadline) -> LeaseRecord:
        """See `Ledger.reserve`. The value of a lease stays byte for byte."""
        fresh = encode_value(LeaseAttrs(public_ip))
        async with self._changing(keys, subnet, deadline) as key:
            for _ in range(TRIES):
                pair = await key.look()
                key.check_holder(public_ip)
                standing = record_of(subnet, pair)
                value = pair.value if pair is not None and standing is not None else fresh
                written = await key.write(value, lease_id=0)
                if written is not None:
                    await self._end(pair.lease_id if pair is not None else 0, deadline)
                    attrs = LeaseAttrs(public_ip) if standing is None else standing.attrs
                    return LeaseRecord(subnet, attrs, 0, written.revision)
            raise key.no_more_tries()

    async def unreserve(self, keys: NetworkKeys, subnet: Subnet, deadline: Deadline) -> LeaseRecord:
        """See `Ledger.unreserve`. The value of a lease stays byte for byte; a value that is none counts as absent."""
        async with self._changing(keys, subnet, deadline) as key:
            for _ in range(TRIES):
                pair = await key.look()
                standing = record_of(subnet, pair)
                if pair is None or standing is None:
                    raise key.missing()
                lease_id = await key.granted(LEASE_TTL_S)
                written = await key.write(pair.value, lease_id=lease_id)
                if written is not None:
                    await self._end(pair.lease_id if pair.lease_id != lease_id else 0, deadline)
                    return standing._replace(lease_id=lease_id, revision=written.revision)
            raise key.no_more_tries()

    @asynccontextmanager
    async def _changing(self, keys: NetworkKeys, subnet: Subnet, deadline: Deadline) -> AsyncIterator[_LeaseKey]:
        """One lease key; at the end an etcd lease that was granted and is not used is ended.

        Not so when the store failed: the write may have been made all the same, and its etcd lease must then live.
        """
        key = _LeaseKey(self._gateway, keys, subnet, self._expiries, deadline)
        try:
            yield key
        except (StoreUnavailable, StoreRefused):
            raise
        except FlannelError:
            await self._end(key.unused, deadline)
            raise
        await self._end(key.unused, deadline)

    async def _end(self, lease_id: int, deadline: Deadline) -> None:
        """Ends an etcd lease (0: none) if no key is on it, since others may have put theirs there."""
        if not lease_id:
            return
        try:
            request = {"ID": str(lease_id), "keys": True}
            answer = await self._gateway.call("/v3/lease/timetolive", request, about=Range(b""), deadline=deadline)
            if not answer.body.get("keys"):
                await revoke(self._gateway, lease_id, deadline)
        except (StoreUnavailable, StoreRefused):
            pass


class _LeaseKey(ChangingKey):
    """`unused`: an etcd lease that was granted for this key and that the key is not known to be on; 0: none."""

    def __init__(
        self, gateway: Gateway, keys: NetworkKeys, subnet: Subnet, expiries: Expiries, deadline: Deadline
    ) -> None:
        super().__init__(gateway, keys.lease(subnet), deadline)
        self.unused = 0
        self._subnet = subnet
        self._expiries = expiries

    async def granted(self, ttl_s: int) -> int:
        """An etcd lease for this key, one in all however often it is asked for."""
        if not self.unused:
            lease_id = random.SystemRandom().getrandbits(62) + 1
            await grant(self._gateway, lease_id, ttl_s, Range(self.key), self._deadline)
            self.unused = lease_id
            self._expiries.note(LeaseRecord(self._subnet, LeaseAttrs(0), lease_id), ttl_s)
        return self.unused

    async def write(self, value: bytes, *, lease_id: int | None) -> KeyValue | None:
        written = await super().write(value, lease_id=lease_id)
        if written is not None and written.lease_id == self.unused:
            self.unused = 0
        return written

    def check_holder(self, *allowed: int | None) -> None:
        """Raises LeaseHeld when the key holds a lease whose public IP is none of `allowed`."""
        record = record_of(self._subnet, self.pair)
        if record is not None and record.attrs.public_ip not in allowed:
            raise LeaseHeld(str(self._subnet), format_ip(record.attrs.public_ip))
