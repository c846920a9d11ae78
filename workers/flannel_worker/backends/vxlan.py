"""vxlan: one device, and for each peer a permanent neighbour, a forwarding entry and an onlink route (spec §7.3).

The form is that of flannel 0.28, so no packet waits for this process, and traffic goes on without it. `local` is
the interface's own address, as in 0.7: with a public IP behind NAT the other choice sends from nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flannel_multi.model.claims import Claim
from flannel_multi.model.config import NetworkConfig, flag, integer
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.shown import show
from flannel_multi.model.subnet import Subnet
from flannel_worker.backends.peers import Peers
from flannel_worker.backends.protocol import PeerSkipped, Place, TunnelSpec
from flannel_worker.backends.uplink import Uplink
from flannel_worker.kernel.objects import (
    OWN_ALIAS,
    Address,
    FdbEntry,
    KernelObject,
    LinkState,
    Neighbour,
    Scope,
    Sysctl,
    VxlanLink,
)

OVERHEAD = 50  # bytes: outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14
DEFAULT_PORT = 8472  # the kernel's; said to it all the same, so that a device left on another port is not kept
SMALLEST_MTU = 68  # of any IPv4 link, so of a vxlan device
LARGEST_VNI = 9_999_999  # the wire has room for 2^24 - 1, the 15 characters of flannel.<VNI> have not

_MAC = re.compile(
    r"[0-9a-f]{2}(?:(?::[0-9a-f]{2}){5}|(?:-[0-9a-f]{2}){5})\Z|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}\Z", re.I | re.A
)
_NO_HEX = str.maketrans("", "", ":-.")


@dataclass(frozen=True)
class Vxlan:
    """`outer_mtu` 0 stands for the uplink's own."""

    peers: Peers
    vni: int
    port: int
    outer_mtu: int
    gbp: bool
    learning: bool
    direct_routing: bool
    kind = "vxlan"
    watches_peers = True

    @classmethod
    def of(cls, config: NetworkConfig) -> Vxlan:
        """Raises ConfigError that names the key. MacPrefix and Name are Windows' and ignored."""
        return cls(
            Peers.of(config),
            vni=integer(config, "VNI", 1, low=0, high=LARGEST_VNI),
            port=integer(config, "Port", 0, low=0, high=65535) or DEFAULT_PORT,
            outer_mtu=integer(config, "MTU", 0, low=SMALLEST_MTU + OVERHEAD, high=65535),
            gbp=flag(config, "GBP"),
            learning=flag(config, "Learning"),
            direct_routing=flag(config, "DirectRouting"),
        )

    def check(self, uplink: Uplink) -> None:
        """Works on every uplink, behind NAT too."""

    def claims(self) -> tuple[Claim, ...]:
        return Claim("device", self.device_name()), Claim("vni-port", f"{self.vni}/{self.port}")

    def device_name(self) -> str:
        return f"flannel.{self.vni}"

    def link(self, uplink: Uplink, *, network: str, mac: bytes) -> VxlanLink:
        return VxlanLink(
            self.device_name(),
            self.vni,
            self.port,
            uplink.ifindex,
            uplink.address,
            self._inner_mtu(uplink),
            mac,
            self.learning,
            self.gbp,
            OWN_ALIAS + network,
        )

    def tunnel(self, uplink: Uplink) -> TunnelSpec | None:
        return None

    def new_mac(self, there: LinkState | None, six: bytes) -> bytes:
        """That of the vxlan device it replaces, so that the peers need not learn another."""
        return there.mac if there is not None and there.kind == self.kind and there.mac else local_mac(six)

    def attrs(self, place: Place) -> LeaseAttrs:
        data = {"VNI": self.vni, "VtepMAC": format_mac(_device(place).mac)}
        return LeaseAttrs(place.uplink.public_ip, self.kind, data)

    def mtu(self, place: Place) -> int:
        return self._inner_mtu(place.uplink)

    def own(self, subnet: Subnet, place: Place) -> tuple[KernelObject, ...]:
        """The address is the next hop of all peers, and the source of what this host sends into the overlay."""
        link = _device(place)
        return (
            Sysctl(f"net/ipv6/conf/{link.name}/accept_ra", "0"),
            Sysctl(f"net/ipv4/neigh/{link.name}/app_solicit", "0"),  # 0.7 left 3: the kernel would ask us
            Address(link.ifindex, subnet.base, 32),
        )

    def peer(self, record: LeaseRecord, place: Place, *, nexthops: bool) -> tuple[KernelObject, ...]:
        uplink, link, subnet = place.uplink, _device(place), record.subnet
        address = record.attrs.public_ip
        self.peers.check(record, uplink)
        if self.direct_routing and uplink.reaches(address):
            return self.peers.route(subnet, link=uplink.ifindex, gateway=address, onlink=False, nexthops=nexthops)
        mac = vtep_mac(record.attrs.backend_data)
        if mac == link.mac:
            raise PeerSkipped(f"its VtepMAC {format_mac(mac)} is this host's own: re-create one of the two devices")
        return (
            Neighbour(link.ifindex, subnet.base, mac),
            FdbEntry(link.ifindex, mac, address),
            *self.peers.route(subnet, link=link.ifindex, gateway=subnet.base, onlink=True, nexthops=nexthops),
        )

    def scope(self, network: Subnet, leased: Iterable[Subnet], place: Place) -> Scope:
        """Real flannel's routes on the uplink are ours only where DirectRouting makes the same kind."""
        theirs = frozenset(leased) if self.direct_routing else frozenset()
        device = place.link.ifindex if place.link is not None else 0
        return Scope(device, place.uplink.ifindex, network, theirs)

    def _inner_mtu(self, uplink: Uplink) -> int:
        """Of the device. The kernel takes no more than the uplink carries, whatever the MTU key says."""
        outer = min(self.outer_mtu or uplink.mtu, uplink.mtu)
        return max(outer - OVERHEAD, SMALLEST_MTU)


