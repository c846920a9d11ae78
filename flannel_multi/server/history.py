"""What happened lately, by revision, for clients that come back with a cursor (spec §6.4). Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Sequence
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

MOST = 10_000  # events kept, up to twice as many; who is further behind gets a snapshot, which costs less
MOST_BYTES = 16 << 20  # of their texts
ANSWER_BYTES = 1 << 20  # of the texts in one answer
S = TypeVar("S", bound=Hashable)


class Event(NamedTuple, Generic[S]):
    """One change of `subject`. `text` is its JSON, `rich` the same with the store's revisions, for our own clients."""

    revision: int
    subject: S
    text: str
    rich: str


class History(Generic[S]):
    """Every event after revision `floor`, in order. One revision may bear several (leases that end together)."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self._events: list[Event[S]] = []
        self._revisions: list[int] = []
        self._bytes = 0

    def add(self, event: Event[S]) -> None:
        """An event younger than all before it. One that is known is passed over: a watch may tell it twice."""
        if event.revision < self.newest or any(event == old for old in self._of(event.revision)):
            return
        self._events.append(event)
        self._revisions.append(event.revision)
        self._bytes += _bytes(event)
        if len(self._events) >= 2 * MOST or self._bytes > MOST_BYTES:
            self._cut()

    def before(self, floor: int, events: Sequence[Event[S]]) -> None:
        """Extends it backwards: `events` are all between `floor` and the present floor."""
        self._events[:0] = events
        self._revisions[:0] = [event.revision for event in events]
        self.floor = floor
        self._bytes += sum(map(_bytes, events))
        if len(self._events) > MOST or self._bytes > MOST_BYTES:
            self._cut()

    @property
    def newest(self) -> int:
        """The revision of the last event, or the floor."""
        return self._revisions[-1] if self._revisions else self.floor

    def after(self, cursor: int, subject: S | None = None, *, most: int = 1) -> list[Event[S]]:
        """The first `most` events after `cursor` (of `subject` alone if given), fewer where they are large, and those
        that share the revision of the last of them: a client's next cursor must not step over one. `cursor` is not
        below the floor."""
        found: list[Event[S]] = []
        size = 0
        for event in islice(self._events, bisect_right(self._revisions, cursor), None):
            if subject is not None and event.subject != subject:
                continue
            size += len(event.rich)
            if found and (len(found) >= most or size > ANSWER_BYTES) and event.revision != found[-1].revision:
                break
            found.append(event)
        return found

    def behind(self, cursor: int) -> int:
        """How many events there are after `cursor`."""
        return len(self._revisions) - bisect_right(self._revisions, cursor)

    def _of(self, revision: int) -> list[Event[S]]:
        return [event for event in self._events[-100:] if event.revision == revision]

    def _cut(self) -> None:
        """Forgets the oldest, down to MOST and half of MOST_BYTES; all events of one revision go together."""
        size, at = self._bytes, 0
        for event in self._events:
            if len(self._events) - at <= MOST and size <= MOST_BYTES // 2:
                break
            size -= _bytes(event)
            at += 1
        at = bisect_right(self._revisions, self._revisions[at - 1])
        self.floor = self._revisions[at - 1]
        self._bytes -= sum(map(_bytes, self._events[:at]))
        del self._events[:at], self._revisions[:at]


def _bytes(event: Event[S]) -> int:
    return len(event.text) + len(event.rich)
