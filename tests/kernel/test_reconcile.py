"""Want against have in the real kernel: first start, restart, peers that come, change and go, what is refused."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from flannel_multi.model.subnet import parse_ip
from flannel_worker.kernel.objects import (
    KernelObject,
    LinkState,
    Nexthop,
    Route,
    Scope,
    Sysctl,
    nexthop_id,
)
from flannel_worker.kernel.reconcile import Outcome, Reconciler
from flannel_worker.kernel.wanted import Wanted
from tests.kernel.place import (
    NETWORK,
    ask,
    forwarding,
    neighbours,
    own,
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

Story = Callable[[Reconciler, LinkState], Coroutine[Any, Any, None]]


def with_device(story: Story) -> None:
    async def told() -> None:
        async with reconciler() as opened:
            await opened.host()
            await story(opened, await opened.ensure_link(vxlan()))

    asyncio.run(told())


def mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def test_a_first_start_builds_what_flannel_builds() -> None:
    async def story(opened: Reconciler, link: LinkState) -> None:
        Path("/proc/sys/net/ipv4/neigh/flannel.1/app_solicit").write_text("3")
        outcome = await opened.ensure(peers(link, 34, 35), scope(link))
        assert outcome.refused == ()

    with_device(story)
    assert ask("ip -4 -j address show dev flannel.1")[0]["addr_info"][0]["local"] == "10.5.1.0"
    assert neighbours() == {"10.5.34.0": (mac(34), "PERMANENT"), "10.5.35.0": (mac(35), "PERMANENT")}
    assert forwarding() == {mac(34): "192.168.77.34", mac(35): "192.168.77.35"}
    assert routes(device="flannel.1") == {
        f"10.5.{n}.0/24": {
            "dst": f"10.5.{n}.0/24",
            "gateway": f"10.5.{n}.0",
            "protocol": "102",
            "flags": ["onlink"],
        }
        for n in (34, 35)
    }
    assert Path("/proc/sys/net/ipv4/neigh/flannel.1/app_solicit").read_text() == "0\n"
    assert Path("/proc/sys/net/ipv6/conf/flannel.1/accept_ra").read_text() == "0\n"


def test_a_restart_sends_nothing_and_moves_nothing() -> None:
    async def story(opened: Reconciler, link: LinkState) -> None:
        await opened.ensure(peers(link, *range(2, 40)), scope(link))

    async def again(opened: Reconciler, link: LinkState) -> None:
        outcome = await opened.ensure(peers(link, *range(2, 40)), scope(link))
        assert (outcome.sent, outcome.refused) == (0, ())
        assert await quiet(opened) is None

    with_device(story)
    before = ask("ip -d -j link show flannel.1"), routes(), neighbours(), forwarding()
    with_device(again)
    assert (ask("ip -d -j link show flannel.1"), routes(), neighbours(), forwarding()) == before


def test_what_may_be_older_than_the_kernel_adds_and_takes_nothing_away() -> None:
    async def story(opened: Reconciler, link: LinkState) -> None:
        await opened.ensure(peers(link, 34, 35), scope(link))

    async def again(opened: Reconciler, link: LinkState) -> None:
        older = peers(link, 34, 36)
        older.put(subnet(34), peer(link, 34, host=parse_ip("192.168.77.99")))
        outcome = await opened.ensure(older, scope(link), add_only=True)
        assert (outcome.sent, outcome.refused) == (3, ())
        assert outcome.postponed == 4, "three of peer 35 to drop, one of peer 34 to replace"
        assert forwarding() == {mac(34): "192.168.77.34", mac(35): "192.168.77.35", mac(36): "192.168.77.36"}
        assert set(routes(device="flannel.1")) == {"10.5.34.0/24", "10.5.35.0/24", "10.5.36.0/24"}
        assert (await opened.ensure(older, scope(link))).postponed == 0
        assert forwarding() == {mac(34): "192.168.77.99", mac(36): "192.168.77.36"}

    with_device(story)
    with_device(again)


def test_a_peer_comes_changes_and_goes_without_a_look_at_the_rest() -> None:
    async def story(opened: Reconciler, link: LinkState) -> None:
        wanted = peers(link, 34)
        await opened.ensure(wanted, scope(link))
        outcome = await opened.update(wanted, wanted.put(subnet(35), peer(link, 35)))
        assert outcome == Outcome(3, ())
        assert forwarding()[mac(35)] == "192.168.77.35"
        moved = parse_ip("192.168.77.99")
        await opened.update(wanted, wanted.put(subnet(35), peer(link, 35, host=moved)))
        assert forwarding()[mac(35)] == "192.168.77.99"
        outcome = await opened.update(wanted, wanted.drop(subnet(35)))
        assert outcome == Outcome(3, ())
        assert (set(neighbours()), set(forwarding()), set(routes(device="flannel.1"))) == (
            {"10.5.34.0"}, {mac(34)}, {"10.5.34.0/24"},
        )  # fmt: skip
        assert await opened.update(wanted, wanted.drop(subnet(35))) == Outcome(0, ())
        assert await quiet(opened) is None

    with_device(story)


def test_a_peer_that_is_gone_already_may_be_dropped() -> None:
    async def story(opened: Reconciler, link: LinkState) -> None:
        wanted = peers(link, 34, 35)
        await opened.ensure(wanted, scope(link))
        run("ip route del 10.5.35.0/24")
        run("ip neigh del 10.5.35.0 dev flannel.1")
        run(f"bridge fdb del {mac(35)} dev flannel.1")
        assert (await opened.update(wanted, wanted.drop(subnet(35)))).refused == ()

    with_device(story)


def test_a_refused_change_is_reported_and_the_rest_applied() -> None:
    async def story(opened: Reconciler, link: LinkState) -> None:
        wanted = peers(link, 34, 35)
        wanted.put("lost", [Route(subnet(36).base, 24, uplink(), parse_ip("203.0.113.5"))])
        wanted.put("odd", [Sysctl("net/ipv4/neigh/flannel.1/mcast_solicit", "many")])
        outcome = await opened.ensure(wanted, scope(link))
        assert len(outcome.refused) == 2
        setting, route = outcome.refused
        assert setting.errno == errno.EINVAL
        assert setting.message.startswith("sysctl net/ipv4/neigh/flannel.1/mcast_solicit = many refused: EINVAL")
        assert route.errno == errno.ENETUNREACH
        assert route.message.startswith("route 10.5.36.0/24 via 203.0.113.5 dev eth0 refused: ENETUNREACH")
        assert route.message.endswith("check the peer's PublicIP and --iface")
        assert set(routes(device="flannel.1")) == {"10.5.34.0/24", "10.5.35.0/24"}

    with_device(story)


def test_a_thousand_refusals_are_each_reported() -> None:
    async def story(opened: Reconciler, link: LinkState) -> None:
        wanted = peers(link, 34)
        gateway = parse_ip("203.0.113.5")
        for number in range(1000):
            wanted.put(number, [Route(parse_ip("10.5.64.0") + 4 * number, 30, uplink(), gateway)])
        outcome = await opened.ensure(wanted, scope(link))
        assert len({refusal.message for refusal in outcome.refused}) == 1000
        assert set(routes(device="flannel.1")) == {"10.5.34.0/24"}

    with_device(story)


def test_foreign_objects_stay_as_they_are() -> None:
    foreign = [
        "ip route add 10.0.0.0/8 via 192.168.77.3",
        "ip route add 10.5.60.0/24 via 192.168.77.3",
        "ip route add 10.5.61.0/24 dev far proto static",
        "ip route add blackhole 10.5.62.0/24",
        "ip route add 10.6.7.0/24 via 192.168.77.3 proto 102",
        "ip route add 10.5.63.0/24 via 192.168.77.3 table 77 proto 102",
        "ip nexthop add id 7 via 192.168.77.3 dev eth0",
        f"ip nexthop add id {nexthop_id(parse_ip('10.9.0.0'))} via 192.168.77.3 dev eth0 proto 102",
        "ip address add 10.5.250.1/24 dev far",
        "ip neigh add 192.168.77.3 lladdr 02:00:00:00:99:99 dev eth0 nud permanent",
        "bridge fdb add 02:00:00:00:99:99 dev eth0 self permanent",
    ]

    def everything() -> list[Any]:
        tables = ["ip -j route show table all", "ip -j nexthop show", "ip -4 -j address show dev far"]
        return [ask(command) for command in [*tables, "ip -4 -j neigh show dev eth0", "bridge -j fdb show dev eth0"]]

    for command in foreign:
        run(command)
    before = everything()

    async def story(opened: Reconciler, link: LinkState) -> None:
        await opened.ensure(peers(link, 34), scope(link))
        await opened.ensure(Wanted(), scope(link))
        await opened.remove_link("flannel.1")

    with_device(story)
    assert everything() == before


def test_leftovers_with_our_mark_go_wherever_they_are() -> None:
    run("ip route add 10.5.60.0/24 via 192.168.77.3 proto 102")
    run("ip route add 10.5.61.0/24 dev far proto 102")
    run(f"ip nexthop add id {nexthop_id(parse_ip('10.5.62.0'))} via 192.168.77.3 dev eth0 proto 102")

    async def story(opened: Reconciler, link: LinkState) -> None:
        run("ip address add 10.5.77.0/32 dev flannel.1")
        run("ip address add 172.16.0.1/32 dev flannel.1")
        outcome = await opened.ensure(peers(link), scope(link))
        assert outcome.refused == ()
        assert not set(routes()) & {"10.5.60.0/24", "10.5.61.0/24"}
        assert ask("ip -j nexthop show") == []
        held = {row["local"] for row in ask("ip -4 -j address show dev flannel.1")[0]["addr_info"]}
        assert held == {"10.5.1.0", "172.16.0.1"}, "an address outside Network is none of ours"

    with_device(story)


def test_a_strangers_route_in_a_peers_place_is_replaced() -> None:
    run("ip route add 10.5.34.0/24 via 192.168.77.3")
    run("ip route add blackhole 10.5.35.0/24")
    run("ip route add 10.5.36.0/24 dev eth0 scope link")

    async def story(opened: Reconciler, link: LinkState) -> None:
        await opened.ensure(peers(link, 34, 35, 36), scope(link))
        assert all(routes()[f"10.5.{n}.0/24"].get("dev") == "flannel.1" for n in (34, 35, 36))

    with_device(story)


def test_host_gw_keeps_to_the_uplink_and_to_its_leases() -> None:
    run("ip route add 10.5.34.0/24 via 192.168.77.34")  # as real flannel leaves it
    run("ip route add 10.5.35.0/24 via 192.168.77.3")  # an old gateway
    run("ip route add 10.5.36.0/24 via 192.168.77.36")  # leased, not wanted any more
    run("ip route add blackhole 10.5.37.0/24")
    run("ip route add 10.5.38.0/24 via 192.168.77.3")  # of nobody we know

    async def story() -> None:
        async with reconciler() as opened:
            wanted = Wanted()
            for number in (34, 35):
                gateway = parse_ip("192.168.77.0") + number
                wanted.put(number, [Route(subnet(number).base, 24, uplink(), gateway)])
            leased = frozenset((subnet(number).base, 24) for number in (34, 35, 36, 37))
            mine = Scope(0, uplink(), NETWORK, leased)
            await opened.ensure(wanted, mine)
            assert {dst: route["gateway"] for dst, route in routes().items() if dst.startswith("10.5.")} == {
                "10.5.34.0/24": "192.168.77.34",
                "10.5.35.0/24": "192.168.77.35",
                "10.5.38.0/24": "192.168.77.3",
            }
            assert (await opened.ensure(wanted, mine)).sent == 0
            await opened.ensure(Wanted(), Scope(0, uplink(), NETWORK))
            assert {dst for dst in routes() if dst.startswith("10.5.")} == {"10.5.38.0/24"}

    asyncio.run(story())


def through_objects(link: LinkState, count: int) -> Wanted:
    wanted = Wanted()
    wanted.put("own", own(link))
    for number in range(count):
        base = parse_ip("10.5.16.0") + 4 * number
        through = nexthop_id(base)
        objects: list[KernelObject] = [
            Nexthop(through, link.ifindex, base, onlink=True),
            Route(base, 30, link.ifindex, base, onlink=True, nexthop=through),
        ]
        wanted.put(number, objects)
    return wanted


def test_many_peers_go_through_nexthop_objects_and_a_restart_finds_them() -> None:
    async def story(opened: Reconciler, link: LinkState) -> None:
        assert await opened.nexthops_supported()
        wanted = through_objects(link, 1000)
        outcome = await opened.ensure(wanted, scope(link))
        assert outcome.refused == ()
        assert len(routes(device="flannel.1")) == 1000
        assert len(ask("ip -j nexthop show")) == 1000
        assert (await opened.ensure(wanted, scope(link))).sent == 0

    with_device(story)


def test_routes_through_objects_are_known_again_when_the_kernel_shows_the_id_alone() -> None:
    Path("/proc/sys/net/ipv4/nexthop_compat_mode").write_text("0")

    async def story(opened: Reconciler, link: LinkState) -> None:
        wanted = through_objects(link, 20)
        await opened.ensure(wanted, scope(link))
        assert (await opened.ensure(wanted, scope(link))).sent == 0
        assert await quiet(opened) is None

    with_device(story)


def test_the_loop_turns_while_thousands_of_changes_go_out() -> None:
    turns = 0

    async def story(opened: Reconciler, link: LinkState) -> None:
        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counter = asyncio.create_task(count())
        await opened.ensure(through_objects(link, 2000), scope(link))
        counter.cancel()
        started = time.perf_counter()
        assert (await opened.ensure(through_objects(link, 2000), scope(link))).sent == 0
        assert time.perf_counter() - started < 2.0, "milliseconds; the limit is for a busy machine"

    with_device(story)
    assert turns >= 10


def test_the_kernels_own_neighbours_stay() -> None:
    async def story(opened: Reconciler, link: LinkState) -> None:
        await opened.ensure(peers(link, 34), scope(link))
        run("ip neigh add 224.0.0.22 lladdr 01:00:5e:00:00:16 dev flannel.1 nud noarp")  # as an IGMP report leaves it
        assert (await opened.ensure(peers(link, 34), scope(link))).sent == 0

    with_device(story)


def test_what_was_learned_stays_on_a_device_that_learns() -> None:
    async def story() -> None:
        async with reconciler() as opened:
            await opened.host()
            link = await opened.ensure_link(vxlan(learning=True))
            await opened.ensure(peers(link, 34), scope(link))
            run("bridge fdb add 02:00:00:00:99:99 dev flannel.1 dst 192.168.77.9 dynamic")
            assert await quiet(opened, 0.1) is None
            assert (await opened.ensure(peers(link, 34), scope(link))).sent == 0
            assert forwarding()["02:00:00:00:99:99"] == "192.168.77.9"

    asyncio.run(story())


def test_two_routes_to_one_place_become_one() -> None:
    async def story(opened: Reconciler, link: LinkState) -> None:
        wanted = peers(link, 34)
        await opened.ensure(wanted, scope(link))
        run("ip route prepend 10.5.34.0/24 dev flannel.1 proto static")
        assert len(ask("ip -j route show 10.5.34.0/24")) == 2
        assert (await opened.ensure(wanted, scope(link))).refused == ()
        (route,) = ask("ip -j route show 10.5.34.0/24")
        assert route["protocol"] == "102"

    with_device(story)