def local_mac(six: bytes) -> bytes:
    """A locally administered unicast MAC from six random bytes. Raises ValueError for another number of bytes."""
    if len(six) != 6:
        raise ValueError(f"a MAC has 6 bytes, not {len(six)}")
    return bytes((six[0] & 0xFC | 0x02, *six[1:]))


def format_mac(mac: bytes) -> str:
    """Lower-case pairs with colons, as leases have it."""
    return mac.hex(":")


def parse_mac(text: str) -> bytes:
    """The 6 bytes of a MAC with colons, hyphens or dots. Raises ValueError, for group and zero addresses too."""
    if _MAC.match(text) is None:
        raise ValueError("is no MAC address")
    mac = bytes.fromhex(text.translate(_NO_HEX))
    if mac[0] & 1 or not any(mac):
        raise ValueError("is no unicast MAC address")
    return mac


def vtep_mac(data: Any) -> bytes:
    """The MAC in a lease's parsed BackendData, its key in any letter case. Raises PeerSkipped."""
    if not isinstance(data, dict):
        raise PeerSkipped(f"its BackendData is {show(data)}, not an object with a VtepMAC: restart its flannel")
    text = data.get("VtepMAC")
    if text is None:
        text = next((item for name, item in data.items() if name.lower() == "vtepmac"), None)
    if not isinstance(text, str):
        raise PeerSkipped(f"its VtepMAC is {show(text) if text is not None else 'missing'}: restart its flannel")
    try:
        return parse_mac(text)
    except ValueError as error:
        raise PeerSkipped(f"its VtepMAC {show(text)} {error}: restart its flannel") from None


def _device(place: Place) -> LinkState:
    if place.link is None:
        raise ValueError("a vxlan network has a device before it has anything else")
    return place.link
