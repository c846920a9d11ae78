"""What an event means: judged as a value against what is wanted, without a kernel."""

from __future__ import annotations

import struct

import pytest

from flannel_worker.kernel import wire
from flannel_worker.kernel.events import Drift, HostChanged, Judge
from flannel_worker.kernel.frame import attribute, message
from flannel_worker.kernel.host import HostAddress, HostLink, HostView
from flannel_worker.kernel.objects import (
    Address,
    FdbEntry,
    KernelObject,
    LinkState,
    Neighbour,
    Nexthop,
    Route,
    Scope,
    nexthop_id,
)
from flannel_worker.kernel.plan import key_of

DEVICE = LinkState(9, "flannel.1", b"\2\0\0\0\0\xaa", 1450, True, "vxlan", "flannel network blue")
NETWORK = (0x0A050000, 16)
BASE, MAC = 0x0A052200, b"\2\0\0\0\0\x22"
THROUGH = nexthop_id(BASE)
OBJECTS: list[KernelObject] = [
    Address(9, 0x0A050100, 32),
    Neighbour(9, BASE, MAC),
    FdbEntry(9, MAC, 0xC0A84D22),
    Nexthop(THROUGH, 9, BASE, onlink=True),
    Route(BASE, 24, 9, BASE, onlink=True, nexthop=THROUGH),
]
ETH0 = HostLink(2, "eth0", 1500, True)
VETH = HostLink(5, "veth1", 1500, True, "veth")


def judge(*, host_gw: bool = False) -> Judge:
    made = Judge()
    made.saw(HostView((ETH0, VETH), (HostAddress(2, 0xC0A84D01, 24),), ()))
    made.wanted = {key_of(item): item for item in OBJECTS}
    made.scope = Scope(0 if host_gw else 9, 2, NETWORK)
    made.device = None if host_gw else DEVICE
    return made


def as_event(item: KernelObject, kind: int = 0) -> bytes:
    """The message that makes `item`, which is shaped as the kernel's word about it; `kind` in place of its type."""
    text = bytearray(wire.put(item))
    struct.pack_into("=H", text, 4, kind or struct.unpack_from("=H", text, 4)[0])
    return bytes(text)


def link_event(link: HostLink | LinkState, *, gone: bool = False, family: int = 0) -> bytes:
    body = struct.pack("=BxHiII", family, 0, link.ifindex, int(link.up), 0)
    body += attribute(3, link.name.encode() + b"\0") + attribute(4, struct.pack("=I", link.mtu))
    body += attribute(20, link.alias.encode())
    if isinstance(link, LinkState):
        body += attribute(1, link.mac)
    return message(17 if gone else 16, 0, body + attribute(18, attribute(1, link.kind.encode() + b"\0")))


def verdicts(made: Judge, *events: bytes) -> list[object]:
    return list(made.judge(b"".join(events)))


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: type(item).__name__)
def test_what_agrees_with_what_is_wanted_means_nothing(item: KernelObject) -> None:
    assert verdicts(judge(), as_event(item)) == []


@pytest.mark.parametrize(
    ("item", "kind", "text"),
    [
        (OBJECTS[0], 21, "address 10.5.1.0/32 dev flannel.1 deleted"),
        (OBJECTS[1], 29, "neighbour 10.5.34.0 lladdr 02:00:00:00:00:22 dev flannel.1 deleted"),
        (OBJECTS[2], 29, "FDB entry 02:00:00:00:00:22 dst 192.168.77.34 dev flannel.1 deleted"),
        (OBJECTS[3], 105, f"nexthop {THROUGH} via 10.5.34.0 dev flannel.1 deleted"),
        (OBJECTS[4], 25, f"route 10.5.34.0/24 via 10.5.34.0 dev flannel.1 nhid {THROUGH} deleted"),
    ],
)
def test_a_wanted_object_that_goes_is_drift(item: KernelObject, kind: int, text: str) -> None:
    (verdict,) = verdicts(judge(), as_event(item, kind))
    assert isinstance(verdict, Drift)
    assert verdict.text == text


@pytest.mark.parametrize(
    "item",
    [
        Neighbour(9, BASE, b"\2\0\0\0\0\x99"),
        FdbEntry(9, MAC, 0xC0A84D99),
        Nexthop(THROUGH, 2, 0xC0A84D03, onlink=False),
        Route(BASE, 24, 2, 0xC0A84D03),
        Address(9, 0x0A054D00, 32),
        Neighbour(9, 0x0A056300, MAC),
        FdbEntry(9, b"\2\0\0\0\0\x99", 0xC0A84D03),
        Nexthop(nexthop_id(0x0A056300), 9, 0x0A056300, onlink=True),
        Route(0x0A056300, 24, 9, 0x0A056300, onlink=True),
        Route(0x0A056300, 24, 2, 0xC0A84D03),
    ],
)
def test_a_change_or_a_stranger_in_our_scope_is_drift_and_its_end_is_not(item: KernelObject) -> None:
    assert [type(verdict) for verdict in verdicts(judge(), as_event(item))] == [Drift]
    if key_of(item) not in judge().wanted:
        number = struct.unpack_from("=H", as_event(item), 4)[0]
        assert verdicts(judge(), as_event(item, number + 1)) == []


@pytest.mark.parametrize(
    "item",
    [
        Address(9, 0xAC100001, 32),
        Neighbour(2, 0xC0A84D03, MAC),
        FdbEntry(2, MAC, 0xC0A84D03),
        Nexthop(nexthop_id(0x0A060000), 2, 0xC0A84D03, onlink=False),
        Route(0x0A060100, 24, 2, 0xC0A84D03),
    ],
)
def test_what_lies_outside_our_scope_means_nothing(item: KernelObject) -> None:
    assert verdicts(judge(), as_event(item)) == []


