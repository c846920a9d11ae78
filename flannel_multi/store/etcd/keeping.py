"""Keeping and giving back the own lease, and the transactions on one lease key that getting it needs as well."""

from __future__ import annotations

import random
from typing import NamedTuple

from flannel_multi.model.errors import LeaseLost, StoreUnavailable
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord, decode_value, encode_value
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd.answers import BadAnswer, number
from flannel_multi.store.etcd.gateway import Gateway, LeaseExists, NoEtcdLease
from flannel_multi.store.etcd.pairs import delete_op, put_op, read_key, read_op, transact, unchanged
from flannel_multi.store.expiries import Expiries
from flannel_multi.store.keys import NetworkKeys, Range, shown
from flannel_multi.store.listing import KeyValue
from flannel_multi.store.protocol import Lease

PUBLISH_TRIES = 3


class Rewritten(NamedTuple):
    """`record`: as written, None when the key had changed. `found`: then the lease in it, None when there is none."""

    record: LeaseRecord | None
    found: LeaseRecord | None = None


async def renew(gateway: Gateway, keys: NetworkKeys, lease: Lease, expiries: Expiries, deadline: Deadline) -> Lease:
    """See `LeaseStore.renew`. The key is looked at first: what is not ours any more is not prolonged."""
    held = lease.record
    key = keys.lease(held.subnet)
    seen = record_of(held.subnet, await read_key(gateway, key, deadline=deadline))
    record = _ours(key, held, seen, (held.attrs.public_ip,))
    kept = await keep(gateway, keys, record, expiries, deadline)
    if kept is None:
        raise LeaseLost(f"{shown(key)}: its etcd lease has ended")
    return kept


async def keep(
    gateway: Gateway, keys: NetworkKeys, record: LeaseRecord, expiries: Expiries, deadline: Deadline
) -> Lease | None:
    """Prolongs `record`; None when it has ended, or was changed meanwhile.

    One whose etcd lease was granted for less than a day (it was copied from another store with what it had left) is
    moved to one of a day: keep-alive gives no more than was granted, and a host that is down for that long loses it.
    """
    ttl_s = await prolong(gateway, record, expiries, deadline)
    if ttl_s is None or ttl_s >= LEASE_TTL_S:
        return Lease(record, ttl_s)
    if ttl_s == 0:
        return None
    lease_id = random.SystemRandom().getrandbits(62) + 1
    await grant(gateway, lease_id, LEASE_TTL_S, Range(keys.lease(record.subnet)), deadline)
    expiries.note(record._replace(lease_id=lease_id), LEASE_TTL_S)
    moved = (await rewrite(gateway, keys, record, record.attrs, deadline, lease_id=lease_id)).record
    return Lease(moved, LEASE_TTL_S) if moved is not None else None  # the etcd lease left over ends by itself


async def publish(gateway: Gateway, keys: NetworkKeys, lease: Lease, attrs: LeaseAttrs, deadline: Deadline) -> Lease:
    """See `LeaseStore.publish`. A key that was rewritten and is still ours is written on its new revision."""
    record, key = lease.record, keys.lease(lease.record.subnet)
    for _ in range(PUBLISH_TRIES):
        written, found = await rewrite(gateway, keys, record, attrs, deadline)
        if written is None:
            holders = {record.attrs.public_ip, attrs.public_ip}
            if found is not None and found.lease_id == record.lease_id != 0:
                holders.add(found.attrs.public_ip)  # an etcd lease id is ours alone, whatever address it names
            record = _ours(key, record, found, tuple(holders))
            if record.attrs != attrs:
                continue
            written = record  # our own write, whose first answer was lost
        return Lease(written, None if written.permanent else lease.ttl_s)
    raise StoreUnavailable(f"{shown(key)} was rewritten {PUBLISH_TRIES} times while attributes were published")


async def release(gateway: Gateway, keys: NetworkKeys, lease: Lease, deadline: Deadline) -> None:
    """See `LeaseStore.release`."""
    held = lease.record
    if held.permanent:
        return
    seen = record_of(held.subnet, await read_key(gateway, keys.lease(held.subnet), deadline=deadline))
    if seen is not None and not seen.permanent and seen.attrs.public_ip == held.attrs.public_ip:
        await delete(gateway, keys, seen, deadline)
        if seen.lease_id != held.lease_id:
            await revoke(gateway, seen.lease_id, deadline)
    await revoke(gateway, held.lease_id, deadline)


