"""What a backend is: a set of pure functions from (lease, peers, place) to kernel objects, without effects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from flannel_multi.model.claims import Claim
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_worker.backends.uplink import Uplink
from flannel_worker.kernel.objects import KernelObject, LinkState, OwnLink, Scope


class Place(NamedTuple):
    """Where a network stands on this host: the uplink, and the own device if the backend has one."""

    uplink: Uplink
    link: LinkState | None
    runs_bpf: bool = False  # a tunnel's packets go through the kernel itself, from peers that do so too


class TunnelSpec(NamedTuple):
    """What carries a network's packets where the kernel does not: datagrams between `port` here, on the uplink's
    `address`, and `port` of every peer. `offload`: large packets go through in one piece where the kernel can.
    `verify_source`: what a peer sends must come from its own subnet. `data_path`: "user", "bpf", or "auto", which is
    bpf where that works; `xdp`: it receives in the uplink's driver."""

    uplink: int  # ifindex
    address: int
    port: int
    offload: bool
    verify_source: bool
    data_path: str = "user"
    xdp: bool = False


class Hop(NamedTuple):
    """The host that a peer's subnet is behind. `runs_bpf`: its lease says that its kernel takes part."""

    address: int
    runs_bpf: bool = False


class PeerSkipped(Exception):
    """This one peer cannot be reached by this backend. The text is one line, without the peer's subnet."""


class Backend(Protocol):
    """One network's backend, made from its config by `choose.backend_for`."""

    @property
    def kind(self) -> str:
        """`alloc`, `host-gw`, `udp` or `vxlan`."""

    @property
    def watches_peers(self) -> bool:
        """False when leases of others ask for nothing on this host."""

    def check(self, uplink: Uplink) -> None:
        """Raises ConfigError when this backend cannot work on `uplink`."""

    def claims(self) -> tuple[Claim, ...]:
        """What the backend needs of the host for itself alone."""

    def device_name(self) -> str:
        """The own device, "" when there is none or the kernel names it."""

    def link(self, uplink: Uplink, *, network: str, mac: bytes) -> OwnLink | None:
        """The own device as it should be. `network` names it to people, `mac` is used if it has to be made."""

    def tunnel(self, uplink: Uplink) -> TunnelSpec | None:
        """What moves the packets of a TUN device, None for any other."""

    def new_mac(self, there: LinkState | None, six: bytes) -> bytes:
        """The MAC for an own device when none is remembered: by what stands `there` under its name, or by `six` random
        bytes. b"" without a device."""

    def attrs(self, place: Place) -> LeaseAttrs:
        """What this host publishes in its lease."""

    def mtu(self, place: Place) -> int:
        """FLANNEL_MTU, in bytes."""

    def own(self, subnet: Subnet, place: Place) -> tuple[KernelObject, ...]:
        """What should exist for the own lease."""

    def peer(self, record: LeaseRecord, place: Place, *, nexthops: bool) -> tuple[KernelObject, ...]:
        """What should exist for one peer, in the order of creation. Raises PeerSkipped.

        `nexthops`: the route goes through a nexthop object of its own.
        """

    def scope(self, network: Subnet, leased: Iterable[Subnet], place: Place) -> Scope:
        """What existing kernel objects count as this network's."""
