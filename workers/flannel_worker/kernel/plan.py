"""The difference between what should exist and what does, as changes of which any prefix is safe.

Two rules. A route never stands without what it points through (its nexthop, its neighbour, the FDB entry behind
that), so these are put before it and dropped after it. And an object whose value differs under the same key is one
put, which the kernel applies as a replace: no moment without a route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from flannel_worker.kernel.objects import Address, FdbEntry, KernelObject, Key, Neighbour, Nexthop, Route, Sysctl

_ORDER: tuple[type[KernelObject], ...] = (Sysctl, Address, FdbEntry, Neighbour, Nexthop, Route)
_RANK = {kind: rank for rank, kind in enumerate(_ORDER)}


class Put(NamedTuple):
    """Create the object, or replace what stands under its key."""

    object: KernelObject


class Drop(NamedTuple):
    object: KernelObject


Change = Put | Drop


def key_of(item: KernelObject) -> Key:
    """What the kernel tells objects apart by: two objects of one key cannot stand side by side."""
    match item:
        case Sysctl(name):
            return (Sysctl, name)
        case Address(link, address, length):
            return (Address, link, address, length)
        case Neighbour(link, address):
            return (Neighbour, link, address)
        case FdbEntry(link, mac):
            return (FdbEntry, link, mac)
        case Nexthop(number):
            return (Nexthop, number)
        case Route(dst, length):
            return (Route, dst, length)


def build_order(item: KernelObject) -> int:
    """Lower is built earlier and dropped later."""
    return _RANK[type(item)]


def plan(want: Mapping[Key, KernelObject], have: Mapping[Key, KernelObject]) -> list[Change]:
    """Changes that turn `have` into `want`.

    All puts come before all drops: a route that moves from one gateway to another finds the new neighbour in place
    before it is replaced, and the old neighbour goes only then. A sysctl is set, never dropped.
    """
    put = sorted((item for key, item in want.items() if have.get(key) != item), key=build_order)
    drop = sorted(
        (item for key, item in have.items() if key not in want and not isinstance(item, Sysctl)),
        key=build_order,
        reverse=True,
    )
    return [*map(Put, put), *map(Drop, drop)]
