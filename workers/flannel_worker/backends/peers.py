"""What all backends with peers ask of one: the checks on a stranger's lease, and the shapes of a route to it."""

from __future__ import annotations

from typing import NamedTuple

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.shown import show
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_worker.backends.protocol import Hop, PeerSkipped
from flannel_worker.backends.uplink import Uplink, is_unicast
from flannel_worker.kernel.objects import Nexthop, Route, nexthop_id

RUNS_BPF = {"DataPath": "bpf"}  # BackendData of a udp host whose kernel takes part in the data path


def hop_of(record: LeaseRecord) -> Hop:
    """Where a tunnel's packets for the lease go."""
    address, kind, data = record.attrs
    return Hop(address, kind == "" and data == RUNS_BPF)


class Peers(NamedTuple):
    """What the config says about every peer of its network. `kind` "": leases of all backends count."""

    kind: str
    network: Subnet
    subnet_len: int

    @classmethod
    def of(cls, config: NetworkConfig) -> Peers:
        return cls(config.backend_type, config.network, config.subnet_len)

    def check(self, record: LeaseRecord, uplink: Uplink) -> None:
        """Raises PeerSkipped when the lease is none that a route may follow, whoever wrote it."""
        subnet, (address, kind, _) = record.subnet, record.attrs
        if self.kind and record.permanent and not kind:
            raise PeerSkipped("")  # reserved for a host that has not joined yet
        if self.kind and kind != self.kind:
            raise PeerSkipped(f"its BackendType is {show(kind)}, not {self.kind}: give all hosts one config")
        if not (self.network.covers(subnet) and subnet.length > self.network.length):
            raise PeerSkipped(f"it is not inside Network {self.network}: delete the lease")
        if not is_unicast(subnet.base):
            raise PeerSkipped("its subnet holds no host addresses: delete the lease")
        if not is_unicast(address):
            raise PeerSkipped(f"its PublicIP {format_ip(address)} is no address of a host: delete the lease")
        if address in (uplink.public_ip, uplink.address):
            raise PeerSkipped(f"its PublicIP {format_ip(address)} is this host's own: delete the one not in use")
        if self.network.holds(address):
            raise PeerSkipped(
                f"its PublicIP {format_ip(address)} lies inside Network {self.network}: packets to it would enter "
                "the overlay; give that host another address"
            )

    def route(
        self, subnet: Subnet, *, link: int, gateway: int, onlink: bool, nexthops: bool
    ) -> tuple[Nexthop | Route, ...]:
        """The route to `subnet`, through a nexthop object of its own when asked for.

        The object's id comes from the subnet, so only subnets of the regular length get one: those are at least a
        /30 and share no base, whereas a foreign /28 may begin where a /24 does.
        """
        if not nexthops or subnet.length != self.subnet_len:
            return (Route(subnet.base, subnet.length, link, gateway, onlink),)
        number = nexthop_id(subnet.base)
        return (
            Nexthop(number, link, gateway, onlink),
            Route(subnet.base, subnet.length, link, gateway, onlink, number),
        )
