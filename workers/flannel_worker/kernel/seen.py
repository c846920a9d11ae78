"""What the kernel tells, as values: routes, neighbours, forwarding entries and nexthop objects.

A dump's datagram is read as rows of one layout, which is what the kernel sends for objects that we made; a datagram
with any other row goes through the general walker. Both give the same values. Readers never raise.
"""

from __future__ import annotations

import struct
from socket import ntohl
from typing import NamedTuple

from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.frame import (
    HEADER,
    NDMSG,
    NHMSG,
    RTMSG,
    U16_U16,
    U32,
    Buffer,
    attributes,
    messages,
    net32,
    u32,
)
from flannel_worker.kernel.objects import Route

NO_IPV4 = 0xFFFFFFFF  # as a gateway: there is one, of another family
_new = tuple.__new__


class RouteSeen(NamedTuple):
    """A route as the kernel tells it; the first seven fields are those of `Route`. `kind` is an RTN_* number."""

    dst: int
    length: int
    link: int
    gateway: int
    onlink: bool
    nexthop: int
    protocol: int
    kind: int = k.RTN_UNICAST
    metric: int = 0
    tos: int = 0
    prefsrc: int = 0
    table: int = k.RT_TABLE_MAIN

    def route(self) -> Route:
        return Route(*self[:7])


class EntrySeen(NamedTuple):
    """A neighbour or FDB entry. `dst` 0, `mac` empty: not told. `plain` False: an FDB entry with a port, VNI or
    interface of its own, which is none that we would write."""

    link: int
    mac: bytes
    dst: int
    state: int
    plain: bool = True


class NexthopSeen(NamedTuple):
    id: int
    link: int
    gateway: int
    onlink: bool
    protocol: int


# -- decoding: one message -------------------------------------------------------------------------------------------


def parse_route(data: Buffer, start: int, end: int) -> RouteSeen | None:
    """None for what is no IPv4 route, or a cached one. Several next hops: link and gateway 0."""
    if end - start < 12:
        return None
    family, length, _, tos, table, protocol, _, kind, flags = RTMSG.unpack_from(data, start)
    if family != k.AF_INET or length > 32 or flags & k.RTM_F_CLONED:
        return None
    found = attributes(data, start + 12, end)
    return RouteSeen(
        net32(found.get(k.RTA_DST)),
        length,
        u32(found.get(k.RTA_OIF)),
        net32(found.get(k.RTA_GATEWAY)) or (NO_IPV4 if k.RTA_VIA in found else 0),
        bool(flags & k.RTNH_F_ONLINK),
        u32(found.get(k.RTA_NH_ID)),
        protocol,
        kind,
        u32(found.get(k.RTA_PRIORITY)),
        tos,
        net32(found.get(k.RTA_PREFSRC)),
        u32(found.get(k.RTA_TABLE)) or table,
    )


def parse_entry(data: Buffer, start: int, end: int, family: int) -> EntrySeen | None:
    """A neighbour (`family` AF_INET) or an FDB entry (AF_BRIDGE); None for another family."""
    if end - start < 12:
        return None
    seen_family, link, state, _, _ = NDMSG.unpack_from(data, start)
    if seen_family != family:
        return None
    found = attributes(data, start + 12, end)
    mac = found.get(k.NDA_LLADDR, b"")
    plain = found.keys().isdisjoint(_OF_ITS_OWN) if family == k.AF_BRIDGE else True
    return EntrySeen(link, mac if len(mac) == 6 else b"", net32(found.get(k.NDA_DST)), state, plain)


_OF_ITS_OWN = frozenset((k.NDA_PORT, k.NDA_VNI, k.NDA_IFINDEX, k.NDA_SRC_VNI, k.NDA_NH_ID))


