"""Whose a link is, and which links no vxlan device can stand beside (spec §0, §7.3)."""

from __future__ import annotations

import pytest

from flannel_worker.kernel.host import HostLink, VxlanConfig
from flannel_worker.kernel.objects import VxlanLink
from flannel_worker.kernel.rivals import is_ours, rivals

BLUE, GREEN = "flannel network blue", "flannel network green"
WANTED = VxlanLink("flannel.5", 5, 8472, 2, 0xC0A84D01, 1450, b"\2\0\0\0\0\xaa", alias=BLUE)
FITTING = VxlanConfig(5, 2, 0xC0A84D01, 8472, learning=False, gbp=False)
ETH0 = HostLink(2, "eth0", 1500, True)


def link(
    name: str = "flannel.5", kind: str = "vxlan", alias: str = "", *, up: bool = True, **other: object
) -> HostLink:
    config = FITTING._replace(**other) if kind == "vxlan" else None  # type: ignore[arg-type]
    return HostLink(9, name, 1450, up, kind, alias, config)


@pytest.mark.parametrize("alias", ["", BLUE])
def test_a_vxlan_of_our_name_without_a_mark_or_with_ours_is_adopted_whatever_its_settings(alias: str) -> None:
    for found in (link(alias=alias), link(alias=alias, vni=6), link(alias=alias, port=4789, external=True)):
        assert is_ours(found, WANTED)
        assert rivals([ETH0, found], WANTED) == ()


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            link(kind="bridge", alias="mine, do not touch"),
            'device flannel.5 clashes with the host\'s bridge of that name (alias "mine, do not touch"): '
            "delete or rename that, or choose another VNI",
        ),
        (
            link(kind="bridge"),
            "device flannel.5 clashes with the host's bridge of that name: "
            "delete or rename that, or choose another VNI",
        ),
        (
            link(kind=""),
            "device flannel.5 clashes with the host's interface of that name: "
            "delete or rename that, or choose another VNI",
        ),
        (
            link(alias="mine, do not touch"),
            'device flannel.5 clashes with the host\'s vxlan of that name (alias "mine, do not touch"): '
            "delete or rename that, or choose another VNI",
        ),
        (
            link(alias=GREEN),
            'device flannel.5 is marked as network "green"\'s: give one of the two another VNI, '
            "or run ip link del flannel.5 if that network is gone",
        ),
        (
            link(alias=BLUE + "ish"),
            'device flannel.5 is marked as network "blueish"\'s: give one of the two another VNI, '
            "or run ip link del flannel.5 if that network is gone",
        ),
        (
            link("tunnel"),
            "VNI 5 on port 8472 clashes with the host's vxlan device tunnel: "
            "delete tunnel, or choose another VNI or Port",
        ),
        (
            link("tunnel", up=False, alias=GREEN),
            'VNI 5 on port 8472 clashes with the host\'s vxlan device tunnel of network "green": '
            "delete tunnel, or choose another VNI or Port",
        ),
        (
            link("cilium", vni=0, external=True),
            "port 8472 clashes with the host's vxlan device cilium, which receives on it for any VNI (external), "
            "not without GBP: choose another Port, or delete cilium",
        ),
        (
            link("tunnel", vni=6, gbp=True),
            "port 8472 clashes with the host's vxlan device tunnel, which receives on it with GBP, "
            "not without GBP: choose another Port, or delete tunnel",
        ),
    ],
)
def test_what_is_in_the_way_is_one_line_with_both_sides_and_the_fix(found: HostLink, line: str) -> None:
    if found.name == WANTED.name:
        assert not is_ours(found, WANTED)
    assert rivals([ETH0, found], WANTED) == (line,)


@pytest.mark.parametrize(
    "found",
    [
        link("tunnel", vni=6),
        link("tunnel", port=4789),
        link("cilium", external=True, up=False),
        link("flannel-v6.5", ipv6=True),
        link("br5", kind="bridge", alias=BLUE),
    ],
    ids=lambda found: f"{found.name} {found.up}",
)
def test_what_a_device_can_stand_beside_is_in_nobodys_way(found: HostLink) -> None:
    assert rivals([ETH0, found], WANTED) == ()


def test_an_alias_of_any_bytes_makes_a_line_that_can_be_read() -> None:
    (line,) = rivals([link(alias="a\nb\x1b[2J" + "x" * 500)], WANTED)
    assert line.isprintable()
    assert len(line) < 250
