"""What a host looks like from the main routing table: the values that interface choice and clash checks read.

IPv4 only; everything in the order in which the kernel lists it.
"""

from __future__ import annotations

from typing import NamedTuple


class VxlanConfig(NamedTuple):
    """What cannot be changed on a vxlan device without a new one. `group`: a default destination. `ipv6`: its outer
    packets are IPv6, so that it has a socket of its own."""

    vni: int
    lower: int
    local: int
    port: int
    learning: bool
    gbp: bool
    l2miss: bool = False
    external: bool = False
    group: int = 0
    ipv6: bool = False


class HostLink(NamedTuple):
    """`kind` as in `ip -d link` ("vxlan", "bridge", "" for hardware); `vxlan` only for that kind."""

    ifindex: int
    name: str
    mtu: int
    up: bool
    kind: str = ""
    alias: str = ""
    vxlan: VxlanConfig | None = None


class HostAddress(NamedTuple):
    """`deprecated`: its preferred lifetime is over."""

    link: int
    address: int
    length: int
    deprecated: bool = False


class HostRoute(NamedTuple):
    """`link` 0: none, or several next hops. `gateway` 0: none; 255.255.255.255: one that is no IPv4 address.
    `kind` is an RTN_* number."""

    dst: int
    length: int
    link: int
    gateway: int
    protocol: int
    kind: int
    metric: int
    prefsrc: int = 0


class HostView(NamedTuple):
    """Links, addresses and the routes of the main table, without those that bear our mark (RT_PROTOCOL): a host may
    have tens of thousands of them, and nobody who reads a view asks for one."""

    links: tuple[HostLink, ...]
    addresses: tuple[HostAddress, ...]
    routes: tuple[HostRoute, ...]
