"""What should exist, as a union of groups: one for each peer, one for the network's own.

Two groups may want the same key: a host that got a second subnet while its first lease still lives has one VTEP MAC
in two leases (flannel behaviour §7.3). The object stays until the last of them goes, and where they differ the
higher rank wins, so that what is wanted does not depend on the order of events.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping

from flannel_worker.kernel.objects import KernelObject, Key
from flannel_worker.kernel.plan import key_of


class Wanted:
    """The union; `put` and `drop` return the keys whose wanted object may have changed."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, tuple[Key, ...]] = {}
        self._objects: dict[Key, KernelObject] = {}
        self._ranks: dict[Hashable, int] = {}
        self._shared: dict[Key, dict[Hashable, KernelObject]] = {}  # only keys that two groups want: few
        self._owner: dict[Key, Hashable] = {}

    def put(self, group: Hashable, objects: Iterable[KernelObject], rank: int = 0) -> set[Key]:
        """Replaces what `group` wants."""
        fresh = {key_of(item): item for item in objects}
        touched = self.drop(group)
        self._groups[group], self._ranks[group] = tuple(fresh), rank
        for key, item in fresh.items():
            owner = self._owner.get(key)
            if owner is None:
                self._owner[key], self._objects[key] = group, item
            else:
                bids = self._shared.setdefault(key, {owner: self._objects[key]})
                bids[group] = item
                self._settle(key, bids)
        return touched | fresh.keys()

    def drop(self, group: Hashable) -> set[Key]:
        """Forgets what `group` wants; what another group wants too stays."""
        keys = self._groups.pop(group, ())
        self._ranks.pop(group, None)
        for key in keys:
            bids = self._shared.get(key)
            if bids is None:
                del self._owner[key], self._objects[key]
                continue
            del bids[group]
            self._settle(key, bids)
            if len(bids) == 1:
                del self._shared[key]
        return set(keys)

    def objects(self) -> Mapping[Key, KernelObject]:
        """Every wanted object by its key. A live view: do not change it."""
        return self._objects

    def contested(self, keys: Iterable[Key]) -> Iterator[tuple[Key, list[Hashable]]]:
        """Those of `keys` that groups want with different values, and the groups, the one that prevails first."""
        for key in keys:
            bids = self._shared.get(key, {})
            if len(set(bids.values())) > 1:
                yield key, sorted(bids, key=lambda group: group != self._owner[key])

    def _settle(self, key: Key, bids: dict[Hashable, KernelObject]) -> None:
        winner = max(bids, key=lambda group: (self._ranks[group], str(group)))
        self._owner[key], self._objects[key] = winner, bids[winner]
