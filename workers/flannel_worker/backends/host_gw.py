"""host-gw: one route for each peer, by way of the peer itself, on a common L2 (spec §7.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flannel_multi.model.claims import Claim
from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import ConfigError
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_worker.backends.peers import Peers
from flannel_worker.backends.protocol import PeerSkipped, Place, TunnelSpec
from flannel_worker.backends.uplink import Uplink
from flannel_worker.kernel.objects import KernelObject, LinkState, OwnLink, Scope


@dataclass(frozen=True)
class HostGw:
    """Routes `<subnet> via <PublicIP> dev <uplink>`."""

    peers: Peers
    kind = "host-gw"
    watches_peers = True

    @classmethod
    def of(cls, config: NetworkConfig) -> HostGw:
        return cls(Peers.of(config))

    def check(self, uplink: Uplink) -> None:
        """Raises ConfigError behind NAT: the peers' routes name an address that must be on their own L2."""
        if uplink.public_ip != uplink.address:
            raise ConfigError(
                f"backend host-gw: public IP {format_ip(uplink.public_ip)} is not the address "
                f"{format_ip(uplink.address)} of {uplink.name}; drop --public-ip, or use vxlan"
            )

    def claims(self) -> tuple[Claim, ...]:
        return ()

    def device_name(self) -> str:
        return ""

    def link(self, uplink: Uplink, *, network: str, mac: bytes) -> OwnLink | None:
        return None

    def tunnel(self, uplink: Uplink) -> TunnelSpec | None:
        return None

    def new_mac(self, there: LinkState | None, six: bytes) -> bytes:
        return b""

    def attrs(self, place: Place) -> LeaseAttrs:
        return LeaseAttrs(place.uplink.public_ip, self.kind)

    def mtu(self, place: Place) -> int:
        return place.uplink.mtu

    def own(self, subnet: Subnet, place: Place) -> tuple[KernelObject, ...]:
        return ()

    def peer(self, record: LeaseRecord, place: Place, *, nexthops: bool) -> tuple[KernelObject, ...]:
        uplink, gateway = place.uplink, record.attrs.public_ip
        self.peers.check(record, uplink)
        if not uplink.reaches(gateway):  # the kernel would say ENETUNREACH
            raise PeerSkipped(
                f"its PublicIP {format_ip(gateway)} is not directly reachable from {uplink.name}: "
                "host-gw needs a common L2; use vxlan"
            )
        return self.peers.route(record.subnet, link=uplink.ifindex, gateway=gateway, onlink=False, nexthops=nexthops)

    def scope(self, network: Subnet, leased: Iterable[Subnet], place: Place) -> Scope:
        """Real flannel's routes to leased subnets are ours too (spec §0)."""
        return Scope(0, place.uplink.ifindex, network, frozenset(leased))
