"""What on a host stands in a network's way, and what does not."""

from __future__ import annotations

import pytest

from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.clashes import host_clashes
from flannel_worker.kernel.host import HostLink, HostRoute, HostView, VxlanConfig
from flannel_worker.kernel.objects import OWN_ALIAS, RT_PROTOCOL, OwnLink
from tests.unit.backends.places import UPLINK, config

ETH0 = HostLink(2, "eth0", 1500, True)
ETH1 = HostLink(3, "eth1", 1500, True)
DOCKER0 = HostLink(4, "docker0", 1500, True, "bridge")
POD = HostLink(5, "veth12", 1500, True, "veth")
VXLAN = VxlanConfig(1, ETH0.ifindex, UPLINK.address, 8472, learning=False, gbp=False)
FLANNEL = HostLink(9, "flannel.1", 1450, True, "vxlan", "", VXLAN)
TUN = HostLink(10, "flannel0", 1472, True, "tun", f"{OWN_ALIAS}blue")
LINKS = (ETH0, ETH1, DOCKER0, POD, FLANNEL, TUN)
OWN = Subnet.parse("10.5.7.0/24")
LEASED = (OWN, Subnet.parse("10.5.34.0/24"))

KERNEL, BOOT, STATIC, BLACKHOLE = 2, 3, 4, 6


def route(
    dst: str, link: HostLink | None = ETH0, *, via: str = "", protocol: int = STATIC, kind: int = 1, metric: int = 0
) -> HostRoute:
    subnet = Subnet.parse(dst)
    gateway = parse_ip(via) if via else 0
    return HostRoute(subnet.base, subnet.length, link.ifindex if link else 0, gateway, protocol, kind, metric)


def device(backend: str) -> OwnLink | None:
    return backend_for(config(backend)).link(UPLINK, network="blue", mac=b"")