async def rewrite(
    gateway: Gateway,
    keys: NetworkKeys,
    record: LeaseRecord,
    attrs: LeaseAttrs,
    deadline: Deadline,
    *,
    lease_id: int | None = None,
) -> Rewritten:
    """New attributes, if the key stands at the record's revision; it stays on its etcd lease, or on none, or moves to
    `lease_id`."""
    key = keys.lease(record.subnet)
    outcome = await transact(
        gateway,
        when=[unchanged(key, record.revision)],
        then=[put_op(key, encode_value(attrs), lease_id=lease_id)],
        otherwise=[read_op(Range(key))],
        about=Range(key),
        deadline=deadline,
    )
    if outcome.won:
        hold = record.lease_id if lease_id is None else lease_id
        return Rewritten(LeaseRecord(record.subnet, attrs, hold, outcome.header.revision))
    pairs = outcome.pages[0].pairs
    return Rewritten(None, record_of(record.subnet, pairs[0] if pairs else None))


async def delete(gateway: Gateway, keys: NetworkKeys, record: LeaseRecord, deadline: Deadline) -> None:
    """Deletes the key, if it stands at the record's revision."""
    key = keys.lease(record.subnet)
    await transact(
        gateway,
        when=[unchanged(key, record.revision)],
        then=[delete_op(key)],
        about=Range(key),
        deadline=deadline,
    )


async def grant(gateway: Gateway, lease_id: int, ttl_s: int, about: Range, deadline: Deadline) -> None:
    """A new etcd lease with an id of our choice, for keys `about`."""
    request = {"ID": str(lease_id), "TTL": str(ttl_s)}
    try:
        await gateway.call("/v3/lease/grant", request, about=about, deadline=deadline)
    except LeaseExists:
        pass  # our own grant, whose first answer was lost


async def prolong(gateway: Gateway, record: LeaseRecord, expiries: Expiries, deadline: Deadline) -> int | None:
    """Seconds that `record` now lives, None for a reservation; 0: its etcd lease has ended.

    Its new end is noted here, so before a write that follows: whoever sees that write knows the end it came with.
    """
    if record.permanent:
        return None
    ttl_s = await keep_alive(gateway, record.lease_id, deadline)
    if ttl_s > 0:
        expiries.note(record, ttl_s)
    return max(0, ttl_s)


async def keep_alive(gateway: Gateway, lease_id: int, deadline: Deadline) -> int:
    """Prolongs an etcd lease; seconds that it now lives, 0 when there is none."""
    about = Range(b"")
    try:
        result = await gateway.call("/v3/lease/keepalive", {"ID": str(lease_id)}, about=about, deadline=deadline)
    except NoEtcdLease:
        return 0
    try:
        return number(result.body.get("TTL"))
    except BadAnswer:
        raise gateway.bad_answer(result.endpoint) from None


async def revoke(gateway: Gateway, lease_id: int, deadline: Deadline) -> None:
    """Ends an etcd lease, and every key that is on it."""
    try:
        await gateway.call("/v3/lease/revoke", {"ID": str(lease_id)}, about=Range(b""), deadline=deadline)
    except NoEtcdLease:
        pass


def record_of(subnet: Subnet, pair: KeyValue | None) -> LeaseRecord | None:
    """The lease in `pair`; None when there is none, or its value is no lease."""
    if pair is None:
        return None
    try:
        return LeaseRecord(subnet, decode_value(pair.value), pair.lease_id, pair.revision)
    except ValueError:
        return None


def _ours(key: bytes, held: LeaseRecord, seen: LeaseRecord | None, holders: tuple[int, ...]) -> LeaseRecord:
    """`seen`, when it names one of `holders`. Raises LeaseLost."""
    if seen is None:
        raise LeaseLost(f"{shown(key)} is gone, or holds no lease any more")
    if seen.attrs.public_ip not in holders:
        raise LeaseLost(f"{shown(key)} names {format_ip(seen.attrs.public_ip)}, not {format_ip(held.attrs.public_ip)}")
    return seen
