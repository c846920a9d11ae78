"""udp: a TUN device whose IP packets travel one in each UDP datagram; no kernel object for a peer (spec §7.4).

The form is that of flannel 0.28: an address of 32 bits and an explicit route for Network, so that no broadcast
addresses arise. The wire is that of every flannel: all hosts use the same port, which no lease names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flannel_multi.model.claims import Claim
from flannel_multi.model.config import NetworkConfig, choice, flag, integer
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_worker.backends.peers import RUNS_BPF, Peers
from flannel_worker.backends.protocol import Place, TunnelSpec
from flannel_worker.backends.uplink import Uplink
from flannel_worker.kernel.objects import (
    OWN_ALIAS,
    Address,
    KernelObject,
    LinkState,
    Route,
    Scope,
    Sysctl,
    TunLink,
)

OVERHEAD = 28  # bytes: outer IPv4 20, UDP 8
DEFAULT_PORT = 8285
SMALLEST_MTU = 68  # of any IPv4 link
QUEUE = 2000  # packets that wait on the device while one worker follows another: 100 ms at 20,000 a second
DATA_PATHS = ("user", "bpf", "auto")


@dataclass(frozen=True)
class Udp:
    """`offload` to `xdp` as in TunnelSpec."""

    peers: Peers
    port: int
    offload: bool
    verify_source: bool
    data_path: str
    xdp: bool
    kind = "udp"
    watches_peers = True

    @classmethod
    def of(cls, config: NetworkConfig) -> Udp:
        """Raises ConfigError that names the key."""
        return cls(
            Peers.of(config)._replace(kind=""),
            port=integer(config, "Port", DEFAULT_PORT, low=1, high=65535),
            offload=flag(config, "Offload", True),
            verify_source=flag(config, "VerifySource"),
            data_path=choice(config, "DataPath", *DATA_PATHS),
            xdp=flag(config, "XDP"),
        )

    def check(self, uplink: Uplink) -> None:
        """Works on every uplink, behind NAT as far as that passes the port on."""

    def claims(self) -> tuple[Claim, ...]:
        return (Claim("udp-port", str(self.port)),)

    def device_name(self) -> str:
        return ""

    def link(self, uplink: Uplink, *, network: str, mac: bytes) -> TunLink:
        return TunLink("", self._inner_mtu(uplink), QUEUE, OWN_ALIAS + network)

    def tunnel(self, uplink: Uplink) -> TunnelSpec:
        return TunnelSpec(
            uplink.ifindex, uplink.address, self.port, self.offload, self.verify_source, self.data_path, self.xdp
        )

    def new_mac(self, there: LinkState | None, six: bytes) -> bytes:
        return b""

    def attrs(self, place: Place) -> LeaseAttrs:
        """Without BackendType, as flannel; BackendData, which flannel's udp never reads, only where bpf runs."""
        return LeaseAttrs(place.uplink.public_ip, backend_data=dict(RUNS_BPF) if place.runs_bpf else None)

    def mtu(self, place: Place) -> int:
        return self._inner_mtu(place.uplink)

    def own(self, subnet: Subnet, place: Place) -> tuple[KernelObject, ...]:
        """accept_local: "net unreachable" comes out of the device with this host's own address as its source, and is
        taken for forged without it. ignore_routes_with_linkdown: the route must hold while nobody reads the device.
        """
        link, network = _device(place), self.peers.network
        return (
            Sysctl(f"net/ipv4/conf/{link.name}/accept_local", "1"),
            Sysctl(f"net/ipv4/conf/{link.name}/ignore_routes_with_linkdown", "0"),
            Sysctl(f"net/ipv6/conf/{link.name}/accept_ra", "0"),
            Address(link.ifindex, subnet.base, 32),
            Route(network.base, network.length, link.ifindex, 0),
        )

    def peer(self, record: LeaseRecord, place: Place, *, nexthops: bool) -> tuple[KernelObject, ...]:
        """Nothing: peers stand in the tunnel's own table."""
        self.peers.check(record, place.uplink)
        return ()

    def scope(self, network: Subnet, leased: Iterable[Subnet], place: Place) -> Scope:
        """Routes of real flannel's TUN went with its process."""
        return Scope(place.link.ifindex if place.link is not None else 0, place.uplink.ifindex, network)

    def _inner_mtu(self, uplink: Uplink) -> int:
        return max(uplink.mtu - OVERHEAD, SMALLEST_MTU)


def _device(place: Place) -> LinkState:
    if place.link is None:
        raise ValueError("a udp network has a device before it has anything else")
    return place.link
