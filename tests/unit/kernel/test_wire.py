"""What we say to the kernel, byte for byte as pyroute2 says it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from flannel_multi.model.subnet import format_ip, mask_of
from flannel_worker.kernel import linkwire, wire
from flannel_worker.kernel.frame import message
from flannel_worker.kernel.objects import (
    Address,
    FdbEntry,
    KernelObject,
    Neighbour,
    Nexthop,
    Route,
    Sysctl,
    VxlanLink,
)

CREATE_OR_REPLACE = 0x1 | 0x100 | 0x400
REQUEST = 0x1
ADDRESSES = st.integers(1, 0xFFFFFFFF)
INDEXES = st.integers(1, 0x7FFFFFFF)
NUMBERS = st.integers(1, 0xFFFFFFFF)
MACS = st.binary(min_size=6, max_size=6)


class nhmsg(nlmsg):  # noqa: N801 — named after the kernel's struct, as pyroute2 names its own; it has none for this
    prefix = "NHA_"
    fields = (("family", "B"), ("scope", "B"), ("protocol", "B"), ("resvd", "B"), ("flags", "I"))
    nla_map = (
        ("NHA_UNSPEC", "none"),
        ("NHA_ID", "uint32"),
        ("NHA_GROUP", "hex"),
        ("NHA_GROUP_TYPE", "hex"),
        ("NHA_BLACKHOLE", "hex"),
        ("NHA_OIF", "uint32"),
        ("NHA_GATEWAY", "ip4addr"),
    )


class rtmsg_by_id(nlmsg):  # noqa: N801 — pyroute2 0.7.2 does not know RTA_NH_ID (30)
    prefix = "RTA_"
    fields = rtmsg.fields
    nla_map = ((1, "RTA_DST", "ip4addr"), (30, "RTA_NH_ID", "uint32"))


def spoken(
    kind: type[nlmsg], number: int, header_flags: int, sequence: int, attrs: list[Any], /, **fields: int
) -> bytes:
    said = kind()
    for name, value in fields.items():
        said[name] = value
    said["attrs"] = attrs
    said["header"]["type"] = number
    said["header"]["flags"] = header_flags
    said["header"]["sequence_number"] = sequence
    said["header"]["pid"] = 0
    said.encode()
    return bytes(said.data)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    length = draw(st.integers(0, 32))
    dst = draw(ADDRESSES) & mask_of(length)
    return Route(dst, length, draw(INDEXES), draw(ADDRESSES), draw(st.booleans()), 0, draw(st.integers(0, 255)))


@given(routes(), NUMBERS)
def test_a_route_by_gateway(item: Route, sequence: int) -> None:
    attrs = [["RTA_DST", format_ip(item.dst)], ["RTA_GATEWAY", format_ip(item.gateway)], ["RTA_OIF", item.link]]
    fields = {"family": 2, "dst_len": item.length, "table": 254, "proto": item.protocol}
    onlink = 4 if item.onlink else 0
    assert wire.put(item, sequence) == spoken(
        rtmsg, 24, CREATE_OR_REPLACE, sequence, attrs, **fields, scope=0, type=1, flags=onlink
    )
    assert wire.drop(item, sequence) == spoken(
        rtmsg, 25, REQUEST, sequence, attrs, **fields, scope=255, type=0, flags=0
    )  # fmt: skip


@given(routes(), NUMBERS)
def test_a_route_without_gateway_is_of_scope_universe_and_one_without_device_leaves_it_to_the_kernel(
    item: Route, sequence: int
) -> None:
    fields = {"family": 2, "dst_len": item.length, "table": 254, "proto": item.protocol, "type": 1}
    onlink = 4 if item.onlink else 0
    dst = ["RTA_DST", format_ip(item.dst)]
    assert wire.put(item._replace(gateway=0), sequence) == spoken(
        rtmsg, 24, CREATE_OR_REPLACE, sequence, [dst, ["RTA_OIF", item.link]], **fields, scope=0, flags=onlink
    )
    via = ["RTA_GATEWAY", format_ip(item.gateway)]
    assert wire.put(item._replace(link=0), sequence) == spoken(
        rtmsg, 24, CREATE_OR_REPLACE, sequence, [dst, via], **fields, scope=0, flags=onlink
    )


@given(routes(), NUMBERS, NUMBERS)
def test_a_route_through_an_object(item: Route, nexthop: int, sequence: int) -> None:
    item = item._replace(nexthop=nexthop)
    attrs = [["RTA_DST", format_ip(item.dst)], ["RTA_NH_ID", nexthop]]
    fields = {"family": 2, "dst_len": item.length, "table": 254, "proto": item.protocol, "flags": 0}
    assert wire.put(item, sequence) == spoken(
        rtmsg_by_id, 24, CREATE_OR_REPLACE, sequence, attrs, **fields, scope=0, type=1
    )
    assert wire.drop(item, sequence) == spoken(rtmsg_by_id, 25, REQUEST, sequence, attrs, **fields, scope=255, type=0)


def test_a_route_named_by_its_key_alone_is_dropped_wherever_it_leads_if_it_bears_our_mark() -> None:
    said = rtmsg(wire.drop(Route(0x0A050700, 24, 0, 0), 9))
    said.decode()
    assert (said["proto"], said["scope"], said["type"]) == (102, 255, 0)
    assert {name: said.get_attr(name) for name in dict(said["attrs"])} == {"RTA_DST": "10.5.7.0"}


@given(INDEXES, ADDRESSES, MACS, NUMBERS)
def test_a_neighbour(link: int, address: int, mac: bytes, sequence: int) -> None:
    item = Neighbour(link, address, mac)
    dst, lladdr = ["NDA_DST", format_ip(address)], ["NDA_LLADDR", mac.hex(":")]
    assert wire.put(item, sequence) == spoken(
        ndmsg, 28, CREATE_OR_REPLACE, sequence, [dst, lladdr], family=2, ifindex=link, state=0x80
    )
    assert wire.drop(item, sequence) == spoken(ndmsg, 29, REQUEST, sequence, [dst], family=2, ifindex=link)


@given(INDEXES, MACS, ADDRESSES, NUMBERS)
def test_a_forwarding_entry(link: int, mac: bytes, dst: int, sequence: int) -> None:
    item = FdbEntry(link, mac, dst)
    where = {"family": 7, "ifindex": link, "state": 0x80, "flags": 2}
    lladdr, to = ["NDA_LLADDR", mac.hex(":")], ["NDA_DST", format_ip(dst)]
    assert wire.put(item, sequence) == spoken(ndmsg, 28, CREATE_OR_REPLACE, sequence, [lladdr, to], **where)
    assert wire.drop(item, sequence) == spoken(ndmsg, 29, REQUEST, sequence, [lladdr], **where)


@given(NUMBERS, INDEXES, ADDRESSES, st.booleans(), NUMBERS)
def test_a_nexthop_object(number: int, link: int, gateway: int, onlink: bool, sequence: int) -> None:
    item = Nexthop(number, link, gateway, onlink)
    attrs = [["NHA_ID", number], ["NHA_OIF", link], ["NHA_GATEWAY", format_ip(gateway)]]
    fields = {"family": 2, "scope": 0, "protocol": 102, "resvd": 0, "flags": 4 if onlink else 0}
    assert wire.put(item, sequence) == spoken(nhmsg, 104, CREATE_OR_REPLACE, sequence, attrs, **fields)
    nothing = dict.fromkeys(fields, 0)
    assert wire.drop(item, sequence) == spoken(nhmsg, 105, REQUEST, sequence, attrs[:1], **nothing)


@given(INDEXES, ADDRESSES, st.integers(0, 32), NUMBERS)
def test_an_address(link: int, address: int, length: int, sequence: int) -> None:
    item = Address(link, address, length)
    attrs = [["IFA_LOCAL", format_ip(address)], ["IFA_ADDRESS", format_ip(address)]]
    fields = {"family": 2, "prefixlen": length, "flags": 0, "scope": 0, "index": link}
    assert wire.put(item, sequence) == spoken(ifaddrmsg, 20, CREATE_OR_REPLACE, sequence, attrs, **fields)
    assert wire.drop(item, sequence) == spoken(ifaddrmsg, 21, REQUEST, sequence, attrs, **fields)


@pytest.mark.parametrize("item", [Sysctl("net/ipv4/ip_forward", "1")])
def test_a_sysctl_is_no_message(item: KernelObject) -> None:
    with pytest.raises(KeyError):
        wire.put(item)


SPEC = VxlanLink("flannel.7", 7, 4789, 3, 0xC0A84D01, 1350, b"\2\0\0\0\0\xaa", learning=True, gbp=True, alias="x")


def understood(body: bytes) -> Any:
    said = ifinfmsg(message(16, 0, body))
    said.decode()
    return said


def test_a_vxlan_device_is_understood_by_pyroute2_as_meant() -> None:
    said = understood(linkwire.create_vxlan(SPEC))
    assert (said.get_attr("IFLA_IFNAME"), said.get_attr("IFLA_MTU")) == ("flannel.7", 1350)
    assert said.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:aa"
    info = said.get_attr("IFLA_LINKINFO")
    data = info.get_attr("IFLA_INFO_DATA")
    assert info.get_attr("IFLA_INFO_KIND") == "vxlan"
    names = ("ID", "LINK", "LOCAL", "LEARNING", "PORT")
    assert [data.get_attr(f"IFLA_VXLAN_{name}") for name in names] == [7, 3, "192.168.77.1", 1, 4789]
    assert "IFLA_VXLAN_GBP" in dict(data["attrs"])
    plain = understood(linkwire.create_vxlan(SPEC._replace(gbp=False)))
    data = plain.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert "IFLA_VXLAN_GBP" not in dict(data["attrs"])


def test_a_change_of_a_link_names_only_what_changes() -> None:
    said = understood(linkwire.change_link("flannel.7", mtu=1400))
    assert (said["flags"], said["change"], dict(said["attrs"])) == (
        0, 0, {"IFLA_IFNAME": "flannel.7", "IFLA_MTU": 1400},
    )  # fmt: skip
    said = understood(linkwire.change_link("flannel.7", alias="flannel network blue", up=True))
    assert (said["flags"], said["change"]) == (1, 1)
    assert said.get_attr("IFLA_IFALIAS") == "flannel network blue"
