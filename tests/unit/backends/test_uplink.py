"""Which interface carries the overlay: the tables of flannel behaviour §9.1, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from flannel_multi.model.errors import ConfigError, InterfaceMissing
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_worker.backends.uplink import Uplink, choose_uplink
from flannel_worker.kernel.host import HostAddress, HostLink, HostRoute, HostView
from flannel_worker.kernel.objects import OWN_ALIAS, RT_PROTOCOL

LO = HostLink(1, "lo", 65536, True)
ETH0 = HostLink(2, "eth0", 1500, True)
E1 = HostLink(3, "e1", 9000, True)
DOWN = HostLink(4, "spare", 1500, False)
BARE = HostLink(5, "bare", 1500, True)
FLANNEL = HostLink(6, "flannel.1", 1450, True, "vxlan")
RENAMED = HostLink(7, "overlay", 1450, True, "vxlan", OWN_ALIAS + "blue")
NO_MTU = HostLink(8, "odd", 0, True)
LINKS = (LO, ETH0, E1, DOWN, BARE, FLANNEL, RENAMED, NO_MTU)


def address(link: HostLink, text: str, *, deprecated: bool = False) -> HostAddress:
    ip, _, length = text.partition("/")
    return HostAddress(link.ifindex, parse_ip(ip), int(length or 32), deprecated)


ADDRESSES = (
    address(LO, "127.0.0.1/8"),
    address(LO, "10.255.0.1/32"),
    address(ETH0, "192.168.77.1/24"),
    address(ETH0, "10.99.0.5/24"),
    address(E1, "172.16.0.9/24"),
    address(E1, "10.99.0.5/24"),
    address(DOWN, "172.30.0.1/24"),
    address(FLANNEL, "10.5.25.0/32"),
    address(RENAMED, "10.6.25.0/32"),
    address(NO_MTU, "10.77.0.1/24"),
)


def route(
    dst: str, link: HostLink | None, *, via: str = "", kind: int = 1, metric: int = 0, protocol: int = 3, src: str = ""
) -> HostRoute:
    subnet = Subnet.parse(dst)
    gateway, prefsrc = (parse_ip(text) if text else 0 for text in (via, src))
    ifindex = link.ifindex if link else 0
    return HostRoute(subnet.base, subnet.length, ifindex, gateway, protocol, kind, metric, prefsrc)


def default(link: HostLink | None, **more: Any) -> HostRoute:
    return route("0.0.0.0/0", link, **more)


def view(*routes: HostRoute, addresses: tuple[HostAddress, ...] = ADDRESSES) -> HostView:
    return HostView(LINKS, addresses, routes)


def chosen(seen: HostView, **wish: Any) -> tuple[str, str]:
    uplink = choose_uplink(seen, **wish)
    assert uplink.public_ip == uplink.address
    return uplink.name, ".".join(str(part) for part in uplink.address.to_bytes(4, "big"))


DEFAULTS = {
    "via a gateway": (default(ETH0, via="192.168.77.254"),),
    "without a gateway": (default(ETH0),),
    "lowest metric, whatever the order": (default(E1, metric=100), default(ETH0, metric=50)),
    "first in kernel order among equals": (default(ETH0, metric=5), default(E1, metric=5)),
    "past the overlay's own": (default(FLANNEL), default(RENAMED), default(ETH0, metric=900)),
    "past one that leads nowhere at a high metric": (default(None, kind=7, metric=4278198272), default(ETH0, metric=9)),
}


@pytest.mark.parametrize("routes", DEFAULTS.values(), ids=DEFAULTS.keys())
def test_nothing_asked_for_is_the_interface_of_the_default_route(routes: tuple[HostRoute, ...]) -> None:
    assert chosen(view(*routes)) == ("eth0", "192.168.77.1")


NO_DEFAULT = {
    "none": ((), "no IPv4 default route"),
    "halves only": ((route("0.0.0.0/1", ETH0), route("128.0.0.0/1", ETH0)), "no IPv4 default route"),
    "flannel's own only": ((default(FLANNEL),), "no IPv4 default route"),
    "several next hops": ((default(None), default(ETH0, metric=9)), "several next hops"),
    "blackhole": ((default(None, kind=6),), "blackhole"),
    "unreachable": ((default(None, kind=7),), "unreachable"),
    "interface without address": ((default(BARE),), "bare .* no usable IPv4 address"),
    "interface without MTU": ((default(NO_MTU),), "odd has no MTU"),
}


@pytest.mark.parametrize(("routes", "text"), NO_DEFAULT.values(), ids=NO_DEFAULT.keys())
def test_a_default_route_that_names_no_interface_is_waited_for(routes: tuple[HostRoute, ...], text: str) -> None:
    with pytest.raises(InterfaceMissing, match=text) as caught:
        choose_uplink(view(*routes))
    assert caught.value.message.isprintable()


RANKING = {
    "first in kernel order": (("192.168.77.1/24", "10.99.0.5/24"), (), "192.168.77.1"),
    "link-local after global": (("169.254.3.3/16", "10.99.0.5/24", "192.168.77.1/24"), (), "10.99.0.5"),
    "link-local as the last resort": (("169.254.9.9/16",), (), "169.254.9.9"),
    "deprecated skipped": (("172.30.0.5/24", "172.30.0.6/24"), ("172.30.0.5/24",), "172.30.0.6"),
    "link-local before deprecated": (("172.30.0.5/24", "169.254.9.9/16"), ("172.30.0.5/24",), "169.254.9.9"),
    "loopback never": (("127.0.0.9/8", "10.1.1.1/24"), (), "10.1.1.1"),
}


@pytest.mark.parametrize(("texts", "old", "want"), RANKING.values(), ids=RANKING.keys())
def test_the_address_of_an_interface_is_ranked(texts: tuple[str, ...], old: tuple[str, ...], want: str) -> None:
    addresses = tuple(address(ETH0, text, deprecated=text in old) for text in texts)
    assert chosen(view(default(ETH0), addresses=addresses)) == ("eth0", want)
    assert chosen(view(addresses=addresses), iface=("eth0",)) == ("eth0", want)


WISHES: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "by name": ({"iface": ("e1",)}, ("e1", "172.16.0.9")),
    "by name though down": ({"iface": ("spare",)}, ("spare", "172.30.0.1")),
    "by address": ({"iface": ("192.168.77.1",)}, ("eth0", "192.168.77.1")),
    "by a second address": ({"iface": ("172.16.0.9",)}, ("e1", "172.16.0.9")),
    "by an address that two have": ({"iface": ("10.99.0.5",)}, ("eth0", "10.99.0.5")),
    "by a loopback address": ({"iface": ("127.0.0.1",)}, ("lo", "127.0.0.1")),
    "first that works": ({"iface": ("nope", "9.9.9.9", "e1", "eth0")}, ("e1", "172.16.0.9")),
    "regex by address before name": ({"iface_regex": ("^e1$|^192",)}, ("eth0", "192.168.77.1")),
    "regex picks the address it matched": ({"iface_regex": (r"^10\.99\.",)}, ("eth0", "10.99.0.5")),
    "regex by name": ({"iface_regex": ("^spa",)}, ("spare", "172.30.0.1")),
    "regexes in order": ({"iface_regex": ("zzz", "pare", "eth")}, ("spare", "172.30.0.1")),
    "a broken regex is passed over": ({"iface_regex": ("(", "eth")}, ("eth0", "192.168.77.1")),
    "names before regexes": ({"iface": ("e1",), "iface_regex": ("eth0",)}, ("e1", "172.16.0.9")),
    "regexes before reach": ({"iface_regex": ("eth0",), "iface_can_reach": "8.8.8.8"}, ("eth0", "192.168.77.1")),
    "reach by the longest prefix": ({"iface_can_reach": "8.8.8.8"}, ("e1", "172.16.0.9")),
    "reach by the lowest metric": ({"iface_can_reach": "9.1.1.1"}, ("spare", "172.30.0.1")),
    "reach by the default": ({"iface_can_reach": "1.1.1.1"}, ("eth0", "192.168.77.1")),
    "reach with the route's source": ({"iface_can_reach": "7.7.7.7"}, ("eth0", "10.99.0.5")),
    "reach of an own address": ({"iface_can_reach": "172.30.0.1"}, ("spare", "172.30.0.1")),
    "reach never by the overlay": ({"iface_can_reach": "10.5.9.9"}, ("eth0", "192.168.77.1")),
}


@pytest.mark.parametrize(("wish", "want"), WISHES.values(), ids=WISHES.keys())
def test_a_wish_is_followed(wish: dict[str, Any], want: tuple[str, str]) -> None:
    seen = view(
        default(ETH0),
        route("8.0.0.0/8", ETH0),
        route("8.8.0.0/16", E1),
        route("9.0.0.0/8", E1, metric=9),
        route("9.0.0.0/8", DOWN, metric=3),
        route("7.0.0.0/8", ETH0, src="10.99.0.5"),
        route("10.5.0.0/16", FLANNEL),
    )
    assert chosen(seen, **wish) == want


FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "unknown name": ({"iface": ("nope",)}, "no interface nope"),
    "address nobody has": ({"iface": ("9.9.9.9",)}, "no interface has the address 9.9.9.9"),
    "loopback by name": ({"iface": ("bare",)}, "bare .* no usable"),
    "every failure is named": ({"iface": ("nope",), "iface_regex": ("zzz",)}, "nope.*; .*zzz"),
    "regex matches the overlay alone": ({"iface_regex": (r"^flannel|^overlay|^10\.[56]\.",)}, "matches"),
    "regex matches loopback alone": ({"iface_regex": ("^127|^lo$|^bare$",)}, "matches --iface-regex"),
    "broken regex": ({"iface_regex": ("(",)}, "no regular expression"),
    "reach without route": ({"iface_can_reach": "200.1.1.1"}, "no route to 200.1.1.1"),
    "reach by a blackhole": ({"iface_can_reach": "6.6.6.6"}, "blackhole"),
    "reach of no address": ({"iface_can_reach": "fe80::1"}, "no IPv4 address"),
}


@pytest.mark.parametrize(("wish", "text"), FAILING.values(), ids=FAILING.keys())
def test_a_wish_that_fails_does_not_fall_back_to_the_default_route(wish: dict[str, Any], text: str) -> None:
    addresses = tuple(item for item in ADDRESSES if item.address != parse_ip("10.255.0.1"))
    seen = view(route("0.0.0.0/1", ETH0), route("6.0.0.0/8", None, kind=6), addresses=addresses)
    with pytest.raises(InterfaceMissing, match=text) as caught:
        choose_uplink(seen, **wish)
    assert caught.value.message.isprintable()


def test_a_public_ip_is_published_and_chooses_nothing() -> None:
    uplink = choose_uplink(view(default(ETH0)), public_ip="172.16.0.9")
    assert uplink == Uplink(
        "eth0", 2, 1500, parse_ip("192.168.77.1"), parse_ip("172.16.0.9"), ((0, 0),), ()
    )  # fmt: skip


@pytest.mark.parametrize("text", ["bogus", "fe80::1", "0.0.0.0", "224.0.0.1", "127.0.0.1", "255.255.255.255"])
def test_a_public_ip_that_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--public-ip"):
        choose_uplink(view(default(ETH0)), public_ip=text)


def test_what_is_directly_reachable_follows_the_longest_route() -> None:
    uplink = choose_uplink(
        view(
            default(ETH0, via="192.168.77.254"),
            route("192.168.77.0/24", ETH0, protocol=2),
            route("192.168.77.128/25", ETH0, via="192.168.77.2"),
            route("192.168.77.200/32", ETH0),
            route("172.16.0.0/24", E1, protocol=2),
            route("192.168.77.64/26", ETH0, via="192.168.77.3", protocol=RT_PROTOCOL),
        )
    )
    reached = {text: uplink.reaches(parse_ip(text)) for text in (
        "192.168.77.2", "192.168.77.70", "192.168.77.129", "192.168.77.200", "172.16.0.1", "8.8.8.8")}  # fmt: skip
    assert reached == {
        "192.168.77.2": True,
        "192.168.77.70": True,  # our own route is no reason: it comes and goes with a peer
        "192.168.77.129": False,
        "192.168.77.200": True,
        "172.16.0.1": False,
        "8.8.8.8": False,
    }
