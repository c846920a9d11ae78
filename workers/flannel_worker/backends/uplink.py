"""Which interface carries the overlay's packets: a pure choice over what the host looks like (spec §1.8, §9.1).

With several ways given, all `--iface` are tried in order, then all `--iface-regex`, then `--iface-can-reach`; the
default route is looked at only when none is given. `--public-ip` names what the lease says and never chooses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from flannel_multi.model.errors import ConfigError, InterfaceMissing
from flannel_multi.model.subnet import Subnet, format_ip, mask_of, parse_ip
from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.host import HostLink, HostRoute, HostView
from flannel_worker.kernel.objects import OWN_ALIAS, RT_PROTOCOL

_NOWHERE = {
    k.RTN_BLACKHOLE: "blackhole",
    k.RTN_UNREACHABLE: "unreachable",
    k.RTN_PROHIBIT: "prohibit",
    k.RTN_THROW: "throw",
}

_LOOPBACK = Subnet(0x7F000000, 8)
_LINK_LOCAL = Subnet(0xA9FE0000, 16)
_MULTICAST = Subnet(0xE0000000, 4)


class Uplink(NamedTuple):
    """The external interface. `address` is its own, `public_ip` what peers are told to send to.

    `onlink`: prefixes reached on it without a gateway; `beyond`: longer ones inside those that have a gateway all
    the same, or lead elsewhere.
    """

    name: str
    ifindex: int
    mtu: int
    address: int
    public_ip: int
    onlink: tuple[tuple[int, int], ...] = ()
    beyond: tuple[tuple[int, int], ...] = ()

    def reaches(self, address: int) -> bool:
        """True when the kernel's route to `address` leaves by this interface without a gateway."""
        return _longest(self.onlink, address) > _longest(self.beyond, address)


NONE = Uplink("", 0, 0, 0, 0)


class _Found(NamedTuple):
    link: HostLink
    address: int


def choose_uplink(
    view: HostView,
    *,
    iface: Sequence[str] = (),
    iface_regex: Sequence[str] = (),
    iface_can_reach: str = "",
    public_ip: str = "",
) -> Uplink:
    """The external interface of `view`. Raises InterfaceMissing with what was looked for, where, and what to do.

    Raises ConfigError for a public IP that is no unicast IPv4 address.
    """
    link, address = _find(view, iface, iface_regex, iface_can_reach)
    if link.mtu <= 0:
        raise InterfaceMissing(f"interface {link.name} has no MTU: set one with ip link set {link.name} mtu 1500")
    onlink, beyond = _surroundings(view.routes, link.ifindex)
    return Uplink(link.name, link.ifindex, link.mtu, address, _public(public_ip, address), onlink, beyond)


def is_unicast(address: int) -> bool:
    """False for 0.0.0.0, loopback, multicast and the broadcast address: nothing of these is another host."""
    return not (address in (0, 0xFFFFFFFF) or _LOOPBACK.holds(address) or _MULTICAST.holds(address))


def _public(text: str, address: int) -> int:
    if not text:
        return address
    try:
        public = parse_ip(text)
    except ValueError:
        raise ConfigError(f"public IP {text!r} is no IPv4 address: correct --public-ip") from None
    if not is_unicast(public):
        raise ConfigError(f"public IP {text} is no address of one host: correct --public-ip")
    return public


def _find(view: HostView, iface: Sequence[str], regexes: Sequence[str], can_reach: str) -> _Found:
    tries: list[Callable[[], _Found]] = []
    tries += [lambda wish=wish: _by_iface(view, wish) for wish in iface]  # type: ignore[misc]
    tries += [lambda regex=regex: _by_regex(view, regex) for regex in regexes]  # type: ignore[misc]
    if can_reach:
        tries.append(lambda: _by_reach(view, can_reach))
    failures: list[str] = []
    for attempt in tries or [lambda: _by_default(view)]:
        try:
            return attempt()
        except InterfaceMissing as missing:
            failures.append(missing.message)
    raise InterfaceMissing("; ".join(failures))


def _by_iface(view: HostView, wish: str) -> _Found:
    try:
        address = parse_ip(wish)
    except ValueError:
        link = next((link for link in view.links if link.name == wish), None)
        if link is None:
            raise InterfaceMissing(f"no interface {wish} (--iface): create it, or name another") from None
        if is_own(link):
            raise InterfaceMissing(
                f"interface {wish} (--iface) is an overlay's own device: name the one that carries it"
            ) from None
        return _with_address(view, link, "--iface")
    owner = _owner(view, address)
    if owner is None:
        raise InterfaceMissing(f"no interface has the address {wish} (--iface): assign it, or name another")
    return _Found(owner, address)


