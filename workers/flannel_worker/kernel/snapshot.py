"""What exists in the kernel within a scope, as the objects that plans are made of.

Only what can be ours is asked for, by the kernel's own filters: on a host of fifty networks a dump of everything
would be fifty times too much. The rules of what counts as ours are `Scope`'s.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from flannel_multi.model.subnet import mask_of
from flannel_worker.kernel import sysctls, wire
from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.frame import Buffer, messages
from flannel_worker.kernel.host import HostAddress
from flannel_worker.kernel.linkwire import ask_addresses, parse_address
from flannel_worker.kernel.objects import (
    RT_PROTOCOL,
    Address,
    FdbEntry,
    KernelObject,
    Key,
    Neighbour,
    Nexthop,
    Route,
    Scope,
    Sysctl,
    nexthop_id,
)
from flannel_worker.kernel.refusal import refused
from flannel_worker.kernel.requests import Refusal, Requests
from flannel_worker.kernel.seen import (
    EntrySeen,
    NexthopSeen,
    RouteSeen,
    read_fdb,
    read_neighbours,
    read_nexthops,
    read_routes,
)

_T = TypeVar("_T")
Objects = Mapping[Key, KernelObject]


class Snapshot(NamedTuple):
    """`extra`: routes that stand beside another of the same key."""

    have: dict[Key, KernelObject]
    extra: list[KernelObject]


async def take(requests: Requests, wanted: Objects, scope: Scope, *, sweep: bool, nexthops: bool) -> Snapshot:
    """Everything in `scope`, and what stands under a wanted key as far as that shows.

    `sweep` looks for what bears our mark on any device, `nexthops` says that the kernel has such objects. Raises
    KernelRefused. Yields to the loop between dumps.
    """
    snapshot = Snapshot({key: sysctls.standing(item) for key, item in wanted.items() if isinstance(item, Sysctl)}, [])
    device, have = scope.device, snapshot.have
    if device:
        addresses = dump(requests, k.RTM_GETADDR, ask_addresses(device), read_addresses)
        _take_addresses(have, addresses, wanted, scope)
        _take_fdb(have, dump(requests, k.RTM_GETNEIGH, wire.ask_fdb(device), read_fdb))
        await asyncio.sleep(0)
        _take_neighbours(have, dump(requests, k.RTM_GETNEIGH, wire.ask_neighbours(device), read_neighbours))
        await asyncio.sleep(0)
    if nexthops:
        asks = [wire.ask_nexthops()] if sweep else [wire.ask_nexthops(link) for link in _links_of_nexthops(scope)]
        for ask in asks:
            _take_nexthops(have, dump(requests, k.RTM_GETNEXTHOP, ask, read_nexthops), scope)
        await asyncio.sleep(0)
    for ask in _route_questions(scope, sweep=sweep):
        _take_routes(snapshot, dump(requests, k.RTM_GETROUTE, ask, read_routes), wanted, scope)
        await asyncio.sleep(0)
    return snapshot


def dump(requests: Requests, kind: int, body: bytes, read: Callable[[Buffer], list[_T]]) -> list[_T]:
    """All entries of a dump. Raises KernelRefused; no device of that index is no entries."""
    found = requests.dump(kind, body, read)
    if isinstance(found, Refusal):
        if found.errno == errno.ENODEV:
            return []
        raise refused(f"reading the kernel's tables (message type {kind})", found)
    return found


def read_addresses(data: Buffer) -> list[HostAddress]:
    seen = (parse_address(data, m.start, m.end) for m in messages(data) if m.kind == k.RTM_NEWADDR)
    return [address for address in seen if address is not None]


def uses_uplink(scope: Scope) -> bool:
    """True when routes of ours may go by the uplink itself."""
    return scope.device == 0 or bool(scope.leased)


def holds(scope: Scope, address: int) -> bool:
    base, length = scope.within
    return address & mask_of(length) == base


def _links_of_nexthops(scope: Scope) -> list[int]:
    links = [scope.device] if scope.device else []
    return [*links, scope.uplink] if uses_uplink(scope) and scope.uplink else links


def _route_questions(scope: Scope, *, sweep: bool) -> list[bytes]:
    """Dump requests that together show the scope, with as few foreign routes as the kernel's filters allow."""
    if scope.leased:
        return [wire.ask_routes()]
    asks = [wire.ask_routes(link=scope.device)] if scope.device else []
    if sweep or not scope.device:
        asks.append(wire.ask_routes(protocol=RT_PROTOCOL))
    return asks


