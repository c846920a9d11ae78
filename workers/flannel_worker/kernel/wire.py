"""What we say to the kernel, as bytes: the objects that come by the thousand, and the questions about them.

One `Struct.pack` a message (0.5 µs; a message library takes 100 to 200, and its import 13 MB). The tests hold these
bytes against pyroute2's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from socket import htonl
from typing import Any

from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.frame import IFADDRMSG, NDMSG, NHMSG, RTMSG, U32, attribute, message
from flannel_worker.kernel.objects import (
    RT_PROTOCOL,
    Address,
    FdbEntry,
    KernelObject,
    Neighbour,
    Nexthop,
    Route,
)

_PUT = k.NLM_F_REQUEST | k.NLM_F_CREATE | k.NLM_F_REPLACE
_DROP = k.NLM_F_REQUEST
_VIA = struct.Struct("=IHHII8BI" + "HHI" * 3)  # a route by gateway and device
_BY_ID = struct.Struct("=IHHII8BI" + "HHI" * 2)  # a route through a nexthop object
_NEIGHBOUR = struct.Struct("=IHHIIBxxxiHBBHHIHH6sxx")
_FDB = struct.Struct("=IHHIIBxxxiHBBHH6sxxHHI")
_NEXTHOP = struct.Struct("=IHHIIBBBBIHHIHHIHHI")


def _put_route(item: Route, sequence: int) -> bytes:
    dst, length, link, gateway, onlink, nexthop, protocol = item
    if nexthop:
        return _BY_ID.pack(
            44, k.RTM_NEWROUTE, _PUT, sequence, 0,
            k.AF_INET, length, 0, 0, k.RT_TABLE_MAIN, protocol, k.RT_SCOPE_UNIVERSE, k.RTN_UNICAST, 0,
            8, k.RTA_DST, htonl(dst), 8, k.RTA_NH_ID, nexthop,
        )  # fmt: skip
    if not (gateway and link):
        return _odd_route(item, sequence)
    return _VIA.pack(
        52, k.RTM_NEWROUTE, _PUT, sequence, 0,
        k.AF_INET, length, 0, 0, k.RT_TABLE_MAIN, protocol, k.RT_SCOPE_UNIVERSE, k.RTN_UNICAST,
        k.RTNH_F_ONLINK if onlink else 0,
        8, k.RTA_DST, htonl(dst), 8, k.RTA_GATEWAY, htonl(gateway), 8, k.RTA_OIF, link,
    )  # fmt: skip


def _odd_route(item: Route, sequence: int) -> bytes:
    """A route without gateway or without device (the kernel looks it up)."""
    onlink = k.RTNH_F_ONLINK if item.onlink else 0
    body = RTMSG.pack(
        k.AF_INET, item.length, 0, 0, k.RT_TABLE_MAIN, item.protocol, k.RT_SCOPE_UNIVERSE, k.RTN_UNICAST, onlink
    )  # fmt: skip
    return message(k.RTM_NEWROUTE, _PUT, body + _route_attributes(item), sequence)


def _drop_route(item: Route, sequence: int) -> bytes:
    """Names protocol and next hop as far as known, so that a stranger's route to the same place is not hit."""
    body = RTMSG.pack(k.AF_INET, item.length, 0, 0, k.RT_TABLE_MAIN, item.protocol, k.RT_SCOPE_NOWHERE, 0, 0)
    return message(k.RTM_DELROUTE, _DROP, body + _route_attributes(item), sequence)


def _route_attributes(item: Route) -> bytes:
    text = attribute(k.RTA_DST, item.dst.to_bytes(4, "big"))
    if item.nexthop:
        return text + attribute(k.RTA_NH_ID, U32.pack(item.nexthop))
    if item.gateway:
        text += attribute(k.RTA_GATEWAY, item.gateway.to_bytes(4, "big"))
    if item.link:
        text += attribute(k.RTA_OIF, U32.pack(item.link))
    return text


def _put_neighbour(item: Neighbour, sequence: int) -> bytes:
    return _NEIGHBOUR.pack(
        48, k.RTM_NEWNEIGH, _PUT, sequence, 0,
        k.AF_INET, item.link, k.NUD_PERMANENT, 0, 0,
        8, k.NDA_DST, htonl(item.address), 10, k.NDA_LLADDR, item.mac,
    )  # fmt: skip


