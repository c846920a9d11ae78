"""What happened to the leases of a network between two points of history, for a cursor from before our time.

What was written stands in the later listing. What was deleted stands in the keys listed at the earlier point, and in
no other place but the history itself: a watch from there tells at which revision. A lease that came and went between
the two stands in neither, and is not told: whoever holds the earlier state holds nothing of it.
"""

from __future__ import annotations

from contextlib import aclosing

from flannel_multi.model.errors import StoreUnavailable
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd import watching
from flannel_multi.store.etcd.gateway import Gateway
from flannel_multi.store.etcd.pairs import PAGE, read_page
from flannel_multi.store.keys import NetworkKeys, Range
from flannel_multi.store.protocol import Change, LeaseGone, LeaseWritten, Revision, Snapshot


async def replay(gateway: Gateway, keys: NetworkKeys, after: int, upto: Snapshot, deadline: Deadline) -> list[Change]:
    """See `Ledger.replay`."""
    if after >= upto.revision.number:
        return []
    written = {record.revision: LeaseWritten(record) for record in upto.leases.values() if record.revision > after}
    before = await _stood(gateway, keys, after, deadline)
    gone = before.keys() - upto.leases.keys()
    if gone:  # or no lease then and now, though its key stands
        now = await _stood(gateway, keys, upto.revision.number, deadline)
        gone = {subnet for subnet in gone if now.get(subnet) != before[subnet]}
    found: list[Change] = [*written.values()]
    if gone:
        found += await _deletions(gateway, keys, after, upto, gone, deadline)
    return sorted(found, key=_revision)


async def _stood(gateway: Gateway, keys: NetworkKeys, revision: int, deadline: Deadline) -> dict[Subnet, int]:
    """Lease keys at `revision`, whatever their values, each with the revision of its last write."""
    found: dict[Subnet, int] = {}
    rest = keys.leases
    while True:
        page = await read_page(
            gateway, rest, deadline=deadline, limit=str(PAGE), keys_only=True, revision=str(revision)
        )
        found.update((subnet, pair.revision) for pair in page.pairs if (subnet := keys.subnet(pair.key)) is not None)
        if not page.more or not page.pairs:
            return found
        rest = Range(page.pairs[-1].key + b"\0", rest.end)


async def _deletions(
    gateway: Gateway, keys: NetworkKeys, after: int, upto: Snapshot, gone: set[Subnet], deadline: Deadline
) -> list[LeaseGone]:
    """When each of `gone` went. Ends as soon as all are seen, since a watch never says that it has caught up."""
    cluster, last = upto.revision
    found: dict[Subnet, LeaseGone] = {}
    changes = watching.watch(gateway, keys._replace(watched=(keys.leases,)), Revision(cluster, after))
    try:
        async with deadline.part(1.0), aclosing(changes):
            async for change in changes:
                if not isinstance(change, LeaseGone | LeaseWritten):
                    continue
                if _revision(change) > last:
                    break
                if isinstance(change, LeaseGone) and change.subnet in gone:
                    found[change.subnet] = change
                if len(found) == len(gone):
                    break
    except TimeoutError:
        raise StoreUnavailable(f"the history of {keys.leases} since revision {after} was not told in time") from None
    return list(found.values())


def _revision(change: Change) -> int:
    match change:
        case LeaseWritten(record):
            return record.revision
        case LeaseGone(_, revision):
            return revision
        case _:
            raise AssertionError("a change of leases only")
