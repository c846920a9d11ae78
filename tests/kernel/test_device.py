"""The vxlan device: exact form, what is kept, what is put right, what is made anew (spec §7.3)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flannel_multi.model.errors import Conflict, KernelRefused
from flannel_multi.model.subnet import parse_ip
from flannel_worker.kernel.events import HostChanged
from flannel_worker.kernel.host import VxlanConfig
from flannel_worker.kernel.objects import LinkState, VxlanLink
from flannel_worker.kernel.reconcile import Reconciler
from tests.kernel.place import MAC, ask, quiet, reconciler, run, set_alias, uplink, vxlan

FITTING = "type vxlan id 1 dev eth0 local 192.168.77.1 dstport 8472 nolearning"


def with_reconciler(story: Callable[[Reconciler], Awaitable[None]]) -> None:
    async def told() -> None:
        async with reconciler() as opened:
            await story(opened)

    asyncio.run(told())


def made(spec: VxlanLink) -> LinkState:
    async def story() -> LinkState:
        async with reconciler() as opened:
            return await opened.ensure_link(spec)

    return asyncio.run(story())


def shown(name: str = "flannel.1") -> dict[str, Any]:
    return dict(ask(f"ip -d -j link show {name}")[0])


def test_the_device_is_made_as_flannel_makes_it() -> None:
    state = made(vxlan())
    link = shown()
    assert state == LinkState(link["ifindex"], "flannel.1", MAC, 1450, True, "vxlan", "flannel network blue")
    assert {"BROADCAST", "MULTICAST", "UP", "LOWER_UP"} == set(link["flags"])
    assert (link["mtu"], link["qdisc"], link["address"]) == (1450, "noqueue", "02:00:00:00:00:aa")
    data = link["linkinfo"]["info_data"]
    expected = {
        "id": 1, "link": "eth0", "local": "192.168.77.1", "port": 8472, "learning": False, "ageing": 300,
        "ttl": 0, "udp_csum": True, "udp_zero_csum6_tx": False, "udp_zero_csum6_rx": False,
    }  # fmt: skip
    assert {key: data.get(key) for key in expected} == expected
    assert "gbp" not in data
    assert data["port_range"] == {"low": 0, "high": 0}
    assert not any(row.get("addr_info") for row in ask("ip -6 -j address show dev flannel.1")), "no link-local address"


def test_every_key_reaches_the_device() -> None:
    made(vxlan(name="flannel.7", vni=7, port=4789, mtu=1350, learning=True, gbp=True))
    link = shown("flannel.7")
    data = link["linkinfo"]["info_data"]
    assert (data["id"], data["port"], link["mtu"], data["learning"]) == (7, 4789, 1350, True)
    assert data.get("gbp", False) is not False, "true or null, by the version of ip"


def test_a_fitting_device_keeps_mac_and_ifindex_and_what_stands_on_it() -> None:
    run("ip link add flannel.1 address 02:00:00:00:00:bb type vxlan id 1 dev eth0 local 192.168.77.1 dstport 8472 "
        "nolearning")  # fmt: skip
    run("ip link set flannel.1 up")
    run("bridge fdb add 02:00:00:00:00:02 dev flannel.1 dst 192.168.77.2")
    before = shown()
    state = made(vxlan())
    assert (state.ifindex, state.mac.hex(":")) == (before["ifindex"], "02:00:00:00:00:bb")
    assert ask("bridge -j fdb show dev flannel.1")[0]["dst"] == "192.168.77.2"


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        ("ip link set flannel.1 mtu 1300", "mtu"),
        ("ip link set flannel.1 down", "flags"),
    ],
)
def test_what_can_be_put_right_on_a_device_is(spoil: str, field: str) -> None:
    made(vxlan())
    before = shown()
    run(spoil)
    assert shown()[field] != before[field]
    made(vxlan())
    assert {key: shown()[key] for key in ("ifindex", "address", field)} == {
        key: before[key] for key in ("ifindex", "address", field)
    }


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("type vxlan id 2 dev eth0 local 192.168.77.1 dstport 8472 nolearning", "VNI 2 instead of 1"),
        ("type vxlan id 1 dev far local 192.168.77.1 dstport 8472 nolearning", "uplink ifindex"),
        ("type vxlan id 1 dev eth0 local 192.168.77.9 dstport 8472 nolearning", "local address 192.168.77.9"),
        ("type vxlan id 1 dev eth0 local 192.168.77.1 dstport 4789 nolearning", "port 4789 instead of 8472"),
        ("type vxlan id 1 dev eth0 local 192.168.77.1 dstport 8472 nolearning gbp", "GBP True instead of False"),
        ("type vxlan id 1 dev eth0 local 192.168.77.1 dstport 8472 learning", "learning True instead of False"),
        ("type vxlan id 1 dev eth0 local 192.168.77.1 dstport 8472 nolearning l2miss", "l2miss True instead of False"),
        (
            "type vxlan id 1 dev eth0 local 192.168.77.1 remote 192.168.77.3 dstport 8472 nolearning",
            "default destination 192.168.77.3",
        ),
    ],
)
def test_a_device_that_cannot_serve_is_made_anew_with_one_line(
    command: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run(f"ip link add flannel.1 {command}")
    before = shown()["ifindex"]
    state = made(vxlan())
    assert state.ifindex != before
    assert state.mac == MAC
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "device flannel.1 does not fit" in lines[0]
    assert reason in lines[0]


def settings() -> list[tuple[object, ...]]:
    """What tells whether a link was touched; of a bridge the rest changes by itself."""
    fields = ("ifindex", "ifname", "address", "mtu", "ifalias")
    return [tuple(link.get(field) for field in fields) for link in ask("ip -j link show")]


STRANGERS = [
    ("flannel.1", "type bridge", "mine", r'device flannel\.1 .* bridge of that name \(alias "mine"\)'),
    ("flannel.1", FITTING, "mine", r'vxlan of that name \(alias "mine"\)'),
    (
        "flannel.1", FITTING, "flannel network green",
        r"marked as network \"green\"'s: .* ip link del flannel\.1 if that network is gone",
    ),
    ("tunnel", FITTING, "", "VNI 1 on port 8472 clashes with the host's vxlan device tunnel: delete tunnel"),
    (
        "cilium", "type vxlan external dstport 8472", "",
        r"port 8472 clashes with the host's vxlan device cilium, which receives on it for any VNI \(external\)",
    ),
    ("tunnel", FITTING.replace("id 1", "id 6") + " gbp", "", "vxlan device tunnel, which receives on it with GBP"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "form", "alias", "line"), STRANGERS)
def test_what_is_not_ours_is_a_conflict_that_names_it_and_is_not_touched(
    name: str, form: str, alias: str, line: str
) -> None:
    run(f"ip link add {name} {form}")
    set_alias(name, alias)
    run(f"ip link set {name} up")
    before = settings()

    async def story(opened: Reconciler) -> None:
        await opened.host()
        with pytest.raises(Conflict, match=line):
            await opened.ensure_link(vxlan())
        assert settings() == before
        run(f"ip link del {name}")
        assert isinstance(await asyncio.wait_for(opened.next_event(), 1.0), HostChanged)
        assert (await opened.ensure_link(vxlan())).name == "flannel.1"

    with_reconciler(story)


def test_an_own_device_of_other_settings_stands_until_there_is_room_for_the_new_one() -> None:
    made(vxlan())
    run("ip link add cilium type vxlan external dstport 4789")
    run("ip link set cilium up")
    before = settings()
    with pytest.raises(Conflict, match="port 4789 clashes with the host's vxlan device cilium"):
        made(vxlan(port=4789))
    assert settings() == before


def test_the_alias_of_the_device_in_use_is_put_right() -> None:
    async def story(opened: Reconciler) -> None:
        state = await opened.ensure_link(vxlan())
        run("ip link set flannel.1 alias stranger")
        assert await opened.ensure_link(vxlan()) == state

    with_reconciler(story)
    assert shown()["ifalias"] == "flannel network blue"


def test_a_port_that_a_program_holds_is_refused_with_what_to_do_and_no_device_is_left() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("0.0.0.0", 8472))
        with pytest.raises(KernelRefused, match=r"flannel\.1 refused: EADDRINUSE.*or change Port") as no:
            made(vxlan())
    assert no.value.errno == errno.EADDRINUSE
    assert "flannel.1" not in {link["ifname"] for link in ask("ip -j link show")}


def test_an_uplink_that_is_gone_is_refused_with_what_to_do() -> None:
    with pytest.raises(KernelRefused, match=r"device flannel\.1 .*refused: ENODEV.*the interface is gone"):
        made(vxlan(lower=4711))


def test_an_mtu_beyond_the_uplinks_does_not_pass_unseen() -> None:
    with pytest.raises(KernelRefused, match="MTU"):
        made(vxlan(mtu=70000))


def test_a_removed_device_is_gone_and_may_be_gone_already() -> None:
    async def story(opened: Reconciler) -> None:
        await opened.ensure_link(vxlan())
        await opened.remove_link("flannel.1")
        assert await opened.link("flannel.1") is None
        await opened.remove_link("flannel.1")

    with_reconciler(story)


def test_making_and_keeping_the_device_is_no_drift() -> None:
    async def story(opened: Reconciler) -> None:
        await opened.host()
        state = await opened.ensure_link(vxlan())
        assert await opened.ensure_link(vxlan()) == state == await opened.link("flannel.1")
        await opened.ensure_link(vxlan(mtu=1400))
        await opened.ensure_link(vxlan(vni=3))
        assert await quiet(opened) is None

    with_reconciler(story)


def test_the_view_of_the_host_is_what_ip_shows() -> None:
    run("ip link add br0 type bridge")
    run("ip link set eth0 alias uplink")
    run(f"ip link add tunnel {FITTING}")
    run("ip route add blackhole 10.9.0.0/24 metric 7")
    run("ip route add 10.10.0.0/24 proto 102 via 192.168.77.3")
    run("ip route add 10.11.0.0/24 proto static src 192.168.77.1 via 192.168.77.3")
    run("ip route add 10.12.0.0/24 via inet6 fe80::9 dev eth0")
    run("ip address add 192.168.78.1/24 dev eth0 preferred_lft 0")

    async def story(opened: Reconciler) -> None:
        view = await opened.host()
        links = {link.name: link for link in view.links}
        assert set(links) == {"lo", "eth0", "far", "br0", "tunnel"}
        vxlan_of_it = VxlanConfig(1, uplink(), parse_ip("192.168.77.1"), 8472, learning=False, gbp=False)
        assert (links["tunnel"].kind, links["tunnel"].vxlan) == ("vxlan", vxlan_of_it)
        assert links["br0"].kind == "bridge"
        assert not links["br0"].up
        assert (links["eth0"].ifindex, links["eth0"].alias, links["eth0"].mtu, links["eth0"].up) == (
            uplink(), "uplink", 1500, True,
        )  # fmt: skip
        addresses = {(item.address, item.length): item for item in view.addresses}
        assert addresses[0xC0A84D01, 24].link == uplink()
        assert addresses[0xC0A84E01, 24].deprecated
        routes = {(route.dst, route.length): route for route in view.routes}
        assert (0x0A0A0000, 24) not in routes, "our own mark"
        assert routes[0, 0].gateway == 0xC0A84DFE
        assert (routes[0x0A090000, 24].kind, routes[0x0A090000, 24].metric) == (6, 7)
        assert routes[0x0A0C0000, 24].gateway == 0xFFFFFFFF, "a gateway, though none of IPv4"
        assert (routes[0x0A0B0000, 24].protocol, routes[0x0A0B0000, 24].prefsrc) == (4, 0xC0A84D01)

    with_reconciler(story)