def _drop_neighbour(item: Neighbour, sequence: int) -> bytes:
    body = NDMSG.pack(k.AF_INET, item.link, 0, 0, 0) + attribute(k.NDA_DST, item.address.to_bytes(4, "big"))
    return message(k.RTM_DELNEIGH, _DROP, body, sequence)


def _put_fdb(item: FdbEntry, sequence: int) -> bytes:
    return _FDB.pack(
        48, k.RTM_NEWNEIGH, _PUT, sequence, 0,
        k.AF_BRIDGE, item.link, k.NUD_PERMANENT, k.NTF_SELF, 0,
        10, k.NDA_LLADDR, item.mac, 8, k.NDA_DST, htonl(item.dst),
    )  # fmt: skip


def _drop_fdb(item: FdbEntry, sequence: int) -> bytes:
    """Without a destination: all that stands under the MAC goes."""
    body = NDMSG.pack(k.AF_BRIDGE, item.link, k.NUD_PERMANENT, k.NTF_SELF, 0) + attribute(k.NDA_LLADDR, item.mac)
    return message(k.RTM_DELNEIGH, _DROP, body, sequence)


def _put_nexthop(item: Nexthop, sequence: int) -> bytes:
    return _NEXTHOP.pack(
        48, k.RTM_NEWNEXTHOP, _PUT, sequence, 0,
        k.AF_INET, 0, RT_PROTOCOL, 0, k.RTNH_F_ONLINK if item.onlink else 0,
        8, k.NHA_ID, item.id, 8, k.NHA_OIF, item.link, 8, k.NHA_GATEWAY, htonl(item.gateway),
    )  # fmt: skip


def _drop_nexthop(item: Nexthop, sequence: int) -> bytes:
    body = NHMSG.pack(0, 0, 0, 0, 0) + attribute(k.NHA_ID, U32.pack(item.id))
    return message(k.RTM_DELNEXTHOP, _DROP, body, sequence)


def _address(item: Address) -> bytes:
    value = item.address.to_bytes(4, "big")
    body = IFADDRMSG.pack(k.AF_INET, item.length, 0, 0, item.link)
    return body + attribute(k.IFA_LOCAL, value) + attribute(k.IFA_ADDRESS, value)


def _put_address(item: Address, sequence: int) -> bytes:
    return message(k.RTM_NEWADDR, _PUT, _address(item), sequence)


def _drop_address(item: Address, sequence: int) -> bytes:
    return message(k.RTM_DELADDR, _DROP, _address(item), sequence)


_PUTS: dict[type[KernelObject], Callable[[Any, int], bytes]] = {
    Route: _put_route,
    Neighbour: _put_neighbour,
    FdbEntry: _put_fdb,
    Nexthop: _put_nexthop,
    Address: _put_address,
}
_DROPS: dict[type[KernelObject], Callable[[Any, int], bytes]] = {
    Route: _drop_route,
    Neighbour: _drop_neighbour,
    FdbEntry: _drop_fdb,
    Nexthop: _drop_nexthop,
    Address: _drop_address,
}


def put(item: KernelObject, sequence: int = 0) -> bytes:
    """The message that creates `item` or replaces what stands under its key. Not for a Sysctl."""
    return _PUTS[type(item)](item, sequence)


def drop(item: KernelObject, sequence: int = 0) -> bytes:
    """The message that removes `item`. Not for a Sysctl."""
    return _DROPS[type(item)](item, sequence)


# -- asking ----------------------------------------------------------------------------------------------------------


def ask_routes(*, link: int = 0, protocol: int = 0) -> bytes:
    """Body of a dump request for the main table, by device and protocol where given."""
    body = RTMSG.pack(k.AF_INET, 0, 0, 0, k.RT_TABLE_MAIN, protocol, 0, 0, 0)
    return body + (attribute(k.RTA_OIF, U32.pack(link)) if link else b"")


def ask_neighbours(link: int) -> bytes:
    return NDMSG.pack(k.AF_INET, 0, 0, 0, 0) + attribute(k.NDA_IFINDEX, U32.pack(link))


def ask_fdb(link: int) -> bytes:
    return NDMSG.pack(k.AF_BRIDGE, link, 0, 0, 0)


def ask_nexthops(link: int = 0) -> bytes:
    body = NHMSG.pack(k.AF_INET, 0, 0, 0, 0)
    return body + (attribute(k.NHA_OIF, U32.pack(link)) if link else b"")


def ask_nexthop(number: int) -> bytes:
    return NHMSG.pack(0, 0, 0, 0, 0) + attribute(k.NHA_ID, U32.pack(number))