def lines(
    *routes: HostRoute,
    backend: str = '{"Type":"vxlan"}',
    own: Subnet | None = OWN,
    links: tuple[HostLink, ...] = LINKS,
    former: Subnet | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = host_clashes(
        config(backend),
        HostView(links, (), routes),
        UPLINK,
        device=device(backend),
        leased=LEASED,
        own_subnet=own,
        former=former,
    )
    assert all(line.isprintable() for line in (*found.blocking, *found.warnings))
    return found


UDP = '{"Type":"udp"}'
HOST_GW, DIRECT = '{"Type":"host-gw"}', '{"Type":"vxlan","DirectRouting":true}'
HARMLESS = {
    "default": (route("0.0.0.0/0", via="192.168.77.254"), '{"Type":"vxlan"}'),
    "corporate": (route("10.0.0.0/8", via="192.168.77.254"), '{"Type":"vxlan"}'),
    "one bit wider": (route("10.4.0.0/15", via="192.168.77.254"), '{"Type":"vxlan"}'),
    "beside": (route("10.6.0.0/16", via="192.168.77.254"), '{"Type":"vxlan"}'),
    "our mark": (route("10.5.34.0/24", ETH0, via="192.168.77.2", protocol=RT_PROTOCOL), '{"Type":"vxlan"}'),
    "our mark, no link": (route("10.5.99.0/24", None, protocol=RT_PROTOCOL), '{"Type":"vxlan"}'),
    "flannel 0.7 Network on our device": (route("10.5.0.0/16", FLANNEL, protocol=BOOT), '{"Type":"vxlan"}'),
    "flannel 0.5 Network on our device": (route("10.5.0.0/16", FLANNEL, protocol=KERNEL), '{"Type":"vxlan"}'),
    "flannel 0.28 peer": (route("10.5.34.0/24", FLANNEL, via="10.5.34.0", protocol=BOOT), '{"Type":"vxlan"}'),
    "flannel's host-gw peer": (route("10.5.34.0/24", ETH0, via="192.168.77.9", protocol=BOOT), HOST_GW),
    "flannel's host-gw blackhole": (route("10.5.34.0/24", None, kind=BLACKHOLE, protocol=BOOT), HOST_GW),
    "flannel's direct route": (route("10.5.34.0/24", ETH0, via="192.168.77.9", protocol=BOOT), DIRECT),
    "anything on our own TUN": (route("10.5.0.0/16", TUN, protocol=STATIC), UDP),
    "docker0 on the own subnet": (route("10.5.7.0/24", DOCKER0, protocol=KERNEL), '{"Type":"vxlan"}'),
    "a part of the own subnet": (route("10.5.7.128/25", DOCKER0, protocol=KERNEL), '{"Type":"vxlan"}'),
    "one container of the own subnet": (route("10.5.7.5/32", POD, protocol=BOOT), HOST_GW),
}


@pytest.mark.parametrize(("item", "backend"), HARMLESS.values(), ids=HARMLESS.keys())
def test_no_clash(item: HostRoute, backend: str) -> None:
    assert lines(item, backend=backend) == ((), ())


BLOCKING = {
    "equal to Network": (route("10.5.0.0/16", via="192.168.77.254"), '{"Type":"vxlan"}'),
    "equal at a high metric": (route("10.5.0.0/16", ETH1, metric=5000), '{"Type":"vxlan"}'),
    "inside": (route("10.5.128.0/17", ETH1), '{"Type":"vxlan"}'),
    "another NIC's network": (route("10.5.9.0/24", ETH1, protocol=KERNEL), '{"Type":"vxlan"}'),
    "one host": (route("10.5.9.9/32", via="192.168.77.3"), '{"Type":"vxlan"}'),
    "blackhole": (route("10.5.34.0/24", None, kind=BLACKHOLE), HOST_GW),
    "several next hops": (route("10.5.34.0/24", None), HOST_GW),
    "a bridge wider than a lease": (route("10.5.0.0/20", DOCKER0, protocol=KERNEL), '{"Type":"vxlan"}'),
    "a route by way of a container": (route("10.5.34.0/24", DOCKER0, via="10.5.7.9"), '{"Type":"vxlan"}'),
    "flannel's host-gw route, but nobody's lease": (
        route("10.5.99.0/24", ETH0, via="192.168.77.9", protocol=BOOT), HOST_GW),
    "flannel's host-gw route on another NIC": (
        route("10.5.34.0/24", ETH1, via="172.16.0.9", protocol=BOOT), HOST_GW),
    "an operator's static route to a leased subnet": (
        route("10.5.34.0/24", ETH0, via="192.168.77.9", protocol=STATIC), HOST_GW),
    "flannel's host-gw route under plain vxlan": (
        route("10.5.34.0/24", ETH0, via="192.168.77.9", protocol=BOOT), '{"Type":"vxlan"}'),
    "the own subnet leads out": (route("10.5.7.0/24", ETH0, via="192.168.77.9"), '{"Type":"vxlan"}'),
}  # fmt: skip


@pytest.mark.parametrize(("item", "backend"), BLOCKING.values(), ids=BLOCKING.keys())
def test_a_foreign_route_inside_blocks_with_one_line_that_names_both(item: HostRoute, backend: str) -> None:
    (line,), warnings = lines(item, backend=backend)
    assert warnings == ()
    assert line.startswith("Network 10.5.0.0/16 clashes with the host's route 10.5.")
    assert line.endswith("choose another Network")
    assert ("delete the route" in line) == (item.protocol != KERNEL), "a connected route is the host's own way out"


@pytest.mark.parametrize("alias", ["", f"{OWN_ALIAS}green"])
def test_a_route_on_the_tun_of_a_flannel_that_runs_says_what_to_stop(alias: str) -> None:
    theirs = HostLink(11, "flannel1", 1472, True, "tun", alias)
    (line,), _ = lines(route("10.5.0.0/16", theirs, protocol=KERNEL), backend=UDP, links=(*LINKS, theirs))
    assert line.endswith("dev flannel1: stop the flannel that has flannel1, or choose another Network")


def test_a_route_is_shown_with_its_way() -> None:
    (line,), _ = lines(route("10.5.9.0/24", ETH1, via="172.16.0.9"))
    assert "10.5.9.0/24 via 172.16.0.9 dev eth1:" in line


def test_the_same_clash_is_one_line() -> None:
    twice = route("10.5.9.0/24", ETH1, metric=1), route("10.5.9.0/24", ETH1, metric=2)
    assert len(lines(*twice)[0]) == 1


def test_a_bridge_on_an_old_lease_is_a_warning() -> None:
    blocking, (line,) = lines(route("10.5.99.0/24", DOCKER0, protocol=KERNEL))
    assert blocking == ()
    assert line.startswith("bridge docker0 stands on 10.5.99.0/24 of Network 10.5.0.0/16")
    assert "this host's subnet is 10.5.7.0/24" in line


def test_a_bridge_on_the_subnet_of_a_config_before_is_a_warning_though_it_is_wider_than_a_lease() -> None:
    wide = route("10.5.96.0/20", DOCKER0, protocol=KERNEL)
    assert len(lines(wide, own=None)[0]) == 1
    blocking, (line,) = lines(wide, own=None, former=Subnet.parse("10.5.96.0/20"))
    assert blocking == ()
    assert line.startswith("bridge docker0 stands on 10.5.96.0/20")


def test_before_the_first_lease_a_bridge_on_any_lease_is_none() -> None:
    assert lines(route("10.5.34.0/24", DOCKER0, protocol=KERNEL), own=None) == ((), ())
    blocking, (line,) = lines(route("10.5.99.0/24", DOCKER0, protocol=KERNEL), own=None)
    assert blocking == ()
    assert "nobody leases that now" in line


@pytest.mark.parametrize(
    ("address", "public", "what"),
    [("10.5.1.1", "10.5.1.1", "the address 10.5.1.1"), ("192.168.77.1", "10.5.1.1", "the public IP 10.5.1.1")],
)
def test_an_own_address_inside_network_blocks(address: str, public: str, what: str) -> None:
    uplink = UPLINK._replace(address=parse_ip(address), public_ip=parse_ip(public))
    found = host_clashes(
        config('{"Type":"vxlan"}'),
        HostView(LINKS, (), ()),
        uplink,
        device=None,
        leased=(),
        own_subnet=None,
    )
    (line,) = found.blocking
    assert line.startswith(f"Network 10.5.0.0/16 holds {what} of eth0: ")


def test_a_device_that_stands_in_the_way_of_the_own_blocks() -> None:
    bridge = HostLink(9, "flannel.1", 1500, True, "bridge", "mine, do not touch")
    tunnel = HostLink(10, "tunnel", 1450, True, "vxlan", "", VXLAN)
    blocking, warnings = lines(links=(ETH0, bridge, tunnel))
    assert [line.partition(":")[0] for line in blocking] == [
        'device flannel.1 clashes with the host\'s bridge of that name (alias "mine, do not touch")',
        "VNI 1 on port 8472 clashes with the host's vxlan device tunnel",
    ]
    assert warnings == ()


def test_a_network_without_a_device_has_none_in_its_way() -> None:
    assert lines(links=(ETH0, HostLink(10, "tunnel", 1450, True, "vxlan", "", VXLAN)), backend=HOST_GW) == ((), ())


def test_a_route_on_another_networks_device_of_our_name_is_foreign() -> None:
    greens = FLANNEL._replace(alias=OWN_ALIAS + "green")
    blocking, _ = lines(route("10.5.0.0/16", FLANNEL, protocol=BOOT), links=(ETH0, greens))
    assert ["flannel.1 is marked" in line for line in blocking] == [True, False]
    assert "route 10.5.0.0/16 dev flannel.1" in blocking[1]
