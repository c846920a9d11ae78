"""From leases to kernel state: the device, the wanted objects group by group, and what applies them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from flannel_multi import log
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_worker.backends.peers import hop_of
from flannel_worker.backends.protocol import Backend, Hop, PeerSkipped, Place
from flannel_worker.backends.uplink import NONE, Uplink
from flannel_worker.kernel.objects import (
    NEXTHOPS_FROM,
    NEXTHOPS_UNTIL,
    OWN_ALIAS,
    FdbEntry,
    Key,
    LinkState,
    OwnLink,
    TunLink,
    VxlanLink,
)
from flannel_worker.kernel.reconcile import Outcome, Reconciler
from flannel_worker.kernel.wanted import Wanted
from flannel_worker.tunnel import Tunnel

SKIPS_SHOWN = 10  # lines about skipped peers per listing; the rest is counted


class Dataplane:
    """One network's kernel state, and its tunnel if it has one. `apply` makes it so; everything else only says what is
    wanted."""

    def __init__(
        self, reconciler: Reconciler, network: str, tunnel: Tunnel, moved: Callable[[], None] = lambda: None
    ) -> None:
        self._reconciler = reconciler
        self._network = network
        self._tunnel = tunnel
        self._moved = moved  # called when links or routes of the host are not what they were, by our own hand
        self._wanted = Wanted()
        self._nexthops = False
        self._skipped: dict[Subnet, str] = {}
        self._subnet: Subnet | None = None
        self._compared = False  # all that is wanted with the kernel, since it was chosen anew
        self._behind: dict[Subnet, Hop] = {}  # of a tunnel: the host that each peer's subnet is behind
        self._bridged: Mapping[Subnet, str] = {}
        self._clones: set[Key] = set()  # said already
        self.place: Place | None = None
        self.peers = 0

    def wants(self, backend: Backend, uplink: Uplink, *, mac: bytes = b"") -> OwnLink | None:
        """The device that `device` will ask for, None without one."""
        return backend.link(uplink, network=self._network, mac=mac)

    async def device(self, backend: Backend, uplink: Uplink, remembered_mac: bytes) -> Place:
        """The device as it should be, and so the place that everything else refers to.

        Raises KernelRefused; Conflict when a device that is not this network's is in the way. The MAC of a fitting
        device that exists wins, then the remembered one, then the backend's choice (spec §0).
        """
        link: LinkState | None = None
        match self.wants(backend, uplink, mac=remembered_mac):
            case VxlanLink() as spec:
                there = await self._reconciler.link(spec.name)
                mac = spec.mac or backend.new_mac(there, os.urandom(6))
                link = await self._reconciler.ensure_link(spec._replace(mac=mac))
            case TunLink() as wish:
                there = self.place.link if self.place is not None else None
                link = await self._open_tunnel(backend, uplink, wish._replace(name=there.name if there else ""))
            case None:
                there = None
        if link != there:
            self._moved()
        place = Place(uplink, link, self._tunnel.runs_bpf)
        if place != self.place:
            self.place = place
            self._subnet = None  # every object names an ifindex or an address of the place: say all of them again
        return place

    async def _open_tunnel(self, backend: Backend, uplink: Uplink, wish: TunLink) -> LinkState:
        spec = backend.tunnel(uplink)
        assert spec is not None, "a TUN without a tunnel"
        return await self._tunnel.open(spec, wish)

    async def carry(
        self,
        backend: Backend,
        subnet: Subnet,
        leases: Mapping[Subnet, LeaseRecord],
        *,
        remembered: bool,
        bridged: Mapping[Subnet, str] = MappingProxyType({}),
    ) -> None:
        """Starts a tunnel's data path that does not run, so that what waits in its queues need not wait for the store
        too; `remembered`: no more do the `leases`. Without a tunnel, or with one that runs, nothing. Raises
        KernelRefused, NotBuiltYet."""
        if self._tunnel.is_open and not self._tunnel.runs:
            await self._choose(backend, subnet, leases, (), bridged)
            self._tunnel.serve(subnet.base, self._behind, remembered=remembered)

    @property
    def faults(self) -> list[str]:
        """What of a tunnel is not as its config asks, although it carries packets."""
        return self._tunnel.faults

    def look(self) -> None:
        """Says what a tunnel's data path lost."""
        self._tunnel.look()

    async def apply(
        self,
        backend: Backend,
        network: Subnet,
        subnet: Subnet,
        leases: Mapping[Subnet, LeaseRecord],
        touched: Iterable[Subnet],
        *,
        whole: bool,
        add_only: bool = False,
        bridged: Mapping[Subnet, str] = MappingProxyType({}),
    ) -> Outcome:
        """Brings the kernel to what `subnet` and the other `leases` ask for.

        `touched` names the leases that changed since the last call. `whole` compares everything with the kernel
        (start, drift, a new place); else only what the touched leases ask for is sent. `add_only`: `leases` may be
        older than what stands in the kernel, so nothing that stands is replaced or dropped. Raises KernelRefused when
        the kernel cannot be asked, or a tunnel's data path does not start; what it refused of the objects is in the
        outcome.
        """
        assert self.place is not None, "apply before device"
        keys = await self._choose(backend, subnet, leases, touched, bridged)
        if self._tunnel.is_open:
            self._tunnel.serve(subnet.base, self._behind, remembered=add_only)  # before a route leads into it
        if whole or not self._compared:
            scope = backend.scope(network, leases.keys(), self.place)
            outcome = await self._reconciler.ensure(self._wanted, scope, add_only=add_only)
            self._compared = True
            if outcome.sent:
                self._moved()  # a foreign route that was in the way may be gone
            return outcome
        if not keys:
            return Outcome(0, ())
        return await self._reconciler.update(self._wanted, keys)

    async def _choose(
        self,
        backend: Backend,
        subnet: Subnet,
        leases: Mapping[Subnet, LeaseRecord],
        touched: Iterable[Subnet],
        bridged: Mapping[Subnet, str],
    ) -> set[Key]:
        """Brings what is wanted up to date; the keys that may have changed."""
        if bridged != self._bridged:
            self._bridged, self._subnet = bridged, None
        if self._switch_nexthops(await self._nexthops_wanted(len(leases))) or self._subnet != subnet:
            keys, self._compared = self._want_all(backend, subnet, leases), False
        else:
            keys = set()
            for changed in touched:
                keys |= self._want_peer(backend, subnet, changed, leases.get(changed))
        self._tell_of_clones(keys, leases)
        self.peers = len(leases) - (subnet in leases)
        return keys

    async def withdraw(self, backend: Backend, network: Subnet) -> None:
        """Takes away all that stands for this network: its routes, then its device; what an earlier run left too, with
        no uplink or another. Raises KernelRefused.
        """
        place = Place(self.place.uplink if self.place is not None else NONE, await self._own_link(backend))
        self.place = None
        self._wanted, self._subnet, self.peers = Wanted(), None, 0
        await self._reconciler.ensure(self._wanted, backend.scope(network, (), place))
        self._tunnel.pause()
        if place.link is not None:
            await self._reconciler.remove_link(place.link.name)
            self._moved()
        if backend.tunnel(NONE) is not None:
            self._tunnel.close()

    async def _own_link(self, backend: Backend) -> LinkState | None:
        """The device that bears this network's mark, or stands for it in this run."""
        match self.wants(backend, NONE):
            case VxlanLink(name):
                there = await self._reconciler.link(name)
            case TunLink() as wish:
                return await self._reconciler.tun(wish)
            case None:
                return None
        if there is None:
            return None
        held = self.place is not None and self.place.link is not None and self.place.link.ifindex == there.ifindex
        return there if held or there.alias == OWN_ALIAS + self._network else None

    async def stand_down(self, backend: Backend, network: Subnet) -> None:
        """Takes away all but the device: no address, no route, until there is a lease again. Raises KernelRefused."""
        if self.place is not None:
            self._wanted, self._subnet, self.peers = Wanted(), None, 0
            await self._reconciler.ensure(self._wanted, backend.scope(network, (), self.place))
            self._tunnel.stand_down()

    async def _nexthops_wanted(self, peers: int) -> bool:
        if peers < NEXTHOPS_UNTIL:
            return False
        if peers >= NEXTHOPS_FROM:
            return await self._reconciler.nexthops_supported()
        return self._nexthops

    def _switch_nexthops(self, wanted: bool) -> bool:
        switched, self._nexthops = wanted != self._nexthops, wanted
        return switched

    def _want_all(self, backend: Backend, subnet: Subnet, leases: Mapping[Subnet, LeaseRecord]) -> set[Key]:
        assert self.place is not None
        self._subnet = subnet
        self._wanted, self._behind = Wanted(), {}
        before, self._skipped = self._skipped, {}
        keys = self._wanted.put("own", backend.own(subnet, self.place))
        for peer, record in leases.items():
            keys |= self._want_peer(backend, subnet, peer, record, quiet=True)
        news = [(peer, why) for peer, why in self._skipped.items() if before.get(peer) != why]
        for peer, why in news[:SKIPS_SHOWN]:
            log.warning(f"lease {peer} skipped: {why}")
        if len(news) > SKIPS_SHOWN:
            log.warning(f"{len(news) - SKIPS_SHOWN} more leases skipped")
        return keys

    def _want_peer(
        self,
        backend: Backend,
        subnet: Subnet,
        peer: Subnet,
        record: LeaseRecord | None,
        *,
        quiet: bool = False,
    ) -> set[Key]:
        assert self.place is not None
        self._behind.pop(peer, None)
        if record is None or peer == subnet or not backend.watches_peers:
            self._skipped.pop(peer, None)
            return self._wanted.drop(peer)
        try:
            self._check_at_home(subnet, peer)
            objects = backend.peer(record, self.place, nexthops=self._nexthops)
        except PeerSkipped as reason:
            if str(reason) and not quiet and self._skipped.get(peer) != str(reason):
                log.warning(f"lease {peer} skipped: {reason}")
            self._skipped[peer] = str(reason)
            return self._wanted.drop(peer)
        self._skipped.pop(peer, None)
        if self._tunnel.is_open:
            self._behind[peer] = hop_of(record)
        # where two leases of different hosts name one VTEP MAC (a cloned machine), the one that stood first keeps it
        return self._wanted.put(peer, objects, -record.revision)

    def _tell_of_clones(self, keys: Iterable[Key], leases: Mapping[Subnet, LeaseRecord]) -> None:
        """Names leases of different hosts that publish one VTEP MAC: only one of the hosts can be reached."""
        for key, groups in self._wanted.contested(keys):
            named = [group for group in groups if isinstance(group, Subnet)]
            if key[0] is FdbEntry and len(named) > 1 and key not in self._clones:
                self._clones.add(key)
                hosts = " and ".join(f"{group} of {format_ip(leases[group].attrs.public_ip)}" for group in named)
                log.warning(
                    f"leases {hosts} publish one VtepMAC: only the first is reached; re-create the other's device"
                )

    def _check_at_home(self, subnet: Subnet, peer: Subnet) -> None:
        """Raises PeerSkipped when a route to `peer` would lead this host's own containers away."""
        if peer.overlaps(subnet):
            raise PeerSkipped(f"it overlaps this host's own subnet {subnet}: delete one of the two leases")
        if (bridge := self._bridged.get(peer)) is not None:
            raise PeerSkipped(f"bridge {bridge} of this host still stands on it: restart its container engine")
