"""The host as this network last saw it, and the uplink it chose there."""

from __future__ import annotations

from collections.abc import Mapping

from flannel_multi import log
from flannel_multi.model.errors import InterfaceMissing
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.options import NetworkOptions
from flannel_worker.backends.uplink import Uplink, choose_uplink
from flannel_worker.kernel.host import HostView
from flannel_worker.kernel.reconcile import Reconciler


class Surroundings:
    """Looks again only after `changed`; `uplink` is the last one that was fit."""

    def __init__(self, reconciler: Reconciler, wish: NetworkOptions) -> None:
        self._reconciler = reconciler
        self._wish = wish
        self._changes = 1  # counted, not flagged: one that comes while we look is not lost
        self._looked_at = 0
        self.view = HostView((), (), ())
        self.uplink: Uplink | None = None
        self.bridged: Mapping[Subnet, str] = {}  # subnets that a container bridge stands on, and its name

    def changed(self) -> None:
        """Links, addresses or foreign routes are not what they were."""
        self._changes += 1

    async def look(self, faults: list[str]) -> Uplink:
        """The uplink now. Raises InterfaceMissing when there never was one, KernelRefused when the look fails.

        One that has vanished is a fault, and stays the uplink: what it carried may come back with it.
        """
        if self._looked_at == self._changes and self.uplink is not None:
            return self.uplink
        changes = self._changes
        self.view = await self._reconciler.host()
        self.bridged = bridged(self.view)
        try:
            uplink = self._choose()
        except InterfaceMissing as missing:
            if self.uplink is None:
                raise
            faults.append(f"{missing.message}; staying with {self.uplink.name}")
            return self.uplink
        self._looked_at = changes
        if uplink != self.uplink:
            log.info(
                f"using interface {uplink.name} ({format_ip(uplink.address)}, MTU {uplink.mtu}), "
                f"public IP {format_ip(uplink.public_ip)}"
            )
            self.uplink = uplink
        return uplink

    def _choose(self) -> Uplink:
        wish = self._wish
        return choose_uplink(
            self.view,
            iface=wish.iface,
            iface_regex=wish.iface_regex,
            iface_can_reach=wish.iface_can_reach,
            public_ip=wish.public_ip,
        )


def bridged(view: HostView) -> dict[Subnet, str]:
    """The connected routes of bridges: what leads to containers of this host."""
    names = {link.ifindex: link.name for link in view.links if link.kind == "bridge"}
    return {
        Subnet(route.dst, route.length): names[route.link]
        for route in view.routes
        if route.link in names and not route.gateway
    }
