"""Whose a link is: this network's, or somebody's who stands in its way (spec §0, §7.3). Pure.

A device of our name is ours when it is a vxlan that bears our mark, or no alias at all, as real flannel left it.
Whatever else has that name belongs to somebody, be it another network, and is not touched. Nor can a vxlan device come
up beside another of the same VNI and port, or beside one that receives on the same port in another mode: the kernel
answers EEXIST when it is made, or EADDRINUSE when it is set up.
"""

from __future__ import annotations

from collections.abc import Iterable

from flannel_multi.model.shown import show
from flannel_worker.kernel.host import HostLink, VxlanConfig
from flannel_worker.kernel.objects import OWN_ALIAS, LinkState, TunLink, VxlanLink


def is_ours(link: HostLink | LinkState, wanted: VxlanLink, *, held: int = 0) -> bool:
    """True when `link`, which has the name of `wanted`, may be adopted, changed or made anew.

    `held` is the ifindex of the device in use, 0 for none: that one is ours whatever became of its alias.
    """
    return link.kind == "vxlan" and (link.ifindex == held or link.alias in ("", wanted.alias))


def is_our_tun(link: HostLink | LinkState, wanted: TunLink, *, held: int = 0) -> bool:
    """True when `link` is the TUN that `wanted` asks for, whatever its name; `held` as above."""
    return link.kind == "tun" and (link.ifindex == held or link.alias == wanted.alias)


def rivals(links: Iterable[HostLink], wanted: VxlanLink, *, held: int = 0) -> tuple[str, ...]:
    """Why `wanted` cannot stand among `links`: a line for each that is in the way, with both sides and the fix."""
    lines = (
        _taken_name(link, wanted, held) if link.name == wanted.name else _taken_port(link, wanted) for link in links
    )
    return tuple(line for line in lines if line)


def _taken_name(link: HostLink, wanted: VxlanLink, held: int) -> str:
    if is_ours(link, wanted, held=held):
        return ""
    other = _network_of(link)
    if other:
        return (
            f"device {wanted.name} is marked as network {other}'s: give one of the two another VNI, "
            f"or run ip link del {wanted.name} if that network is gone"
        )
    what = link.kind or "interface"
    return (
        f"device {wanted.name} clashes with the host's {what} of that name{_alias_of(link)}: "
        "delete or rename that, or choose another VNI"
    )


def _taken_port(link: HostLink, wanted: VxlanLink) -> str:
    have = link.vxlan
    if have is None or have.port != wanted.port or (have.ipv6 and not have.external):
        return ""
    if _mode(have) == _mode(wanted):
        if have.vni != wanted.vni:
            return ""
        return (
            f"VNI {wanted.vni} on port {wanted.port} clashes with the host's vxlan device {link.name}"
            f"{_alias_of(link)}: delete {link.name}, or choose another VNI or Port"
        )
    if not link.up:  # a device holds the port while it is up
        return ""
    return (
        f"port {wanted.port} clashes with the host's vxlan device {link.name}{_alias_of(link)}, which receives on it "
        f"{_mode(have)}, not {_mode(wanted)}: choose another Port, or delete {link.name}"
    )


def _mode(device: VxlanConfig | VxlanLink) -> str:
    """How it receives: devices of one mode share a port, others cannot."""
    if isinstance(device, VxlanConfig) and device.external:
        return "for any VNI (external)"
    return "with GBP" if device.gbp else "without GBP"


def _network_of(link: HostLink) -> str:
    """The network that `link` is marked as belonging to, "" without our mark."""
    return show(link.alias.removeprefix(OWN_ALIAS)) if link.alias.startswith(OWN_ALIAS) else ""


def _alias_of(link: HostLink) -> str:
    network = _network_of(link)
    if network:
        return f" of network {network}"
    return f" (alias {show(link.alias)})" if link.alias else ""
