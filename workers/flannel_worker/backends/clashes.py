"""What on this host stands in a network's way: a pure look at addresses, links and foreign routes.

No clash: wider routes, the network's own device and what is on it, our own routes and those real flannel left for
this network (spec §0), and what stands on the own subnet, such as a container bridge.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_worker.backends.uplink import Uplink, is_own
from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.host import HostLink, HostRoute, HostView
from flannel_worker.kernel.objects import RT_PROTOCOL, OwnLink, VxlanLink
from flannel_worker.kernel.rivals import is_our_tun, is_ours, rivals


class Clashes(NamedTuple):
    """One line each, naming both sides and the fix."""

    blocking: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def host_clashes(
    config: NetworkConfig,
    view: HostView,
    uplink: Uplink,
    *,
    device: OwnLink | None = None,
    held: int = 0,
    leased: Iterable[Subnet],
    own_subnet: Subnet | None,
    former: Subnet | None = None,
) -> Clashes:
    """What blocks `config` on this host, and what only deserves a warning.

    `device` is what `Backend.link` asks for, `held` the ifindex of the one in use (0: none), `leased` all subnets
    leased in it, `own_subnet` the one this host holds or held, `former` the one its env file named at the start.
    """
    network = config.network
    blocking: list[str] = list(rivals(view.links, device, held=held)) if isinstance(device, VxlanLink) else []
    warnings: list[str] = []
    for what, address in (("address", uplink.address), ("public IP", uplink.public_ip)):
        if network.holds(address) and (what == "address" or address != uplink.address):
            blocking.append(
                f"Network {network} holds the {what} {format_ip(address)} of {uplink.name}: "
                "choose another Network, or another --iface"
            )
    links = {link.ifindex: link for link in view.links}
    own = {link.ifindex for link in view.links if device is not None and _is_device(link, device, held)}
    foreign = [route for route in view.routes if _is_inside(route, network, own)]
    known = frozenset(leased) if foreign else frozenset()
    for route in foreign:
        subnet = Subnet(route.dst, route.length)
        if _is_flannels(config, route, subnet, uplink, known) or _is_at_home(route, subnet, uplink, own_subnet):
            continue
        link = links.get(route.link)
        if _is_bridge(route, link) and (route.length >= config.subnet_len or subnet in (former, *known)):
            assert link is not None
            if own_subnet is not None or not any(lease.covers(subnet) for lease in known):
                warnings.append(_on_old_lease(subnet, link, network, own_subnet))
        else:
            shown = _shown(route, subnet, link)
            blocking.append(f"Network {network} clashes with the host's route {shown}: {_fix(route, link)}")
    return Clashes(tuple(dict.fromkeys(blocking)), tuple(dict.fromkeys(warnings)))


def _is_device(link: HostLink, device: OwnLink, held: int) -> bool:
    if isinstance(device, VxlanLink):
        return link.name == device.name and is_ours(link, device, held=held)
    return is_our_tun(link, device, held=held)


def _fix(route: HostRoute, link: HostLink | None) -> str:
    if link is not None and link.kind == "tun" and is_own(link):
        return f"stop the flannel that has {link.name}, or choose another Network"
    return "choose another Network" if _is_vital(route) else "delete the route, or choose another Network"


def _is_inside(route: HostRoute, network: Subnet, own_devices: Container[int]) -> bool:
    """A route equal to Network or inside it that does not bear our mark and is not on our device."""
    if route.protocol == RT_PROTOCOL or route.link in own_devices:
        return False
    return network.covers(Subnet(route.dst, route.length))


def _is_vital(route: HostRoute) -> bool:
    """A default or connected route: whoever deletes it cuts the host off."""
    return route.length == 0 or (not route.gateway and route.protocol == k.RTPROT_KERNEL)


def _is_flannels(
    config: NetworkConfig, route: HostRoute, subnet: Subnet, uplink: Uplink, leased: frozenset[Subnet]
) -> bool:
    """A route that real flannel left for this network where its routes go by the uplink (spec §0)."""
    direct = config.backend_type == "host-gw" or config.backend.get("directrouting") is True
    placed = route.link == uplink.ifindex or route.kind == k.RTN_BLACKHOLE
    # "boot" is what real flannel's routes carry, for lack of a protocol of its own
    return direct and placed and route.protocol == k.RTPROT_BOOT and subnet in leased


def _is_at_home(route: HostRoute, subnet: Subnet, uplink: Uplink, own_subnet: Subnet | None) -> bool:
    """A route into the own subnet that does not lead out of this host: containers, however they are attached."""
    return own_subnet is not None and own_subnet.covers(subnet) and route.link not in (0, uplink.ifindex)


def _is_bridge(route: HostRoute, link: HostLink | None) -> bool:
    """The connected route of a bridge: a container engine's, where it is no wider than a lease."""
    return link is not None and link.kind == "bridge" and not route.gateway


def _on_old_lease(subnet: Subnet, link: HostLink, network: Subnet, own_subnet: Subnet | None) -> str:
    now = f"this host's subnet is {own_subnet}" if own_subnet is not None else "nobody leases that now"
    return (
        f"bridge {link.name} stands on {subnet} of Network {network}, but {now}: "
        "restart the container engine so that it reads the env file"
    )


def _shown(route: HostRoute, subnet: Subnet, link: HostLink | None) -> str:
    via = f" via {format_ip(route.gateway)}" if route.gateway else ""
    dev = f" dev {link.name}" if link is not None else ""
    return f"{subnet}{via}{dev}"
