"""Writes of one lease over v1, and what their answers tell."""

from __future__ import annotations

from urllib.parse import urlencode

from flannel_multi.model.lease import LeaseAttrs, encode_value
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.model.v1 import NO_END, read_json, read_lease
from flannel_multi.store.client import Deadline, Request
from flannel_multi.store.protocol import Lease
from flannel_multi.store.remote.answers import Kind, record_of
from flannel_multi.store.remote.session import Session, Told, path_of


async def put(
    session: Session,
    network: str,
    subnet: Subnet,
    attrs: LeaseAttrs,
    query: dict[str, str],
    deadline: Deadline,
) -> Lease:
    """PUT of a lease; what it says of the end does not count (spec X16). Raises LeaseHeld, LeaseLost, KeyAbsent,
    StoreUnavailable, StoreRefused."""
    body = f'{{"Subnet":"{subnet}","Attrs":{encode_value(attrs).decode()},"Expiration":"{NO_END}"}}'
    path = path_of(network, f"leases/{subnet.key}?{urlencode({'revisions': '1', **query})}")
    told = await session.call(Request("PUT", path, body.encode()), deadline=deadline)
    return lease_of(session, network, told)


async def delete(session: Session, network: str, subnet: Subnet, holder: int | None, deadline: Deadline) -> Told:
    """DELETE of a lease. Raises KeyAbsent, LeaseHeld, StoreUnavailable, StoreRefused."""
    query = f"?holder={format_ip(holder)}" if holder is not None else ""
    request = Request("DELETE", path_of(network, f"leases/{subnet.key}{query}"))
    told = await session.ask(request, deadline=deadline)
    if told.problem is not None and not is_done(told):
        raise session.refusal(told, doing="delete leases (0.5 cannot)")
    return told


def is_done(told: Told) -> bool:
    """True when what a DELETE finds absent was deleted by that same DELETE, whose first answer was lost."""
    return told.problem is not None and told.problem.kind is Kind.ABSENT and told.reply.resent


def lease_of(session: Session, network: str, told: Told) -> Lease:
    """The lease in the answer to POST and PUT. Raises StoreRefused."""
    found = session.read(told, lambda body: read_lease(read_json(body)))
    seen = session.seen.get(network)
    # An older server does not say at which revision it wrote. Never a higher one than its events have come to: the
    # caller would wait for an event that never comes.
    cursor = told.cursor if told.cursor is not None else (seen.settled.number if seen is not None else 0)
    return session.note(told, found, session.read(told, lambda _: record_of(network, found, cursor)))