def parse_nexthop(data: Buffer, start: int, end: int) -> NexthopSeen | None:
    """None for what is no single IPv4 next hop by a gateway."""
    if end - start < 8:
        return None
    family, _, protocol, _, flags = NHMSG.unpack_from(data, start)
    found = attributes(data, start + 8, end)
    number = u32(found.get(k.NHA_ID))
    if not number or family not in (0, k.AF_INET):
        return None
    link, gateway = u32(found.get(k.NHA_OIF)), net32(found.get(k.NHA_GATEWAY))
    return NexthopSeen(number, link, gateway, bool(flags & k.RTNH_F_ONLINK), protocol)


# -- decoding: dumps -------------------------------------------------------------------------------------------------


def _pair(length: int, kind: int) -> int:
    """An attribute's header as one number, as `I` reads it."""
    return int(U32.unpack(U16_U16.pack(length, kind))[0])


_A_TABLE, _A_DST, _A_GATEWAY = _pair(8, k.RTA_TABLE), _pair(8, k.RTA_DST), _pair(8, k.RTA_GATEWAY)
_A_OIF, _A_NH_ID = _pair(8, k.RTA_OIF), _pair(8, k.RTA_NH_ID)
_N_DST, _N_LLADDR, _N_PROBES = _pair(8, k.NDA_DST), _pair(10, k.NDA_LLADDR), _pair(8, k.NDA_PROBES)
_N_CACHEINFO = _pair(20, k.NDA_CACHEINFO)
_H_ID, _H_OIF, _H_GATEWAY = _pair(8, k.NHA_ID), _pair(8, k.NHA_OIF), _pair(8, k.NHA_GATEWAY)
# length, type; family, destination length, tos, protocol, type, flags; then (attribute, value) pairs
_ROUTE_ROW = struct.Struct("=IH10xBBxBxBxBI" + "II" * 4)
_ROUTE_ID_ROW = struct.Struct("=IH10xBBxBxBxBI" + "II" * 5)
_NEIGHBOUR_ROW = struct.Struct("=IH10xBxxxiHxxIII6sxxI4xI16x")
_FDB_ROW = struct.Struct("=IH10xBxxxiHxxI6sxxIII16x")
_NEXTHOP_ROW = struct.Struct("=IH10xBxBxI" + "II" * 3)


def read_routes(data: Buffer) -> list[RouteSeen]:
    """The routes of a dump's datagram, of the main table and others."""
    size = len(data)
    if size >= 16:
        first = HEADER.unpack_from(data)[0]
        if first == 60 and size % 60 == 0:
            rows = _plain_routes(data)
        elif first == 68 and size % 68 == 0:
            rows = _routes_by_id(data)
        else:
            rows = None
        if rows is not None:
            return rows
    seen = (parse_route(data, m.start, m.end) for m in messages(data) if m.kind == k.RTM_NEWROUTE)
    return [route for route in seen if route is not None]


def _plain_routes(data: Buffer) -> list[RouteSeen] | None:
    found = []
    inet, unicast, main, new, seen = k.AF_INET, k.RTN_UNICAST, k.RT_TABLE_MAIN, k.RTM_NEWROUTE, RouteSeen
    for size, msg, family, length, tos, protocol, kind, flags, a, table, b, dst, c, gateway, d, link in (
        _ROUTE_ROW.iter_unpack(data)
    ):  # fmt: skip
        if size != 60 or msg != new or family != inet or a != _A_TABLE or b != _A_DST or c != _A_GATEWAY or d != _A_OIF:
            return None
        if kind != unicast or tos or table != main or length > 32 or flags & k.RTM_F_CLONED:
            return None
        onlink = flags & k.RTNH_F_ONLINK != 0
        found.append(
            _new(seen, (ntohl(dst), length, link, ntohl(gateway), onlink, 0, protocol, unicast, 0, 0, 0, main))
        )
    return found