def _by_regex(view: HostView, regex: str) -> _Found:
    """First an interface with an address that matches, then one with a name that does; unanchored."""
    try:
        pattern = re.compile(regex)
    except (re.error, OverflowError, RecursionError) as error:
        raise InterfaceMissing(f"--iface-regex {regex!r} is no regular expression: {error}") from None
    links = [link for link in _by_index(view.links) if not is_own(link)]
    for link in links:
        for address in _usable(view, link):
            if pattern.search(format_ip(address)):
                return _Found(link, address)
    for link in links:
        usable = _usable(view, link)
        if usable and pattern.search(link.name):
            return _Found(link, usable[0])
    raise InterfaceMissing(
        f"no interface with a usable IPv4 address matches --iface-regex {regex!r} by address or name: "
        "correct it, or bring the interface up"
    )


def _by_reach(view: HostView, target: str) -> _Found:
    """The interface and source address of the main table's route to `target`."""
    try:
        address = parse_ip(target)
    except ValueError:
        raise InterfaceMissing(f"--iface-can-reach {target!r} is no IPv4 address") from None
    owner = _owner(view, address)
    if owner is not None:
        return _Found(owner, address)
    names = {link.ifindex: link for link in view.links if not is_own(link)}
    fitting = [
        route
        for route in view.routes
        if address & mask_of(route.length) == route.dst and (route.link == 0 or route.link in names)
    ]
    if not fitting:
        raise InterfaceMissing(f"no route to {target} (--iface-can-reach): add one, or name the interface")
    best = min(fitting, key=lambda route: (-route.length, route.metric))
    link = _single(best, names, f"the route to {target} (--iface-can-reach)")
    if best.prefsrc:
        return _Found(link, best.prefsrc)
    return _with_address(view, link, f"on the way to {target} (--iface-can-reach)")


def _by_default(view: HostView) -> _Found:
    """The interface of the first default route in kernel order, which is the one of the lowest metric."""
    names = {link.ifindex: link for link in view.links if not is_own(link)}
    defaults = [route for route in view.routes if route.length == 0 and (route.link == 0 or route.link in names)]
    if not defaults:
        raise InterfaceMissing("no IPv4 default route in the main table: add one, or name the interface by --iface")
    best = min(defaults, key=lambda route: route.metric)
    return _with_address(view, _single(best, names, "the default route"), "of the default route")


def _single(route: HostRoute, links: dict[int, HostLink], what: str) -> HostLink:
    if route.kind != k.RTN_UNICAST:
        kind = _NOWHERE.get(route.kind, f"of type {route.kind}")
        raise InterfaceMissing(f"{what} is {kind}, so it names no interface: name one by --iface")
    if route.link == 0:
        raise InterfaceMissing(f"{what} has several next hops, so it names no one interface: name one by --iface")
    return links[route.link]


def _with_address(view: HostView, link: HostLink, why: str) -> _Found:
    usable = _usable(view, link)
    if not usable:
        raise InterfaceMissing(
            f"interface {link.name} ({why}) has no usable IPv4 address: assign one, or name another by --iface"
        )
    return _Found(link, usable[0])


def _usable(view: HostView, link: HostLink) -> list[int]:
    """Addresses of `link` fit for an uplink, best first: kernel order, link-local last, deprecated not at all."""
    found = [
        item.address
        for item in view.addresses
        if item.link == link.ifindex and not item.deprecated and is_unicast(item.address)
    ]
    return sorted(found, key=_LINK_LOCAL.holds)


def _owner(view: HostView, address: int) -> HostLink | None:
    """The first interface in index order that has `address`, whatever its rank."""
    having = {item.link for item in view.addresses if item.address == address}
    return next((link for link in _by_index(view.links) if link.ifindex in having), None)


def is_own(link: HostLink) -> bool:
    """True for an overlay's own device, ours or real flannel's: it can never carry itself."""
    vxlan = link.kind == "vxlan" and link.name.startswith("flannel")
    tun = link.kind == "tun" and re.fullmatch(r"flannel\d+", link.name) is not None
    return vxlan or tun or link.alias.startswith(OWN_ALIAS)


def _by_index(links: Iterable[HostLink]) -> list[HostLink]:
    return sorted(links, key=lambda link: link.ifindex)


def _surroundings(
    routes: Iterable[HostRoute], ifindex: int
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """(onlink, beyond) of an interface. Our own routes are no surroundings: they come and go with the peers."""
    onlink: set[tuple[int, int]] = set()
    others: set[tuple[int, int]] = set()
    for route in routes:
        if route.protocol == RT_PROTOCOL:
            continue
        direct = route.link == ifindex and not route.gateway and route.kind == k.RTN_UNICAST
        (onlink if direct else others).add((route.dst, route.length))
    beyond = (other for other in others - onlink if _longest(onlink, other[0], below=other[1]) >= 0)
    return tuple(sorted(onlink)), tuple(sorted(beyond))


def _longest(prefixes: Iterable[tuple[int, int]], address: int, *, below: int = 33) -> int:
    """The length of the longest of `prefixes` that holds `address` and is shorter than `below`; -1 for none."""
    return max((n for base, n in prefixes if n < below and address & mask_of(n) == base), default=-1)
