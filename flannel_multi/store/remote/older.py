"""Keeping leases on a flanneld 0.5 to 0.7: its PUT writes over whatever stands, and ends a reservation (spec §6.5).

So the caller looks first (`found`), and a reservation is made one again afterwards. In between another host may be
faster: that is all that v1 has.
"""

from __future__ import annotations

from flannel_multi.model.errors import LeaseHeld, LeaseLost
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.store.client import Deadline, Request
from flannel_multi.store.protocol import Lease
from flannel_multi.store.remote.reading import Found
from flannel_multi.store.remote.session import Session, path_of
from flannel_multi.store.remote.writing import put


async def renew(session: Session, network: str, lease: Lease, found: Found, deadline: Deadline) -> Lease:
    """See `LeaseStore.renew`. What stands is sent back as it is."""
    held = lease.record
    record = _ours(held, found.record, (held.attrs.public_ip,))
    if record.permanent:
        return Lease(record, None)
    return await put(session, network, record.subnet, record.attrs, {}, deadline)


async def publish(
    session: Session, network: str, lease: Lease, attrs: LeaseAttrs, found: Found, deadline: Deadline
) -> Lease:
    """See `LeaseStore.publish`."""
    record = _ours(lease.record, found.record, (lease.record.attrs.public_ip, attrs.public_ip))
    written = await put(session, network, record.subnet, attrs, {}, deadline)
    return await _kept(session, network, written, deadline) if record.permanent else written


async def put_lease(
    session: Session,
    network: str,
    subnet: Subnet,
    attrs: LeaseAttrs,
    *,
    replaces: int | None,
    ttl_s: int | None,
    found: Found,
    deadline: Deadline,
) -> Lease:
    """See `Ledger.put_lease`. A life other than 24 hours cannot be had: the lease returned says what it got."""
    record = found.record
    if record is not None and record.attrs.public_ip not in (attrs.public_ip, replaces):
        raise LeaseHeld(str(subnet), format_ip(record.attrs.public_ip))
    written = await put(session, network, subnet, attrs, {}, deadline)
    stays = record.permanent if record is not None else ttl_s is None
    return await _kept(session, network, written, deadline) if stays else written


async def reserve(session: Session, network: str, subnet: Subnet, public_ip: int, deadline: Deadline) -> None:
    """POST of a reservation. Raises LeaseLost, KeyAbsent, StoreUnavailable, StoreRefused."""
    body = f'{{"Subnet":"{subnet}","PublicIP":"{format_ip(public_ip)}"}}'
    request = Request("POST", path_of(network, "reservations"), body.encode())
    await session.call(request, deadline=deadline, doing="make reservations")


async def _kept(session: Session, network: str, lease: Lease, deadline: Deadline) -> Lease:
    """`lease`, made a reservation; its attributes stay."""
    record = lease.record
    await reserve(session, network, record.subnet, record.attrs.public_ip, deadline)
    return Lease(record._replace(lease_id=0), None)


def _ours(held: LeaseRecord, seen: LeaseRecord | None, holders: tuple[int, ...]) -> LeaseRecord:
    """`seen`, when it names one of `holders`. Raises LeaseLost."""
    if seen is None:
        raise LeaseLost(f"lease {held.subnet} is gone")
    if seen.attrs.public_ip not in holders:
        raise LeaseLost(
            f"lease {held.subnet} names {format_ip(seen.attrs.public_ip)}, not {format_ip(held.attrs.public_ip)}"
        )
    return seen
