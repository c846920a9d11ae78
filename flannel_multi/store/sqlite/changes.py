"""Rows of the history as the changes that a watcher is told. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from flannel_multi.model.lease import LeaseRecord, decode_value
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.listing import MAX_LINES, NO_SUBNET, skip_line
from flannel_multi.store.protocol import Change, ConfigWritten, LeaseGone, LeaseWritten, Skipped
from flannel_multi.store.sqlite.tables import HistoryRow

SKIPS_A_LINE = 1000  # after the first MAX_LINES skipped keys, one line for so many


def changes(keys: NetworkKeys, row: HistoryRow) -> Iterator[Change]:
    """What `row` changes in the network of `keys`."""
    if row.name is None:
        yield ConfigWritten(row.value, row.revision)
        return
    key = keys.subnets + row.name
    subnet = keys.subnet(key)
    if subnet is None:
        if row.value is not None:
            yield Skipped(skip_line(key, NO_SUBNET))
    elif row.value is None:
        yield LeaseGone(subnet, row.revision)
    else:
        try:
            attrs = decode_value(row.value)
        except ValueError as error:
            yield LeaseGone(subnet, row.revision)  # whatever it was before, it is no lease now
            yield Skipped(skip_line(key, str(error)))
        else:
            yield LeaseWritten(LeaseRecord(subnet, attrs, row.lease_id, row.revision))


class Bounded:
    """Keeps the lines about skipped keys of one watch few."""

    def __init__(self, keys: NetworkKeys) -> None:
        self._keys = keys
        self._skipped = 0

    def given(self, change: Change) -> Change | None:
        """`change` as it is given out, or None for a line too many."""
        if not isinstance(change, Skipped):
            return change
        self._skipped += 1
        if self._skipped <= MAX_LINES:
            return change
        if self._skipped % SKIPS_A_LINE:
            return None
        return Skipped(f"{self._skipped} keys skipped so far under {self._keys.leases} that are no leases")
