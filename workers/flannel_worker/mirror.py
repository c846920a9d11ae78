"""What the store said last, kept in memory: one network's leases and config, and what just changed in them.

Pure state without effects: the feed pours listings and watch events in, the life reads. A listing from a restored
store (another cluster, or an older revision) removes nothing at once: what it lacks is unknown until it has been
missing for the restore grace (spec §0).
"""

from __future__ import annotations

from typing import NamedTuple

from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.protocol import (
    Change,
    ConfigWritten,
    Known,
    LeaseGone,
    LeaseWritten,
    Revision,
    Skipped,
    Snapshot,
)


class Delta(NamedTuple):
    """Subnets whose lease came, went or changed; lines for the log."""

    subnets: frozenset[Subnet] = frozenset()
    lines: tuple[str, ...] = ()


class Mirror:
    """One network as the store last showed it."""

    def __init__(self) -> None:
        self.leases: dict[Subnet, LeaseRecord] = {}
        self.config: bytes | None = None
        self.revision: Revision | None = None
        self.answered = False  # the store has spoken since this process started
        self._missing_since: dict[Subnet, float] = {}
        self._wrote_at = 0  # revision of our last write

    def remember(self, leases: dict[Subnet, LeaseRecord], revision: Revision) -> None:
        """Starts from the last known state on disk."""
        self.leases = leases
        self.revision = revision

    def known(self) -> Known | None:
        """What the next listing may be a difference to."""
        if self.revision is None or self._missing_since:
            return None  # kept although missing: only a whole listing can tell what the store holds
        return Known(self.revision, self.leases, doubt=self.answered)  # listed again: the store was away

    def listed(self, snapshot: Snapshot, *, now_s: float) -> Delta:
        """A listing replaces everything, but for what a restored store lacks."""
        self.answered = True
        before = self.leases
        fresh = dict(snapshot.leases)
        gone = before.keys() - fresh.keys()
        if snapshot.restored:
            self._wrote_at = 0  # a number of another history: nothing of it will be shown any more
            for subnet in gone:
                self._missing_since.setdefault(subnet, now_s)
        for subnet in list(self._missing_since):
            if subnet in fresh:
                del self._missing_since[subnet]
            elif subnet in before:
                fresh[subnet] = before[subnet]
        touched = frozenset(s for s in before.keys() | fresh.keys() if before.get(s) != fresh.get(s))
        self.leases, self.config, self.revision = fresh, snapshot.config, snapshot.revision
        return Delta(touched, snapshot.skipped)

    def changed(self, change: Change) -> Delta:
        """One watch event."""
        match change:
            case LeaseWritten(record):
                self._missing_since.pop(record.subnet, None)
                self._advance(record.revision)
                if self.leases.get(record.subnet) == record:
                    return Delta()
                self.leases[record.subnet] = record
                return Delta(frozenset((record.subnet,)))
            case LeaseGone(subnet, revision):
                self._missing_since.pop(subnet, None)
                self._advance(revision)
                return Delta(frozenset((subnet,))) if self.leases.pop(subnet, None) else Delta()
            case ConfigWritten(config, revision):
                self._advance(revision)
                self.config = config
                return Delta()
            case Skipped(text):
                return Delta(lines=(text,))

    def expired(self, *, now_s: float, grace_s: float) -> Delta:
        """Gives up what a restored store has lacked for `grace_s` seconds."""
        old = [subnet for subnet, since_s in self._missing_since.items() if now_s - since_s >= grace_s]
        for subnet in old:
            del self._missing_since[subnet]
            self.leases.pop(subnet, None)
        return Delta(frozenset(old))

    def is_missing(self, subnet: Subnet) -> bool:
        """True when `subnet` is only remembered: the store lacks it since it was restored."""
        return subnet in self._missing_since

    def wrote(self, record: LeaseRecord) -> None:
        """Our own write, known before the watch shows it."""
        self._wrote_at = record.revision
        seen = self.leases.get(record.subnet)
        if seen is None or seen.revision <= record.revision:
            self._missing_since.pop(record.subnet, None)
            self.leases[record.subnet] = record

    def is_ahead(self, record: LeaseRecord) -> bool:
        """True when `record` is our own write that the store has not shown yet."""
        shown = self.revision.number if self.revision is not None else 0
        return record.revision == self._wrote_at and record.revision > shown

    def _advance(self, number: int) -> None:
        if self.revision is not None and number > self.revision.number:
            self.revision = Revision(self.revision.cluster, number)
