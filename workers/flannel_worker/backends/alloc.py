"""alloc: a lease and an env file, nothing in the kernel (spec §7.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flannel_multi.model.claims import Claim
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_worker.backends.protocol import Place, TunnelSpec
from flannel_worker.backends.uplink import Uplink
from flannel_worker.kernel.objects import KernelObject, LinkState, OwnLink, Scope


@dataclass(frozen=True)
class Alloc:
    """Holds a subnet for whatever else routes it."""

    kind = "alloc"
    watches_peers = False

    def check(self, uplink: Uplink) -> None:
        """Works on every uplink."""

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
        """Without BackendType, as flannel."""
        return LeaseAttrs(place.uplink.public_ip)

    def mtu(self, place: Place) -> int:
        return place.uplink.mtu

    def own(self, subnet: Subnet, place: Place) -> tuple[KernelObject, ...]:
        return ()

    def peer(self, record: LeaseRecord, place: Place, *, nexthops: bool) -> tuple[KernelObject, ...]:
        return ()

    def scope(self, network: Subnet, leased: Iterable[Subnet], place: Place) -> Scope:
        """What an earlier backend of ours left goes; real flannel's routes are not touched."""
        return Scope(0, place.uplink.ifindex, network)
