"""A host that real flannel served is taken over: device kept, no wanted route ever gone (spec §0, §7.2, §7.3)."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from flannel_multi.model.subnet import parse_ip
from flannel_worker.kernel.objects import NEXTHOPS_FROM, KernelObject, LinkState, Nexthop, Route, Scope, nexthop_id
from flannel_worker.kernel.reconcile import Outcome
from flannel_worker.kernel.wanted import Wanted
from tests.kernel.monitor import route_monitor
from tests.kernel.place import (
    NETWORK,
    ask,
    forwarding,
    neighbours,
    peer,
    peers,
    reconciler,
    routes,
    run,
    scope,
    subnet,
    uplink,
    vxlan,
)

PEERS = (34, 35)
DEVICE = [
    "ip link add flannel.1 address 02:00:00:00:00:bb type vxlan id 1 dev eth0 local 192.168.77.1 dstport 8472 "
    "nolearning",
    "ip link set flannel.1 up",
]
FDB = [f"bridge fdb add 02:00:00:00:00:{n:02x} dev flannel.1 dst 192.168.77.{n}" for n in PEERS]
GONE_PEER = ["bridge fdb add 02:00:00:00:00:63 dev flannel.1 dst 192.168.77.99"]
MISSES = [f"ip neigh add 10.5.{n}.1 lladdr 02:00:00:00:00:{n:02x} dev flannel.1 nud reachable" for n in PEERS]

AS_0_5 = [*DEVICE, "ip address add 10.5.1.0/16 dev flannel.1", *FDB, *GONE_PEER, *MISSES]
AS_0_7 = [
    *DEVICE,
    "ip address add 10.5.1.0/32 dev flannel.1",
    "ip address add 10.5.72.0/32 dev flannel.1",  # of the lease before
    "ip route add 10.5.0.0/16 dev flannel.1",
    *FDB,
    *GONE_PEER,
    *MISSES,
]
AS_0_28 = [
    *DEVICE,
    "ip address add 10.5.1.0/32 dev flannel.1",
    *FDB,
    *GONE_PEER,
    *(f"ip neigh add 10.5.{n}.0 lladdr 02:00:00:00:00:{n:02x} dev flannel.1 nud permanent" for n in (*PEERS, 99)),
    *(f"ip route add 10.5.{n}.0/24 via 10.5.{n}.0 dev flannel.1 onlink" for n in (*PEERS, 99)),
]


def reachable() -> None:
    """The kernel sends packets for every peer into the device, by a neighbour that leads to the peer's host."""
    for number in PEERS:
        (way,) = ask(f"ip -j route get 10.5.{number}.7")
        assert (way["dev"], way["gateway"]) == ("flannel.1", f"10.5.{number}.0")
        mac, state = neighbours()[f"10.5.{number}.0"]
        assert state == "PERMANENT"
        assert forwarding()[mac] == f"192.168.77.{number}"


@pytest.mark.parametrize("left", [AS_0_5, AS_0_7, AS_0_28], ids=["0.5", "0.7", "0.28"])
def test_a_vxlan_host_is_taken_over_in_place(left: list[str]) -> None:
    for command in left:
        run(command)
    setting = Path("/proc/sys/net/ipv4/neigh/flannel.1/app_solicit")
    setting.write_text("3")
    before = ask("ip -j link show flannel.1")[0]
    started_with = routes()

    async def story() -> tuple[LinkState, Outcome]:
        async with reconciler() as opened:
            await opened.host()
            link = await opened.ensure_link(vxlan())
            outcome = await opened.ensure(peers(link, *PEERS), scope(link))
            again = await opened.ensure(peers(link, *PEERS), scope(link))
            assert again.sent == 0
            return link, outcome

    with route_monitor() as monitor:
        link, outcome = asyncio.run(story())
        deleted = monitor.deleted()
    assert outcome.refused == ()
    assert (link.ifindex, link.mac.hex(":")) == (before["ifindex"], before["address"])
    reachable()
    assert not {f"10.5.{n}.0/24" for n in PEERS} & set(deleted), "a moment without a wanted route"
    assert set(routes()) - set(started_with) <= {f"10.5.{n}.0/24" for n in PEERS}
    assert set(routes(device="flannel.1")) == {f"10.5.{n}.0/24" for n in PEERS}
    assert {route["protocol"] for route in routes(device="flannel.1").values()} == {"102"}
    addresses = ask("ip -4 -j address show dev flannel.1")[0]["addr_info"]
    assert [(row["local"], row["prefixlen"]) for row in addresses] == [("10.5.1.0", 32)]
    assert set(neighbours()) == {f"10.5.{n}.0" for n in PEERS}
    assert len(forwarding()) == len(PEERS)
    assert setting.read_text() == "0\n"


