"""What can exist in the kernel on our behalf, as values: compared, printed, planned with, without root.

Tuples rather than dataclasses: a network of 20,000 peers makes 80,000 of them, and a tuple costs a third.
Addresses are ints of 32 bits, MACs 6 bytes, interfaces are known by index.
"""

from __future__ import annotations

from typing import NamedTuple

RT_PROTOCOL = 102  # marks routes and nexthops as ours: unassigned in iproute2's rt_protos and in FRR's range
OWN_ALIAS = "flannel network "  # begins the ifalias of every device we make; the network's name follows
NEXTHOPS_FROM = 1000  # peers: from here on routes go through nexthop objects (plain ones are quadratic in the kernel)
NEXTHOPS_UNTIL = 500  # peers: below this, back to plain routes


def nexthop_id(gateway: int) -> int:
    """The id of the nexthop object for `gateway`: from 2^30 up, one for each /30 of the address space.

    Networks of one host do not overlap, so no two claim one id, and no allocation has to survive a restart.
    """
    return 0x40000000 + (gateway >> 2)


class VxlanLink(NamedTuple):
    """A vxlan device as it should be. `mac` is used when it has to be made; a fitting device keeps its own. `alias`
    marks it as ours: OWN_ALIAS and the network's name."""

    name: str
    vni: int
    port: int
    lower: int  # ifindex of the uplink
    local: int
    mtu: int
    mac: bytes
    learning: bool = False
    gbp: bool = False
    alias: str = ""


class TunLink(NamedTuple):
    """A TUN device as it should be. `name`: what it is called if it has to be made and nobody has that name, else (and
    when "") the kernel takes the first flannel%d that is free. `queue` is in packets: what it holds while nobody reads.
    `alias` marks it as ours, and is what it is found again by."""

    name: str
    mtu: int
    queue: int
    alias: str


OwnLink = VxlanLink | TunLink


class LinkState(NamedTuple):
    """A device as it is. `queue` is told of a TUN alone, 0 for any other kind."""

    ifindex: int
    name: str
    mac: bytes
    mtu: int
    up: bool = True
    kind: str = ""
    alias: str = ""
    queue: int = 0


class Address(NamedTuple):
    link: int
    address: int
    length: int


class Neighbour(NamedTuple):
    """A permanent ARP entry. As something that exists, an empty `mac` stands for an entry that is not permanent."""

    link: int
    address: int
    mac: bytes


class FdbEntry(NamedTuple):
    """A permanent forwarding entry of a vxlan device: `mac` lives behind `dst`.

    As something that exists, `dst` 0 stands for an entry of another form (not permanent, a port of its own, ...).
    """

    link: int
    mac: bytes
    dst: int


class Nexthop(NamedTuple):
    id: int
    link: int
    gateway: int
    onlink: bool


class Route(NamedTuple):
    """A unicast route of the main table, metric 0. `nexthop` 0: by `gateway` and `link`; else through that object,
    with gateway and link as of the object. Without gateway it is of scope universe, as flannel 0.28 makes it.

    A route of real flannel differs from ours in `protocol` alone: it is replaced in place, and so bears our mark.
    """

    dst: int
    length: int
    link: int
    gateway: int
    onlink: bool = False
    nexthop: int = 0
    protocol: int = RT_PROTOCOL


class Sysctl(NamedTuple):
    """`name` with dots as slashes below /proc/sys, for example net/ipv6/conf/flannel.1/accept_ra."""

    name: str
    value: str


KernelObject = Address | Neighbour | FdbEntry | Nexthop | Route | Sysctl
Key = tuple[object, ...]


class Scope(NamedTuple):
    """What existing objects count as ours, so that the ones not wanted may be dropped (spec §0, §7).

    Everything of `device` (FDB, neighbours, routes; addresses inside `within`); routes of protocol RT_PROTOCOL
    with a destination inside `within` on any device; routes of real flannel: a destination in `leased`, on
    `uplink` or blackhole, protocol boot. 0 stands for no device.
    """

    device: int
    uplink: int
    within: tuple[int, int]  # base, length of the network
    leased: frozenset[tuple[int, int]] = frozenset()
