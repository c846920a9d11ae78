"""One network read whole, or by its difference to what is known, at one revision.

A start costs one exchange: one transaction reads the config and the first thousand leases. The difference to a known
state is what was written since, which etcd selects itself; what was deleted since shows in the number of keys alone,
and then the keys are listed without their values.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from flannel_multi.model.errors import Compacted, StoreUnavailable
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd.gateway import Gateway, NoSpace
from flannel_multi.store.etcd.pairs import PAGE, Outcome, Page, read_first, read_op, read_page, transact
from flannel_multi.store.keys import NetworkKeys, Range
from flannel_multi.store.listing import Skips, records
from flannel_multi.store.protocol import Known, Revision, Snapshot

TRIES = 3  # a listing whose revision is compacted between two pages begins anew


async def take(gateway: Gateway, keys: NetworkKeys, known: Known | None, deadline: Deadline) -> Snapshot:
    """Raises StoreUnavailable, StoreRefused."""
    for _ in range(TRIES):
        try:
            if known is None:
                return await _whole(gateway, keys, deadline, restored=False)
            if known.doubt:
                return _compared(await _whole(gateway, keys, deadline, restored=False), known)
            return await _since(gateway, keys, known, deadline)
        except Compacted:
            continue
    raise StoreUnavailable(f"the listing of {keys.leases} was compacted away {TRIES} times while it was read")


async def whole(gateway: Gateway, keys: NetworkKeys, deadline: Deadline) -> Snapshot:
    """All of it, however much is known. Raises StoreUnavailable, StoreRefused."""
    return await take(gateway, keys, None, deadline)


async def _whole(gateway: Gateway, keys: NetworkKeys, deadline: Deadline, *, restored: bool) -> Snapshot:
    first = await _read_both(gateway, keys, deadline)
    skips = Skips()
    leases: dict[Subnet, LeaseRecord] = {}
    async for page in _pages(gateway, keys, first, deadline):
        leases.update(records(keys, page.pairs, skips))
    revision = Revision(first.header.cluster, first.header.revision)
    return Snapshot(revision, _config(first), leases, skips.lines, restored)


def _compared(whole: Snapshot, known: Known) -> Snapshot:
    """`whole`, restored if it is of another history than `known`. A restored etcd may keep its name, and its numbers
    may have caught up; but a lease that was last written before the known point must be known as it is."""
    cluster, number = known.revision
    another = whole.revision.cluster != cluster or whole.revision.number < number
    return replace(whole, restored=another or any(
        record.revision <= number and known.leases.get(subnet) != record for subnet, record in whole.leases.items()
    ))  # fmt: skip


async def _since(gateway: Gateway, keys: NetworkKeys, known: Known, deadline: Deadline) -> Snapshot:
    cluster, number = known.revision
    history = gateway.history
    first = await _read_both(gateway, keys, deadline, min_mod_revision=str(number + 1))
    header, changed = first.header, first.pages[1]
    if gateway.history != history or header.cluster != cluster or header.revision < number:
        return await _whole(gateway, keys, deadline, restored=True)
    if changed.more:
        return await _whole(gateway, keys, deadline, restored=False)
    skips = Skips()
    fresh = records(keys, changed.pairs, skips)
    rewritten = {keys.subnet(pair.key) for pair in changed.pairs}
    kept = {subnet: record for subnet, record in known.leases.items() if subnet not in rewritten}
    if len(kept) + len(changed.pairs) != changed.total:
        still = await _still_there(gateway, keys, kept, first, deadline)
        if still is None:
            return await _whole(gateway, keys, deadline, restored=False)
        kept = still
    kept.update(fresh)
    return Snapshot(Revision(*header[:2]), _config(first), kept, skips.lines)


async def _still_there(
    gateway: Gateway, keys: NetworkKeys, kept: Mapping[Subnet, LeaseRecord], first: Outcome, deadline: Deadline
) -> dict[Subnet, LeaseRecord] | None:
    """Those of `kept` whose key stands unchanged; None when a lease key stands that we know nothing of."""
    revision = str(first.header.revision)
    page = await read_page(gateway, keys.leases, deadline=deadline, limit=str(PAGE), keys_only=True, revision=revision)
    fresh = {pair.key for pair in first.pages[1].pairs}
    still: dict[Subnet, LeaseRecord] = {}
    listing = Outcome(first.header, True, [page])
    async for page in _pages(gateway, keys, listing, deadline, keys_only=True):
        for pair in page.pairs:
            subnet = keys.subnet(pair.key)
            if subnet is None or pair.key in fresh:
                continue
            record = kept.get(subnet)
            if record is None or record.revision != pair.revision:
                return None
            still[subnet] = record
    return still


async def _read_both(gateway: Gateway, keys: NetworkKeys, deadline: Deadline, **more: str) -> Outcome:
    """Config and the first page of leases, in one exchange."""
    ops = (read_op(Range(keys.config)), read_op(keys.leases, limit=str(PAGE), **more))
    about = keys.watched[0] if len(keys.watched) == 1 else keys.leases
    try:
        return await transact(gateway, then=ops, about=about, deadline=deadline)
    except NoSpace:  # a full etcd refuses every transaction, also one that only reads
        leases = await read_first(gateway, keys.leases, deadline=deadline, limit=str(PAGE), **more)
        at = str(leases.header.revision)
        config = await read_page(gateway, Range(keys.config), deadline=deadline, revision=at)
        return leases._replace(pages=[config, *leases.pages])


async def _pages(
    gateway: Gateway, keys: NetworkKeys, first: Outcome, deadline: Deadline, **more: bool
) -> AsyncIterator[Page]:
    """The last page of `first`, and those that follow it at the same revision."""
    page = first.pages[-1]
    yield page
    while page.more and page.pairs:
        rest = Range(page.pairs[-1].key + b"\0", keys.leases.end)
        page = await read_page(
            gateway, rest, deadline=deadline, limit=str(PAGE), revision=str(first.header.revision), **more
        )
        yield page


def _config(first: Outcome) -> bytes | None:
    pairs = first.pages[0].pairs
    return pairs[0].value if pairs else None
