"""Configs, networks and reservations over v1: what flannelctl needs besides, and a worker never imports.

What v1 lacks (writing configs) is our own extension, which an older server answers with 404.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import NamedTuple

from flannel_multi.model.errors import Compacted, KeyAbsent, LeaseHeld, LeaseLost, StoreRefused, StoreUnavailable
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.names import valid_name
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.model.v1 import ToldWatch, read_watch
from flannel_multi.store.client import Deadline, Request
from flannel_multi.store.protocol import Lease, NetworkChange, NetworkGone, NetworkList, NetworkWritten, Revision
from flannel_multi.store.remote import older
from flannel_multi.store.remote.polling import OPEN_S, Line, Live
from flannel_multi.store.remote.reading import look, take
from flannel_multi.store.remote.session import Session, Told, path_of
from flannel_multi.store.remote.writing import delete, is_done, put

# -- configs -------------------------------------------------------------------------------------------------------


async def write_config(session: Session, network: str, raw: bytes, deadline: Deadline) -> int:
    """See `Ledger.write_config`. `raw=1`: also what the server would call invalid."""
    request = Request("PUT", path_of(network, "config?raw=1"), raw)
    told = await session.call(request, deadline=deadline, doing="write configs (in flannel they are written to etcd)")
    return told.cursor or 0


async def delete_config(session: Session, network: str, deadline: Deadline) -> int:
    """See `Ledger.delete_config`."""
    request = Request("DELETE", path_of(network, "config"))
    told = await session.ask(request, deadline=deadline)
    if told.problem is not None and not is_done(told):
        raise session.refusal(told, doing="delete configs (in flannel they are deleted in etcd)")
    return told.cursor or 0


# -- networks ------------------------------------------------------------------------------------------------------


async def networks(session: Session, deadline: Deadline) -> NetworkList:
    """See `Ledger.networks`."""
    _, page, revision = await _list(session, deadline)
    names = {name for name in page.snapshot if isinstance(name, str) and valid_name(name)}
    return NetworkList(tuple(sorted(names)), revision)


class _Listing(NamedTuple):
    told: Told
    page: ToldWatch
    revision: Revision


async def _list(session: Session, deadline: Deadline) -> _Listing:
    told = await session.call(Request("GET", "/v1/"), deadline=deadline, doing="list networks (0.5 cannot)")
    page = session.read(told, read_watch)
    return _Listing(told, page, session.revision(told, page.cursor))


async def watch_networks(session: Session, after: Revision) -> AsyncGenerator[NetworkChange, None]:
    """See `Ledger.watch_networks`."""
    told, _, here = await _list(session, Deadline(OPEN_S))
    if here.cluster != after.cluster or here.number < after.number:
        raise Compacted(f"{told.endpoint}: the store is another, or older, than the one known")
    live: Live[NetworkChange] = Live(session, told.endpoint, lambda change: change.revision)
    try:
        live.start(_watch_names(live, after))
        live.start(live.ping(lambda deadline: _look(live, after, deadline)))
        while True:
            for change in await live.take():
                yield change
    finally:
        await live.close()


async def _watch_names(live: Live[NetworkChange], after: Revision) -> None:
    session, line, cursor = live.session, Line(live), after.number
    while True:
        told = await line.ask(f"/v1/?next={cursor}")
        if told.problem is not None:
            raise session.refusal(told, doing="tell of networks that come and go")
        page = session.read(told, read_watch)
        another = session.revision(told, page.cursor).cluster != after.cluster
        if not page.events or page.skipped or page.cursor <= cursor or another:
            raise Compacted(f"{told.endpoint}: the history asked for is not there any more")
        cursor = page.cursor
        changes: list[NetworkChange] = [
            NetworkGone(event.network, cursor) if event.removed else NetworkWritten(event.network, cursor)
            for event in page.events
            if valid_name(event.network)
        ]
        await live.give(changes)


async def _look(live: Live[NetworkChange], after: Revision, deadline: Deadline) -> None:
    told = await live.session.ask(Request("GET", "/v1/"), deadline=deadline, at=live.endpoint)
    if told.problem is not None:
        raise live.session.refusal(told)
    here = live.session.revision(told, live.session.read(told, read_watch).cursor)
    if here.cluster != after.cluster or here.number < after.number:
        raise Compacted(f"{told.endpoint}: the store's data was replaced")


# -- leases and reservations ---------------------------------------------------------------------------------------


async def put_lease(
    session: Session,
    network: str,
    subnet: Subnet,
    attrs: LeaseAttrs,
    *,
    replaces: int | None,
    ttl_s: int | None,
    deadline: Deadline,
) -> Lease:
    """See `Ledger.put_lease`."""
    if not session.all_modern:
        found = await look(session, network, subnet, deadline)
        if not found.told.modern:
            return await older.put_lease(
                session, network, subnet, attrs, replaces=replaces, ttl_s=ttl_s, found=found, deadline=deadline
            )
    query = {"ttl": str(ttl_s or 0)}  # always: with it a server makes the lease before there is a config
    if replaces is not None:
        query["from"] = format_ip(replaces)
    try:
        return await put(session, network, subnet, attrs, query, deadline)
    except KeyAbsent as error:
        raise StoreRefused(f"a lease of {subnet} is not made without a config: {error.message}") from None


async def revoke(session: Session, network: str, subnet: Subnet, holder: int | None, deadline: Deadline) -> int:
    """See `Ledger.revoke`."""
    if holder is not None and not session.all_modern:
        found = (await look(session, network, subnet, deadline)).record
        if found is not None and found.attrs.public_ip != holder:
            raise LeaseHeld(str(subnet), format_ip(found.attrs.public_ip))
    told = await delete(session, network, subnet, holder, deadline)
    seen = session.seen.get(network)
    return told.cursor if told.cursor is not None else (seen.settled.number if seen is not None else 0)


async def reserve(session: Session, network: str, subnet: Subnet, public_ip: int, deadline: Deadline) -> LeaseRecord:
    """See `Ledger.reserve`. The server checks the subnet against the config besides."""
    try:
        await older.reserve(session, network, subnet, public_ip, deadline)
    except KeyAbsent as error:
        raise StoreRefused(f"{subnet} is not reserved without a config: {error.message}") from None
    except (StoreRefused, LeaseLost) as error:
        if "lease already taken" not in error.message:
            raise
        found = (await look(session, network, subnet, deadline)).record
        if found is None:
            raise StoreUnavailable(f"{subnet} was another's, and is free again") from None
        raise LeaseHeld(str(subnet), format_ip(found.attrs.public_ip)) from None
    return await _read_back(session, network, subnet, deadline)


async def unreserve(session: Session, network: str, subnet: Subnet, deadline: Deadline) -> LeaseRecord:
    """See `Ledger.unreserve`."""
    request = Request("DELETE", path_of(network, f"reservations/{subnet.key}"))
    await session.call(request, deadline=deadline, doing="end reservations")
    return await _read_back(session, network, subnet, deadline)


async def _read_back(session: Session, network: str, subnet: Subnet, deadline: Deadline) -> LeaseRecord:
    """v1 answers reservations with nothing."""
    found = (await look(session, network, subnet, deadline)).record
    if found is None:
        raise StoreUnavailable(f"{subnet} was deleted by another right after it was written")
    return found


async def learn_expiries(session: Session, records: Iterable[LeaseRecord], deadline: Deadline) -> None:
    """See `Ledger.learn_expiries`. Every answer tells the ends of what it names; only what has been forgotten since is
    asked for again, by listing the networks that were asked about."""
    records = list(records)
    for network in list(session.seen):
        if not session.expiries.unknown(records):
            return
        await take(session, network, None, deadline)