def test_a_stranger_with_our_mark_off_the_device_is_looked_for_next_time() -> None:
    made = judge()
    verdicts(made, as_event(Route(0x0A056300, 24, 5, 0xC0A84D03)))
    assert made.sweep


def test_a_route_that_took_a_wanted_place_is_remembered_once() -> None:
    made, thief = judge(), Route(BASE, 24, 2, 0xC0A84D03, protocol=3)
    verdicts(made, as_event(thief), as_event(thief))
    assert list(made.intruders) == [thief]


@pytest.mark.parametrize(
    ("link", "gone", "text"),
    [
        (DEVICE, True, "link flannel.1 deleted"),
        (DEVICE._replace(up=False), False, "link flannel.1 changed: up is False"),
        (DEVICE._replace(mac=b"\2\0\0\0\0\xbb"), False, "link flannel.1 changed: mac is 02:00:00:00:00:bb"),
        (DEVICE._replace(name="other"), False, "link flannel.1 changed: name is other"),
    ],
)
def test_the_own_device_changed_is_drift(link: LinkState, gone: bool, text: str) -> None:
    assert verdicts(judge(), link_event(link, gone=gone)) == [Drift(text, cause=True)]
    building = judge()
    building.building = True
    assert verdicts(building, link_event(link, gone=gone)) == []


def test_the_own_device_as_it_was_made_means_nothing() -> None:
    assert verdicts(judge(), link_event(DEVICE)) == []


@pytest.mark.parametrize(
    ("link", "gone"),
    [(ETH0._replace(up=False), False), (ETH0._replace(mtu=1400), False), (ETH0, True)],
)
def test_a_link_with_an_address_that_changes_is_told(link: HostLink, gone: bool) -> None:
    assert [type(verdict) for verdict in verdicts(judge(), link_event(link, gone=gone))] == [HostChanged]


def test_links_without_an_address_come_and_go_unseen() -> None:
    made, new = judge(), VETH._replace(ifindex=6, name="veth2")
    assert verdicts(made, link_event(new), link_event(new._replace(up=False)), link_event(new, gone=True)) == []
    assert verdicts(made, link_event(VETH, gone=True)) == []


TUNNEL = HostLink(7, "tunnel", 1450, True, "vxlan")
BRIDGE = HostLink(8, "flannel.1", 1500, True, "bridge", "mine")


@pytest.mark.parametrize("rival", [TUNNEL, BRIDGE], ids=["its VNI", "its name"])
def test_without_a_device_the_end_of_what_may_be_in_its_way_is_told(rival: HostLink) -> None:
    made = judge()
    made.device = None
    assert verdicts(made, link_event(rival)) == [], "that it comes frees nothing"
    assert [type(verdict) for verdict in verdicts(made, link_event(rival._replace(up=False)))] == [HostChanged]
    assert [type(verdict) for verdict in verdicts(made, link_event(rival, gone=True))] == [HostChanged]
    assert [type(verdict) for verdict in verdicts(made, link_event(rival, gone=True))] == [HostChanged], "never seen"


@pytest.mark.parametrize("name", ["flannel.9", "flannel0", "flannel12"])
def test_with_a_device_the_end_of_a_sibling_means_nothing(name: str) -> None:
    sibling = HostLink(7, name, 1450, True, "vxlan", "flannel network green")
    made = judge()
    made.saw(HostView((ETH0, sibling), (HostAddress(7, 0x0A090000, 32),), ()))
    assert verdicts(made, link_event(sibling, gone=True)) == []
    assert verdicts(judge(), link_event(TUNNEL), link_event(TUNNEL, gone=True)) == []


def test_a_link_that_is_called_almost_as_ours_is_no_sibling() -> None:
    stranger = HostLink(7, "flannel-uplink", 1500, True)
    made = judge()
    made.saw(HostView((ETH0, stranger), (HostAddress(7, 0x0A090000, 32),), ()))
    assert [type(verdict) for verdict in verdicts(made, link_event(stranger, gone=True))] == [HostChanged]


def test_a_bridges_word_about_its_port_is_not_the_ports_end() -> None:
    assert verdicts(judge(), link_event(ETH0, gone=True, family=7)) == []


def test_a_used_uplink_that_falls_or_rises_is_drift() -> None:
    made = judge(host_gw=True)
    for up, verb in ((False, "changed"), (True, "changed")):
        assert verdicts(made, link_event(ETH0._replace(up=up))) == [Drift(f"link eth0 {verb}", cause=True)]
    assert verdicts(made, link_event(ETH0)) == []
    assert verdicts(made, link_event(ETH0, gone=True)) == [Drift("link eth0 deleted", cause=True)]


def test_an_address_of_the_host_is_told_when_it_comes_and_goes_but_not_when_it_is_prolonged() -> None:
    made, old, new = judge(), Address(2, 0xC0A84D01, 24), Address(2, 0xC0A84E01, 24)
    assert verdicts(made, as_event(old)) == []
    assert [type(verdict) for verdict in verdicts(made, as_event(new), as_event(new))] == [HostChanged]
    assert [type(verdict) for verdict in verdicts(made, as_event(new, 21))] == [HostChanged]


def test_before_the_host_was_seen_every_link_is_news() -> None:
    assert [type(verdict) for verdict in Judge().judge(link_event(VETH))] == [HostChanged]


def test_nothing_is_drift_before_something_is_wanted() -> None:
    made = Judge()
    made.device = DEVICE
    routes = [Route(BASE, 24, 9, BASE), Route(BASE, 24, 9, BASE, protocol=3)]
    events = [as_event(item) for item in (*OBJECTS[1:4], *routes)]
    assert [type(verdict) for verdict in verdicts(made, *events)] == [HostChanged]
