"""One key, changed by compare-and-set: looked at, then written or deleted if it still is as it was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flannel_multi.model.errors import KeyAbsent, StoreUnavailable
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd.gateway import Gateway
from flannel_multi.store.etcd.pairs import absent, delete_op, put_op, read_first, read_op, transact, unchanged
from flannel_multi.store.keys import Range, shown
from flannel_multi.store.listing import KeyValue

TRIES = 10  # of a change whose key others change meanwhile, as flannel


class ChangingKey:
    """`pair` is the key as last seen, None: absent; `revision` the point of history at which it was seen."""

    def __init__(self, gateway: Gateway, key: bytes, deadline: Deadline) -> None:
        self.key = key
        self.pair: KeyValue | None = None
        self.revision = 0
        self._gateway = gateway
        self._deadline = deadline

    async def look(self) -> KeyValue | None:
        """The key as it stands."""
        outcome = await read_first(self._gateway, Range(self.key), deadline=self._deadline)
        pairs = outcome.pages[0].pairs
        self.pair, self.revision = (pairs[0] if pairs else None), outcome.header.revision
        return self.pair

    async def write(self, value: bytes, *, lease_id: int | None) -> KeyValue | None:
        """The key as written on etcd lease `lease_id` (None: on the one it is on); None when it has changed.

        A key that holds just that already counts as written: the answer to our own write was lost.
        """
        outcome = await transact(
            self._gateway,
            when=[self._as_seen()],
            then=[put_op(self.key, value, lease_id=lease_id)],
            otherwise=[read_op(Range(self.key))],
            about=Range(self.key),
            deadline=self._deadline,
        )
        if lease_id is None:
            lease_id = 0 if self.pair is None else self.pair.lease_id
        if outcome.won:
            return KeyValue(self.key, value, lease_id, outcome.header.revision)
        found = outcome.pages[0].pairs
        return found[0] if found and found[0][1:3] == (value, lease_id) else None

    async def delete(self) -> int | None:
        """The revision of the deletion; None when the key has changed."""
        outcome = await transact(
            self._gateway,
            when=[self._as_seen()],
            then=[delete_op(self.key)],
            about=Range(self.key),
            deadline=self._deadline,
        )
        return outcome.header.revision if outcome.won else None

    def missing(self) -> KeyAbsent:
        """The error that says that the key is not there."""
        return KeyAbsent(self.key.decode("utf-8", "backslashreplace"), self.revision)

    def no_more_tries(self) -> StoreUnavailable:
        """The error that says that others were faster each time; it begins as flannel's own."""
        return StoreUnavailable(f"subnet: no more tries ({shown(self.key)} was changed {TRIES} times meanwhile)")

    def _as_seen(self) -> dict[str, object]:
        return absent(self.key) if self.pair is None else unchanged(self.key, self.pair.revision)


class Deleted(NamedTuple):
    """The revision of the deletion, and the pair as it was last seen."""

    revision: int
    pair: KeyValue


async def delete_key(key: ChangingKey, allow: Callable[[], object] = lambda: None) -> Deleted:
    """Deletes `key`. `allow` raises when the key as just seen must not be deleted.

    Raises KeyAbsent, StoreUnavailable, StoreRefused.
    """
    last: KeyValue | None = None
    for _ in range(TRIES):
        pair = await key.look()
        if pair is None and last is not None:
            return Deleted(key.revision, last)  # it went since: by us, with the answer lost, or by another
        if pair is None:
            raise key.missing()
        allow()
        last = pair
        revision = await key.delete()
        if revision is not None:
            return Deleted(revision, pair)
    raise key.no_more_tries()
