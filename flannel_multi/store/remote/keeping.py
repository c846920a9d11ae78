"""Getting, keeping and giving back leases over v1, where the server allocates and the server writes.

An older server puts any lease over any other, and knows no condition. So unless every server is known to be one of
ours, the lease is looked at first; what an older server needs besides is in `older.py`.
"""

from __future__ import annotations

from urllib.parse import urlencode

from flannel_multi.model.allocation import fits
from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import KeyAbsent, LeaseHeld, LeaseLost, NoSubnetLeft, StoreRefused
from flannel_multi.model.lease import LeaseAttrs, encode_value
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.store.client import Deadline, Request
from flannel_multi.store.protocol import Lease
from flannel_multi.store.remote.answers import Kind
from flannel_multi.store.remote.reading import look
from flannel_multi.store.remote.session import Session, path_of
from flannel_multi.store.remote.writing import delete, lease_of, put


async def acquire(
    session: Session,
    network: str,
    config: NetworkConfig,
    attrs: LeaseAttrs,
    *,
    prefer: Subnet | None,
    quiet: bool,
    deadline: Deadline,
) -> Lease:
    """See `LeaseStore.acquire`, and `Ledger.grant` when not `quiet`."""
    query = {"revisions": "1", **({"quiet": "1"} if quiet else {}), **({"prefer": prefer.key} if prefer else {})}
    path = path_of(network, f"leases?{urlencode(query)}")
    told = await session.ask(Request("POST", path, encode_value(attrs)), deadline=deadline)
    if told.problem is not None:
        if told.problem.kind is Kind.FULL:
            raise NoSubnetLeft(
                f"out of subnets, says {told.endpoint}: every /{config.subnet_len} from "
                f"{format_ip(config.subnet_min)} to {format_ip(config.subnet_max)} of {config.network} overlaps a "
                "lease; remove leases of hosts that are gone, or widen the network"
            )
        if told.problem.kind is Kind.ABSENT:
            raise StoreRefused(f"{told.endpoint} gives no lease without a config: {told.problem.text}")
        raise session.refusal(told)
    lease = lease_of(session, network, told)
    if not fits(config, lease.record.subnet):
        raise StoreRefused(
            f"{told.endpoint} leases {lease.record.subnet} by the config that it has now, which does not fit the one "
            f"in force here ({config.network}, /{config.subnet_len}): restart this network to take the server's"
        )
    return lease


async def renew(session: Session, network: str, lease: Lease, deadline: Deadline) -> Lease:
    """See `LeaseStore.renew`. v1 renews by PUT; one of our own servers then writes nothing that has not changed."""
    held = lease.record
    if not session.all_modern:
        found = await look(session, network, held.subnet, deadline)
        if not found.told.modern:
            from flannel_multi.store.remote import older

            return await older.renew(session, network, lease, found, deadline)
    return await _put_own(session, network, lease, held.attrs, {"renew": "1"}, deadline)


async def publish(session: Session, network: str, lease: Lease, attrs: LeaseAttrs, deadline: Deadline) -> Lease:
    """See `LeaseStore.publish`."""
    held = lease.record
    if not session.all_modern:
        found = await look(session, network, held.subnet, deadline)
        if not found.told.modern:
            from flannel_multi.store.remote import older

            return await older.publish(session, network, lease, attrs, found, deadline)
    same = attrs.public_ip == held.attrs.public_ip
    query = {"renew": "1"} if same else {"from": format_ip(held.attrs.public_ip)}
    return await _put_own(session, network, lease, attrs, query, deadline)


async def release(session: Session, network: str, lease: Lease, deadline: Deadline) -> None:
    """See `LeaseStore.release`. Looked at first, since a reservation must stay."""
    held = lease.record
    if held.permanent:
        return
    seen = (await look(session, network, held.subnet, deadline)).record
    if seen is None or seen.permanent or seen.attrs.public_ip != held.attrs.public_ip:
        return
    try:
        await delete(session, network, held.subnet, held.attrs.public_ip, deadline)
    except (KeyAbsent, LeaseHeld):
        pass  # gone, or another's, in between


async def _put_own(
    session: Session, network: str, lease: Lease, attrs: LeaseAttrs, query: dict[str, str], deadline: Deadline
) -> Lease:
    """PUT of the lease that we hold. Raises LeaseLost, StoreUnavailable, StoreRefused."""
    subnet = lease.record.subnet
    try:
        return await put(session, network, subnet, attrs, query, deadline)
    except LeaseHeld as error:
        ours = format_ip(lease.record.attrs.public_ip)
        raise LeaseLost(f"lease {subnet} names {error.holder}, not {ours}") from None
    except KeyAbsent as error:
        raise LeaseLost(f"lease {subnet} is gone: {error.message}") from None