def _take_addresses(have: dict[Key, KernelObject], seen: Iterable[HostAddress], wanted: Objects, scope: Scope) -> None:
    for link, address, length, _ in seen:
        key = (Address, link, address, length)
        if link == scope.device and (holds(scope, address) or key in wanted):
            have[key] = Address(link, address, length)


def _take_neighbours(have: dict[Key, KernelObject], seen: Iterable[EntrySeen]) -> None:
    for link, mac, address, state, _ in seen:
        if state & k.NUD_NOARP or not address:  # multicast groups: the kernel's own
            continue
        have[Neighbour, link, address] = Neighbour(link, address, mac if state & k.NUD_PERMANENT else b"")


def _take_fdb(have: dict[Key, KernelObject], seen: Iterable[EntrySeen]) -> None:
    for link, mac, dst, state, plain in seen:
        if not state & (k.NUD_PERMANENT | k.NUD_NOARP):  # learned: comes and goes by itself
            continue
        have[FdbEntry, link, mac] = FdbEntry(link, mac, dst if plain and state & k.NUD_PERMANENT else 0)


def _take_nexthops(have: dict[Key, KernelObject], seen: Iterable[NexthopSeen], scope: Scope) -> None:
    lowest, highest = nexthop_range(scope)
    for number, link, gateway, onlink, protocol in seen:
        if protocol == RT_PROTOCOL and lowest <= number <= highest:
            have[Nexthop, number] = Nexthop(number, link, gateway, onlink)


def nexthop_range(scope: Scope) -> tuple[int, int]:
    """The ids that this network's nexthop objects can have."""
    base, length = scope.within
    return nexthop_id(base), nexthop_id(base | ~mask_of(length) & 0xFFFFFFFF)


def _take_routes(snapshot: Snapshot, seen: Iterable[RouteSeen], wanted: Objects, scope: Scope) -> None:
    have, extra = snapshot
    device, (base, length) = scope.device, scope.within
    mask = mask_of(length)
    for route in seen:
        on_device = route[2] == device and device
        marked = on_device or (route[6] == RT_PROTOCOL and route[0] & mask == base)
        if not marked and not left_by_flannel(route, scope):
            continue
        if route[8] or route[9] or route[11] != k.RT_TABLE_MAIN:  # a metric or TOS: none that we would make
            continue
        key = (Route, route[0], route[1])
        item = as_route(route, wanted.get(key))
        other = have.setdefault(key, item)
        if other is not item and other != item:
            fits = item == wanted.get(key)
            have[key], spare = (item, other) if fits else (other, item)
            extra.append(spare)


def left_by_flannel(route: RouteSeen, scope: Scope) -> bool:
    """Real flannel's route for this network by the uplink (spec §0)."""
    if route.protocol != k.RTPROT_BOOT or (route.dst, route.length) not in scope.leased:
        return False
    return route.kind == k.RTN_BLACKHOLE or (route.kind == k.RTN_UNICAST and route.link == scope.uplink)


def as_route(seen: RouteSeen, want: KernelObject | None) -> Route:
    """The seen route as an object.

    Through a nexthop object it is as wanted when the id is: gateway and device are that object's own, and the kernel
    may leave them out (sysctl nexthop_compat_mode).
    """
    if isinstance(want, Route) and want.nexthop and (seen.nexthop, seen.protocol) == (want.nexthop, want.protocol):
        return want
    if seen.kind != k.RTN_UNICAST:
        return Route(seen.dst, seen.length, 0, 0, protocol=seen.protocol)
    return Route(*seen[:7])
