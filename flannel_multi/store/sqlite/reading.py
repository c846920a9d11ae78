"""What is asked of the store without changing it, each within one transaction."""

from __future__ import annotations

from flannel_multi.model.errors import Compacted
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.listing import KeyValue, Skips, records
from flannel_multi.store.protocol import (
    Change,
    ConfigRead,
    Known,
    LeaseGone,
    LeaseWritten,
    NetworkList,
    Revision,
    Snapshot,
)
from flannel_multi.store.sqlite.changes import changes
from flannel_multi.store.sqlite.tables import Tables
from flannel_multi.store.sqlite.watching import check_history

DIFFERENCE = 2000  # changes folded into what is known; after more the leases are listed


def snapshot(keys: NetworkKeys, network: bytes, known: Known | None, tables: Tables) -> Snapshot:
    """See `LeaseStore.snapshot`."""
    restored = known is not None and not _follows(tables, known.revision)
    if known is not None and not restored:
        taken = _since(keys, network, known, tables)
        if taken is not None:
            return taken
    skips = Skips()
    pairs = (KeyValue(keys.subnets + row.name, row.value, row.lease_id, row.revision) for row in tables.leases(network))
    leases = records(keys, pairs, skips)
    return Snapshot(tables.revision, tables.config(network), leases, skips.lines, restored)


def _follows(tables: Tables, before: Revision) -> bool:
    """True when the store is the one of `before`, and not older."""
    return before.cluster == tables.cluster and before.number <= tables.number


def _since(keys: NetworkKeys, network: bytes, known: Known, tables: Tables) -> Snapshot | None:
    """What is known with the changes since; None when a listing is due."""
    if known.revision.number < tables.floor:
        return None
    rows = tables.history(known.revision.number, network, DIFFERENCE)
    if len(rows) == DIFFERENCE:
        return None
    leases = dict(known.leases)
    skips = Skips()
    latest = {row.name: row for row in rows if row.name is not None}
    for name, row in latest.items():
        key = keys.subnets + name
        subnet = keys.subnet(key)
        if subnet is not None:
            leases.pop(subnet, None)
        if row.value is not None:
            leases.update(records(keys, [KeyValue(key, row.value, row.lease_id, row.revision)], skips))
    for ended in tables.ended(network):  # and could not be deleted
        if (subnet := keys.subnet(keys.subnets + ended)) is not None:
            leases.pop(subnet, None)
    return Snapshot(tables.revision, tables.config(network), leases, skips.lines)


def config(network: bytes, tables: Tables) -> ConfigRead:
    return ConfigRead(tables.config(network), tables.revision)


def networks(tables: Tables) -> NetworkList:
    """A name that is no text is nobody's network."""
    names = [name.decode("utf-8", "replace") for name in tables.networks() if name]
    return NetworkList(tuple(name for name in names if "\ufffd" not in name), tables.revision)


def replay(keys: NetworkKeys, network: bytes, after: int, upto: Revision, tables: Tables) -> list[Change]:
    """See `Ledger.replay`."""
    if upto.cluster != tables.cluster or upto.number > tables.number:
        raise Compacted("the store file is another, or older, than the one listed")
    check_history(Revision(tables.cluster, min(after, upto.number)), tables)
    told: list[Change] = []
    for row in tables.history(after, network, -1):
        if row.revision > upto.number:
            break
        told.extend(change for change in changes(keys, row) if isinstance(change, LeaseWritten | LeaseGone))
    return told


def ends(wanted: set[int], tables: Tables) -> dict[int, float]:
    """Seconds from now until each lease of the ids `wanted` ends, as far as they stand."""
    return {lease_id: end_s - tables.now_s for lease_id, end_s in tables.ends() if lease_id in wanted}
