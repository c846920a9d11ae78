"""When leases end, as far as a store has learnt it: a cache by etcd lease id.

etcd tells the rest of a lease's life for one lease a call, and a renewal by keep-alive writes no key: nobody can know
the ends of ten thousand leases exactly. So an end that has passed is forgotten, and asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import time

from flannel_multi.model.lease import LeaseRecord

NEVER = 0  # Unix seconds: the end of a reservation
MOST = 200_000  # ends remembered; one more, and all are asked for anew


class Expiries:
    """Ends of leases in Unix seconds. `now_s` is the clock, for tests."""

    def __init__(self, now_s: Callable[[], float] = time) -> None:
        self._now_s = now_s
        self._ends: dict[int, int] = {}
        self._noted: dict[int, float] = {}

    def note(self, record: LeaseRecord, ttl_s: int | None) -> int:
        """The store has just said that `record` lives for `ttl_s` seconds from now; returns its end."""
        if record.permanent or ttl_s is None:
            return NEVER
        if len(self._ends) >= MOST and record.lease_id not in self._ends:
            self._ends.clear()
            self._noted.clear()
        now_s = self._noted[record.lease_id] = self._now_s()
        end_s = self._ends[record.lease_id] = int(now_s) + ttl_s
        return end_s

    def of(self, record: LeaseRecord) -> int | None:
        """Its end: NEVER for a reservation, None when it is not known."""
        if record.permanent:
            return NEVER
        end_s = self._ends.get(record.lease_id)
        if end_s is not None and end_s < self._now_s():
            self._forget(record.lease_id)
            return None
        return end_s

    def doubt(self, record: LeaseRecord, *, older_than_s: float) -> None:
        """The lease was written, perhaps prolonged by somebody else: forgets an end that was noted before that."""
        if self._now_s() - self._noted.get(record.lease_id, 0.0) > older_than_s:
            self._forget(record.lease_id)

    def unknown(self, records: Iterable[LeaseRecord]) -> list[LeaseRecord]:
        """Those whose end is not known."""
        return [record for record in records if self.of(record) is None]

    def _forget(self, lease_id: int) -> None:
        self._ends.pop(lease_id, None)
        self._noted.pop(lease_id, None)
