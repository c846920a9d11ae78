"""One network read over v1: its config, its leases, one lease.

v1 has no request for config and leases at one revision. So the config is read first, and the watch that follows
looks for its changes from there, and for changes of leases from where they were listed: nothing falls in between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from flannel_multi.model.errors import StoreUnavailable
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.model.v1 import BadAnswer, ToldLease, ToldWatch, read_watch
from flannel_multi.store.client import Deadline
from flannel_multi.store.listing import MAX_LINES
from flannel_multi.store.protocol import ConfigRead, Known, Revision, Snapshot
from flannel_multi.store.remote.answers import Kind, one_line, record_of
from flannel_multi.store.remote.session import Seen, Session, Told, get
from flannel_multi.store.transport import Endpoint

TRIES = 3  # until config and leases come from servers of one store


class Config(NamedTuple):
    """The config as one server told it. `number` is 0 where an older server does not say at which revision."""

    told: Told
    raw: bytes | None
    number: int


async def read_config(
    session: Session, network: str, deadline: Deadline, *, follow: bool = True, at: Endpoint | None = None
) -> Config:
    """`follow`: a watch will go on from here, so the server is to note what happens. Raises StoreUnavailable,
    StoreRefused."""
    query = "config?raw=1&follow=1" if follow else "config?raw=1"
    told = await session.ask(get(network, query), deadline=deadline, at=at)
    return config_of(session, told)


def config_of(session: Session, told: Told) -> Config:
    """Raises StoreRefused."""
    number = told.cursor or 0
    if told.problem is None:
        return Config(told, told.reply.body, number)
    if told.problem.kind is Kind.ABSENT:
        return Config(told, None, number)
    if told.problem.kind is Kind.UNREADABLE and not told.modern:
        # An older server parses the config itself and tells what is wrong with it instead of what it is. Handed on as
        # a JSON string it is refused by `parse_config`, which names the text, as any other invalid config is.
        return Config(told, json.dumps(f"the server says: {told.problem.text}").encode(), number)
    raise session.refusal(told)


async def config_read(session: Session, network: str, deadline: Deadline) -> ConfigRead:
    """See `Ledger.read_config`. From an older server the revision is the one of the leases, which it does tell."""
    found = await read_config(session, network, deadline, follow=False)
    if found.told.modern and session.revision(found.told, found.number).cluster:
        return ConfigRead(found.raw, session.revision(found.told, found.number))
    snapshot = await take(session, network, None, deadline)  # also tells whether the server is one of ours
    return ConfigRead(snapshot.config, snapshot.revision)


async def take(session: Session, network: str, known: Known | None, deadline: Deadline) -> Snapshot:
    """See `LeaseStore.snapshot`."""
    for _ in range(TRIES):
        config = await read_config(session, network, deadline)
        if known is not None and _is_up_to_date(session, network, known, config):
            session.seen[network] = Seen(known.revision, config.raw, config.number)
            return Snapshot(known.revision, config.raw, known.leases)
        told = await session.call(get(network, "leases?revisions=1"), deadline=deadline)
        page = session.read(told, read_watch)
        revision = session.revision(told, page.cursor)
        if config.told.endpoint != told.endpoint and session.revision(config.told, 0).cluster != revision.cluster:
            continue
        if told.modern and config.told.problem is not None and config.told.problem.kind is Kind.UNREADABLE:
            raise session.refusal(config.told)  # the first answer did not yet show that the server is one of ours
        before = known.leases if known is not None else {}
        leases, skipped = leases_of(session, network, told, page, before)
        restored = _is_restored(session, network, known, revision)
        session.seen[network] = Seen(revision, config.raw, config.number)
        return Snapshot(revision, config.raw, leases, skipped, restored)
    raise StoreUnavailable(f"{network or '_'}: the servers of --remote answer from different stores, by turns")


def leases_of(
    session: Session, network: str, told: Told, page: ToldWatch, before: Mapping[Subnet, LeaseRecord]
) -> tuple[dict[Subnet, LeaseRecord], tuple[str, ...]]:
    """The leases of a listing, and a line for each that cannot be read."""
    leases: dict[Subnet, LeaseRecord] = {}
    lines = list(page.skipped)
    for lease in page.snapshot:
        if not isinstance(lease, ToldLease) or lease.subnet.length > 31:
            lines.append("no lease of a subnet")
            continue
        try:
            record = record_of(network, lease, page.cursor, before.get(lease.subnet))
        except BadAnswer as error:
            lines.append(str(error))
            continue
        session.note(told, lease, record)
        leases[record.subnet] = record
    shown = tuple(f"skipped what {told.endpoint} lists: {one_line(line)}" for line in lines[:MAX_LINES])
    more = len(lines) - len(shown)
    return leases, (*shown, f"{more} more skipped that are no leases") if more else shown


class Found(NamedTuple):
    """One lease as a server tells it. `record` None: it is absent."""

    told: Told
    record: LeaseRecord | None


async def look(session: Session, network: str, subnet: Subnet, deadline: Deadline) -> Found:
    """One lease, of its own route, or of the listing where an older server has no such route. Raises
    StoreUnavailable, StoreRefused."""
    told = await session.ask(get(network, f"leases/{subnet.key}?revisions=1"), deadline=deadline)
    if told.problem is not None and told.problem.kind is Kind.ABSENT:
        return Found(told, None)
    if told.problem is not None and told.problem.kind is Kind.NO_ROUTE:
        told = await session.ask(get(network, "leases"), deadline=deadline)
    if told.problem is not None:
        raise session.refusal(told)
    page = session.read(told, read_watch)
    seen = session.seen.get(network)
    # Never a revision above what the watch has come to: the caller would wait for an event that never comes.
    page = page if told.modern or seen is None else page._replace(cursor=min(page.cursor, seen.settled.number))
    return Found(told, leases_of(session, network, told, page, {})[0].get(subnet))


def _is_up_to_date(session: Session, network: str, known: Known, config: Config) -> bool:
    """True when nothing at all was written since `known`: then there is no need to list ten thousand leases again, as
    when a server was restarted under thousands of clients."""
    seen = session.seen.get(network)
    if seen is None or not config.told.modern or config.number == 0:
        return False
    here = session.revision(config.told, config.number)
    return bool(here.cluster) and here == known.revision == seen.settled


def _is_restored(session: Session, network: str, known: Known | None, revision: Revision) -> bool:
    """True when the store is another than the one known, or older: by what the caller knows, and by what was told."""
    seen = session.seen.get(network)
    points = [known.revision] if known is not None else []
    points += [seen.settled] if seen is not None else []
    return any(point.cluster != revision.cluster or revision.number < point.number for point in points)
