"""What others do to us is noticed within a second and put right; what does not concern us wakes nobody."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import time
from typing import Any

import pytest

from flannel_multi.model.subnet import parse_ip
from flannel_worker.kernel.events import Drift, HostChanged
from flannel_worker.kernel.objects import LinkState, Route, Scope, nexthop_id
from flannel_worker.kernel.reconcile import Reconciler
from flannel_worker.kernel.wanted import Wanted
from flannel_worker.kernel.watch import QUIET_S
from tests.kernel.place import (
    NETWORK,
    ask,
    forwarding,
    neighbours,
    next_drift,
    peer,
    peers,
    quiet,
    reconciler,
    routes,
    run,
    scope,
    subnet,
    uplink,
    vxlan,
)

MAC_34 = "02:00:00:00:00:22"
OTHER_MAC = "02:00:00:00:99:99"


def state() -> list[Any]:
    links = ask("ip -j link show flannel.1")[0]
    addresses = ask("ip -4 -j address show dev flannel.1")[0]["addr_info"]
    held = {(row["local"], row["prefixlen"]) for row in addresses}
    return [
        links["mtu"],
        links["ifalias"],
        links["flags"],
        held,
        routes(device="flannel.1"),
        neighbours(),
        forwarding(),
    ]


async def built(opened: Reconciler, *, through_object: bool = False) -> tuple[LinkState, Wanted]:
    await opened.host()
    link = await opened.ensure_link(vxlan())
    wanted = peers(link, 34, 35, through_object=through_object)
    await opened.ensure(wanted, scope(link))
    return link, wanted


async def repaired(opened: Reconciler, wanted: Wanted, *, through_object: bool) -> None:
    link = await opened.ensure_link(vxlan())
    wanted = peers(link, 34, 35, through_object=through_object)  # what a backend says for a new ifindex
    assert (await opened.ensure(wanted, scope(link))).refused == ()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("ip route del 10.5.34.0/24", "route 10.5.34.0/24 via 10.5.34.0 dev flannel.1( nhid [0-9]+)? deleted"),
        ("ip route replace 10.5.34.0/24 via 192.168.77.9", "route 10.5.34.0/24 via 192.168.77.9 dev eth0 appeared"),
        ("ip route replace blackhole 10.5.34.0/24", "route 10.5.34.0/24 appeared"),
        ("ip route prepend 10.5.34.0/24 via 192.168.77.9", "route 10.5.34.0/24 via 192.168.77.9 dev eth0 appeared"),
        ("ip route add 10.5.99.0/24 dev flannel.1", "route 10.5.99.0/24 dev flannel.1 appeared"),
        ("ip route add 10.5.98.0/24 dev far proto 102", "route 10.5.98.0/24 dev far appeared"),
        ("ip neigh del 10.5.34.0 dev flannel.1", "neighbour 10.5.34.0 dev flannel.1 changed"),
        (
            f"ip neigh replace 10.5.34.0 lladdr {OTHER_MAC} dev flannel.1 nud permanent",
            f"neighbour 10.5.34.0 lladdr {OTHER_MAC} dev flannel.1 changed",
        ),
        (
            f"ip neigh replace 10.5.34.0 lladdr {MAC_34} dev flannel.1 nud reachable",
            "neighbour 10.5.34.0 dev flannel.1 changed",
        ),
        (
            f"ip neigh add 10.5.34.9 lladdr {OTHER_MAC} dev flannel.1 nud permanent",
            f"neighbour 10.5.34.9 lladdr {OTHER_MAC} dev flannel.1 appeared",
        ),
        (f"bridge fdb del {MAC_34} dev flannel.1", f"FDB entry {MAC_34} dst 192.168.77.34 dev flannel.1 deleted"),
        (
            f"bridge fdb replace {MAC_34} dev flannel.1 dst 192.168.77.9",
            f"FDB entry {MAC_34} dst 192.168.77.9 dev flannel.1 changed",
        ),
        (
            f"bridge fdb replace {MAC_34} dev flannel.1 dst 192.168.77.34 port 4789",
            f"FDB entry {MAC_34} dev flannel.1 changed",
        ),
        (
            f"bridge fdb add {OTHER_MAC} dev flannel.1 dst 192.168.77.9",
            f"FDB entry {OTHER_MAC} dst 192.168.77.9 dev flannel.1 appeared",
        ),
        ("ip address del 10.5.1.0/32 dev flannel.1", "address 10.5.1.0/32 dev flannel.1 deleted"),
        ("ip address add 10.5.7.7/32 dev flannel.1", "address 10.5.7.7/32 dev flannel.1 appeared"),
        ("ip link set flannel.1 down", "link flannel.1 changed: up is False"),
        ("ip link set flannel.1 mtu 1400", "link flannel.1 changed: mtu is 1400"),
        ("ip link set flannel.1 alias mine", "link flannel.1 changed: alias is mine"),
        ("ip link del flannel.1", "link flannel.1 (deleted|changed: up is False)"),
        ("ip link del eth0", "link flannel.1 (deleted|changed: up is False)"),
    ],
)
@pytest.mark.parametrize("through_object", [False, True])
def test_drift_is_named_and_put_right(command: str, text: str, through_object: bool) -> None:
    async def story() -> None:
        async with reconciler() as opened:
            _, wanted = await built(opened, through_object=through_object)
            before = state()
            assert await quiet(opened, 0.06) is None, "own changes are no drift"
            run(command)
            told = await next_drift(opened)
            assert re.fullmatch(text, told), told
            if command == "ip link del eth0":
                return
            await repaired(opened, wanted, through_object=through_object)
            assert state() == before
            if "prepend" in command:
                assert len(ask("ip -j route show 10.5.34.0/24")) == 1
            assert "10.5.98.0/24" not in routes()

    asyncio.run(story())


def test_a_deleted_nexthop_object_is_drift_and_its_route_comes_back() -> None:
    async def story() -> None:
        async with reconciler() as opened:
            link, wanted = await built(opened, through_object=True)
            before = state()
            number = nexthop_id(subnet(34).base)
            run(f"ip nexthop del id {number}")
            assert "10.5.34.0/24" not in routes(), "the kernel takes the route with it"
            assert await next_drift(opened) == f"nexthop {number} via 10.5.34.0 dev flannel.1 deleted"
            await opened.ensure(wanted, scope(link))
            assert state() == before

    asyncio.run(story())


def test_repair_ends_well_under_a_second_after_the_damage() -> None:
    async def story() -> None:
        async with reconciler() as opened:
            link, wanted = await built(opened)
            run("ip route del 10.5.34.0/24")
            started = time.monotonic()
            await next_drift(opened)
            await opened.ensure(wanted, scope(link))
            assert time.monotonic() - started < 0.5
            assert "10.5.34.0/24" in routes()

    asyncio.run(story())


def test_host_gw_hears_of_all_that_silently_takes_its_routes() -> None:
    async def story() -> None:
        async with reconciler() as opened:
            await opened.host()
            wanted = Wanted()
            wanted.put(34, [Route(subnet(34).base, 24, uplink(), parse_ip("192.168.77.34"))])
            mine = Scope(0, uplink(), NETWORK, frozenset({(subnet(34).base, 24)}))
            await opened.ensure(wanted, mine)
            for damage, repair, text in [
                ("ip link set eth0 down", "ip link set eth0 up", "link eth0 changed"),
                (
                    "ip address del 192.168.77.1/24 dev eth0",
                    "ip address add 192.168.77.1/24 dev eth0",
                    "address 192.168.77.1/24 dev eth0 deleted",
                ),
            ]:
                run(damage)
                assert "10.5.34.0/24" not in routes()
                assert await next_drift(opened) == text
                refused = (await opened.ensure(wanted, mine)).refused
                assert [error.message.split(" refused")[0] for error in refused] == [
                    "route 10.5.34.0/24 via 192.168.77.34 dev eth0"
                ]
                run(repair)
                await next_drift(opened)
                assert (await opened.ensure(wanted, mine)).refused == ()
                assert "10.5.34.0/24" in routes()

    asyncio.run(story())


@pytest.mark.parametrize(
    "command",
    [
        "ip link set eth0 mtu 1400",
        "ip link set eth0 down",
        "ip address add 192.168.78.1/24 dev eth0",
        "ip address del 192.168.77.1/24 dev eth0",
        "ip route add 10.77.0.0/16 via 192.168.77.3",
        "ip route del default",
        "ip route add 10.5.99.0/24 via 192.168.77.3",
    ],
)
def test_the_host_changing_is_told_as_that(command: str) -> None:
    async def story() -> None:
        async with reconciler() as opened:
            await built(opened)
            assert await quiet(opened, 0.06) is None
            run(command)
            assert isinstance(await quiet(opened, 1.0), HostChanged)

    asyncio.run(story())


def test_a_host_without_an_uplink_hears_of_the_first() -> None:
    run("ip link del eth0")

    async def story() -> None:
        async with reconciler() as opened:
            await opened.host()
            run("ip link add eth0 type veth peer name far")
            run("ip link set eth0 up")
            run("ip address add 192.168.77.1/24 dev eth0")
            assert isinstance(await quiet(opened, 1.0), HostChanged)

    asyncio.run(story())


@pytest.mark.parametrize(
    "commands",
    [
        ["ip link add veth1 type veth peer name veth2", "ip link set veth1 up", "ip link set veth2 up"],
        ["ip link add br0 type bridge", "ip link set far master br0", "ip link set far nomaster"],
        ["ip neigh add 192.168.77.3 lladdr 02:00:00:00:99:99 dev eth0 nud permanent"],
        ["ip address change 192.168.77.1/24 dev eth0 valid_lft 500 preferred_lft 500"],
        ["ip route add 10.77.0.0/16 via 192.168.77.3 table 77"],
        # a sibling network at work
        [
            "ip link add flannel.9 type vxlan id 9 dev eth0 local 192.168.77.1 dstport 8472 nolearning",
            "ip link set flannel.9 up",
            "ip address add 10.9.1.0/32 dev flannel.9",
            "ip neigh add 10.9.2.0 lladdr 02:00:00:00:99:99 dev flannel.9 nud permanent",
            "bridge fdb add 02:00:00:00:99:99 dev flannel.9 dst 192.168.77.2",
            "ip route add 10.9.2.0/24 via 10.9.2.0 dev flannel.9 onlink proto 102",
            f"ip nexthop add id {nexthop_id(0x0A090300)} via 10.9.3.0 dev flannel.9 onlink proto 102",
            "ip link del flannel.9",
        ],
    ],
)
def test_what_concerns_nobody_here_is_passed_over(commands: list[str]) -> None:
    async def story() -> None:
        async with reconciler() as opened:
            await built(opened)
            assert await quiet(opened, 0.06) is None
            for command in commands:
                run(command)
            assert await quiet(opened) is None

    asyncio.run(story())


def test_a_burst_wakes_once_and_a_flood_ends_in_one_repair() -> None:
    async def story() -> None:
        async with reconciler() as opened:
            link, wanted = await built(opened)
            for number in range(100, 200):
                await opened.update(wanted, wanted.put(subnet(number), peer(link, number)))
            before = state()
            assert await quiet(opened, 0.06) is None
            run("ip route flush dev flannel.1 proto 102")
            run("ip neigh flush dev flannel.1 nud permanent")
            events = 0
            with contextlib.suppress(TimeoutError):
                while True:
                    event = await asyncio.wait_for(opened.next_event(), 0.3)
                    assert isinstance(event, Drift)
                    events += 1
            assert 1 <= events <= 5
            await opened.ensure(wanted, scope(link))
            assert state() == before

    asyncio.run(story())


def test_a_second_burst_waits_its_turn_and_is_not_lost() -> None:
    async def story() -> None:
        async with reconciler() as opened:
            await built(opened)
            assert await quiet(opened, 0.06) is None
            run("ip route del 10.5.34.0/24")
            await next_drift(opened)
            first = time.monotonic()
            with subprocess.Popen(["ip", "route", "del", "10.5.35.0/24"]) as process:
                assert (await next_drift(opened)).startswith("route 10.5.35.0/24")
                assert QUIET_S * 0.8 <= time.monotonic() - first < 1.0
                assert process.wait() == 0

    asyncio.run(story())


def test_a_device_that_fell_and_rose_again_before_we_looked_is_drift_all_the_same() -> None:
    async def story() -> None:
        async with reconciler() as opened:
            link, wanted = await built(opened)
            assert await quiet(opened, 0.06) is None
            run("ip link set flannel.1 down")
            run("ip link set flannel.1 up")
            assert routes(device="flannel.1") == {}, "lost without a word"
            assert await opened.ensure_link(vxlan()) == link
            assert await next_drift(opened) == "link flannel.1 changed: up is False"
            await opened.ensure(wanted, scope(link))
            assert len(routes(device="flannel.1")) == 2

    asyncio.run(story())


def test_a_device_is_watched_from_when_it_stands() -> None:
    async def story() -> None:
        async with reconciler() as opened:
            await opened.host()
            await opened.ensure_link(vxlan())
            run("ip link del flannel.1")
            assert (await next_drift(opened)).startswith("link flannel.1")

    asyncio.run(story())


def test_a_device_made_anew_by_ourselves_is_no_drift() -> None:
    async def story() -> None:
        async with reconciler() as opened:
            await built(opened, through_object=True)
            await opened.ensure_link(vxlan(port=4789))
            assert await quiet(opened) is None

    asyncio.run(story())


def test_lost_events_are_drift() -> None:
    async def story() -> None:
        async with reconciler() as opened:
            link, wanted = await built(opened)
            lines = "\n".join(
                f"route replace 10.5.{100 + n % 100}.{n // 100 * 4 % 256}/30 via 192.168.77.{2 + n // 6400} dev eth0"
                for n in range(20000)
            )
            ip_batch(lines)  # more than the socket holds while the loop stands still
            told = await next_drift(opened)
            assert told == "events lost (too many at once)"
            assert (await opened.ensure(wanted, scope(link))).refused == ()

    asyncio.run(story())


def ip_batch(lines: str) -> None:
    done = subprocess.run(["ip", "-batch", "-"], input=lines, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
