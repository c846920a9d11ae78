"""The difference between what should exist and what does, as changes of which any prefix is safe.

Two rules. A route never stands without what it points through (its nexthop, its neighbour, the FDB entry behind
that), so these are put before it and dropped after it. And an object whose value differs under the same key is one
put, which the kernel applies as a replace: no moment without a route.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from flannel_multi.model.subnet import format_ip
from flannel_worker.kernel.objects import (
    RT_PROTOCOL,
    Address,
    FdbEntry,
    KernelObject,
    Key,
    Neighbour,
    Nexthop,
    Route,
    Sysctl,
)
from flannel_worker.kernel.uapi import RTPROT_BOOT

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


def plan(
    want: Mapping[Key, KernelObject], have: Mapping[Key, KernelObject], extra: Iterable[KernelObject] = ()
) -> list[Change]:
    """Changes that turn `have` into `want`.

    All puts come before all drops: a route that moves from one gateway to another finds the new neighbour in place
    before it is replaced, and the old neighbour goes only then. A sysctl is set, never dropped. `extra` are objects
    that stand beside one of the same key and have to go (two routes to one place).
    """
    put = [item for key, item in want.items() if have.get(key) != item]
    drop = [item for key, item in have.items() if key not in want and not isinstance(item, Sysctl)]
    return _in_order(put, [*drop, *extra])


def displaced(changes: Iterable[Change], have: Mapping[Key, KernelObject]) -> Iterator[str]:
    """A line for each route of somebody else that `changes` replaces or drops, since a lease asks for its place."""
    for change in changes:
        there = have.get(key_of(change.object)) if isinstance(change, Put) else change.object
        if not isinstance(there, Route) or there.protocol in (RT_PROTOCOL, RTPROT_BOOT):
            continue  # ours, or what real flannel leaves
        via = f" via {format_ip(there.gateway)}" if there.gateway else ""
        yield f"the host's route {format_ip(there.dst)}/{there.length}{via} gave way to the lease of that subnet"


def plan_missing(want: Mapping[Key, KernelObject], have: Mapping[Key, KernelObject]) -> list[Change]:
    """Changes that add what does not exist; nothing is replaced or dropped."""
    return _in_order([item for key, item in want.items() if key not in have], [])


def plan_keys(want: Mapping[Key, KernelObject], keys: Iterable[Key]) -> list[Change]:
    """Changes that bring the objects under `keys` to what `want` says, whatever exists."""
    put: list[KernelObject] = []
    drop: list[KernelObject] = []
    for key in keys:
        item = want.get(key)
        if item is not None:
            put.append(item)
        elif (gone := named_by(key)) is not None:
            drop.append(gone)
    return _in_order(put, drop)


def _in_order(put: list[KernelObject], drop: list[KernelObject]) -> list[Change]:
    put.sort(key=build_order)
    drop.sort(key=build_order, reverse=True)
    return [*map(Put, put), *map(Drop, drop)]


def named_by(key: Key) -> KernelObject | None:
    """The least object of that key, enough to drop it by; None for a sysctl, which is never dropped."""
    match key:
        case (kind, int(link), int(address), int(length)) if kind is Address:
            return Address(link, address, length)
        case (kind, int(link), int(address)) if kind is Neighbour:
            return Neighbour(link, address, b"")
        case (kind, int(link), bytes(mac)) if kind is FdbEntry:
            return FdbEntry(link, mac, 0)
        case (kind, int(number)) if kind is Nexthop:
            return Nexthop(number, 0, 0, False)
        case (kind, int(dst), int(length)) if kind is Route:
            return Route(dst, length, 0, 0)
    return None