def test_the_wide_route_of_0_7_goes_only_after_every_peers_own() -> None:
    for command in AS_0_7:
        run(command)

    async def story() -> None:
        async with reconciler() as opened:
            link = await opened.ensure_link(vxlan())
            await opened.ensure(peers(link, *PEERS), scope(link))

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0) as events:
        events.bind((0, 0x40))  # RTMGRP_IPV4_ROUTE
        asyncio.run(story())
        kinds = []
        while len(kinds) < len(PEERS) + 1:
            kinds.append(int.from_bytes(events.recv(65536)[4:6], "little" if socket.htons(1) != 1 else "big"))
    assert kinds == [24] * len(PEERS) + [25]


@pytest.mark.parametrize("form", ["via 192.168.77.{n} dev eth0", "via 192.168.77.{n}"])
def test_a_host_gw_host_is_taken_over_in_place(form: str) -> None:
    for number in (*PEERS, 99):
        run(f"ip route add 10.5.{number}.0/24 {form.format(n=number)}")

    async def story() -> None:
        async with reconciler() as opened:
            wanted = Wanted()
            for number in PEERS:
                wanted.put(number, [Route(subnet(number).base, 24, uplink(), parse_ip("192.168.77.0") + number)])
            leased = frozenset((subnet(number).base, 24) for number in (1, *PEERS))
            mine = Scope(0, uplink(), NETWORK, leased)
            assert (await opened.ensure(wanted, mine)).sent == len(PEERS)
            assert (await opened.ensure(wanted, mine)).sent == 0

    with route_monitor() as monitor:
        asyncio.run(story())
        assert monitor.deleted() == []
    found = {dst: route for dst, route in routes().items() if dst.startswith("10.5.")}
    assert {dst: route.get("protocol") for dst, route in found.items()} == {
        "10.5.34.0/24": "102",
        "10.5.35.0/24": "102",
        "10.5.99.0/24": None,  # leased to nobody: not ours to judge (ip does not show "boot")
    }


def test_direct_routes_of_flannel_are_taken_over_too() -> None:
    for command in AS_0_28:
        run(command)
    run("ip route replace 10.5.34.0/24 via 192.168.77.34 dev eth0")

    async def story() -> None:
        async with reconciler() as opened:
            link = await opened.ensure_link(vxlan())
            wanted = peers(link, 35)
            wanted.put(subnet(34), [Route(subnet(34).base, 24, uplink(), parse_ip("192.168.77.34"))])
            mine = scope(link, frozenset((subnet(n).base, 24) for n in PEERS))
            assert (await opened.ensure(wanted, mine)).refused == ()
            assert (await opened.ensure(wanted, mine)).sent == 0
            await opened.update(wanted, wanted.put(subnet(34), peer(link, 34)))
            assert routes()["10.5.34.0/24"]["dev"] == "flannel.1"

    with route_monitor() as monitor:
        asyncio.run(story())
        assert not {f"10.5.{n}.0/24" for n in PEERS} & set(monitor.deleted())


def test_a_network_grows_into_nexthop_objects_and_back_without_losing_a_route() -> None:
    count = NEXTHOPS_FROM

    def many(link: LinkState, *, through_object: bool) -> Wanted:
        wanted = Wanted()
        for number in range(count):
            base = parse_ip("10.5.16.0") + 4 * number
            through = nexthop_id(base)
            whole = peer_at(link, base, through if through_object else 0)
            wanted.put(number, whole)
        return wanted

    async def story() -> None:
        async with reconciler() as opened:
            await opened.host()
            link = await opened.ensure_link(vxlan())
            mine = scope(link)
            await opened.ensure(many(link, through_object=False), mine)
            with route_monitor() as monitor:
                for through_object in (True, False):
                    wanted = many(link, through_object=through_object)
                    assert (await opened.ensure(wanted, mine)).refused == ()
                    shown = ask("ip -j route show dev flannel.1")
                    assert len(shown) == count
                    assert all(("nhid" in route) == through_object for route in shown)
                    assert len(ask("ip -j nexthop show")) == (count if through_object else 0)
                    assert (await opened.ensure(wanted, mine)).sent == 0
                assert monitor.deleted() == []

    asyncio.run(story())


def peer_at(link: LinkState, base: int, through: int) -> list[KernelObject]:
    route = Route(base, 30, link.ifindex, base, onlink=True, nexthop=through)
    return [Nexthop(through, link.ifindex, base, onlink=True), route] if through else [route]