def _routes_by_id(data: Buffer) -> list[RouteSeen] | None:
    found = []
    inet, unicast, main, new, seen = k.AF_INET, k.RTN_UNICAST, k.RT_TABLE_MAIN, k.RTM_NEWROUTE, RouteSeen
    for size, msg, family, length, tos, protocol, kind, flags, a, table, b, dst, e, by, c, gateway, d, link in (
        _ROUTE_ID_ROW.iter_unpack(data)
    ):  # fmt: skip
        if size != 68 or msg != new or family != inet or a != _A_TABLE or b != _A_DST or c != _A_GATEWAY or d != _A_OIF:
            return None
        if e != _A_NH_ID or kind != unicast or tos or table != main or length > 32 or flags & k.RTM_F_CLONED:
            return None
        onlink = flags & k.RTNH_F_ONLINK != 0
        found.append(
            _new(seen, (ntohl(dst), length, link, ntohl(gateway), onlink, by, protocol, unicast, 0, 0, 0, main))
        )
    return found


def read_neighbours(data: Buffer) -> list[EntrySeen]:
    """The IPv4 neighbours of a dump's datagram."""
    rows = _neighbour_rows(data) if len(data) % _NEIGHBOUR_ROW.size == 0 else None
    return rows if rows is not None else _entries(data, k.AF_INET)


def read_fdb(data: Buffer) -> list[EntrySeen]:
    """The forwarding entries of a dump's datagram."""
    rows = _fdb_rows(data) if len(data) % _FDB_ROW.size == 0 else None
    return rows if rows is not None else _entries(data, k.AF_BRIDGE)


def _neighbour_rows(data: Buffer) -> list[EntrySeen] | None:
    found = []
    inet, new = k.AF_INET, k.RTM_NEWNEIGH
    for size, msg, family, link, state, a, dst, b, mac, c, d in _NEIGHBOUR_ROW.iter_unpack(data):
        if size != 76 or msg != new or family != inet or a != _N_DST or b != _N_LLADDR or c != _N_PROBES:
            return None
        if d != _N_CACHEINFO:
            return None
        found.append(_new(EntrySeen, (link, mac, ntohl(dst), state, True)))
    return found


def _fdb_rows(data: Buffer) -> list[EntrySeen] | None:
    found = []
    bridge, new = k.AF_BRIDGE, k.RTM_NEWNEIGH
    for size, msg, family, link, state, a, mac, b, dst, c in _FDB_ROW.iter_unpack(data):
        if size != 68 or msg != new or family != bridge or a != _N_LLADDR or b != _N_DST or c != _N_CACHEINFO:
            return None
        found.append(_new(EntrySeen, (link, mac, ntohl(dst), state, True)))
    return found


def _entries(data: Buffer, family: int) -> list[EntrySeen]:
    seen = (parse_entry(data, m.start, m.end, family) for m in messages(data) if m.kind == k.RTM_NEWNEIGH)
    return [entry for entry in seen if entry is not None]


def read_nexthops(data: Buffer) -> list[NexthopSeen]:
    """The IPv4 nexthop objects of a dump's datagram."""
    rows = _nexthop_rows(data) if len(data) % _NEXTHOP_ROW.size == 0 else None
    if rows is not None:
        return rows
    seen = (parse_nexthop(data, m.start, m.end) for m in messages(data) if m.kind == k.RTM_NEWNEXTHOP)
    return [nexthop for nexthop in seen if nexthop is not None]


def _nexthop_rows(data: Buffer) -> list[NexthopSeen] | None:
    found = []
    inet, new = k.AF_INET, k.RTM_NEWNEXTHOP
    for size, msg, family, protocol, flags, a, number, b, link, c, gateway in _NEXTHOP_ROW.iter_unpack(data):
        if size != 48 or msg != new or family != inet or a != _H_ID or b != _H_OIF or c != _H_GATEWAY or not number:
            return None
        found.append(_new(NexthopSeen, (number, link, ntohl(gateway), flags & k.RTNH_F_ONLINK != 0, protocol)))
    return found
