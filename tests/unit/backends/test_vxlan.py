"""vxlan: the device, what the own lease asks for, what a peer asks for, and which peers are passed over (§7.3)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.claims import Claim
from flannel_multi.model.errors import ConfigError
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord, encode_value
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.protocol import PeerSkipped, Place
from flannel_worker.backends.vxlan import format_mac, local_mac, parse_mac, vtep_mac
from flannel_worker.kernel.objects import (
    Address,
    FdbEntry,
    LinkState,
    Neighbour,
    Nexthop,
    Route,
    Scope,
    Sysctl,
    VxlanLink,
    nexthop_id,
)
from tests.unit.backends.places import OWN_MAC, PLACE, UPLINK, config, lease

VXLAN = backend_for(config('{"Type":"vxlan"}'))
DIRECT = backend_for(config('{"Type":"vxlan","DirectRouting":true}'))
MAC = bytes.fromhex("c644567ef335")
DATA = {"VNI": 1, "VtepMAC": "c6:44:56:7e:f3:35"}
NETWORK = Subnet.parse("10.5.0.0/16")
SUBNET, BASE, PEER_IP = Subnet.parse("10.5.34.0/24"), parse_ip("10.5.34.0"), parse_ip("192.168.77.2")


def test_the_device_by_default() -> None:
    assert VXLAN.link(UPLINK, network="blue", mac=MAC) == VxlanLink(
        "flannel.1", 1, 8472, 2, UPLINK.address, 1450, MAC, False, False, "flannel network blue"
    )


def test_the_device_by_every_key_in_any_letter_case() -> None:
    keys = '{"Type":"vxlan","vni":7,"PORT":4789,"gbp":true,"learning":true,"Mtu":1400,"MacPrefix":1,"Name":[]}'
    backend = backend_for(config(keys))
    assert backend.link(UPLINK, network="_", mac=MAC) == VxlanLink(
        "flannel.7", 7, 4789, 2, UPLINK.address, 1350, MAC, True, True, "flannel network _"
    )
    assert backend.claims() == (Claim("device", "flannel.7"), Claim("vni-port", "7/4789"))


def test_null_keys_are_absent_and_the_default_port_is_one_claim_with_8472() -> None:
    nulls = '{"Type":"vxlan","VNI":null,"Port":null,"GBP":null,"Learning":null,"DirectRouting":null,"MTU":null}'
    assert backend_for(config(nulls)) == VXLAN
    assert backend_for(config('{"Type":"vxlan","Port":8472}')).claims() == VXLAN.claims()


def test_local_is_the_interfaces_address_and_the_lease_says_the_public_one() -> None:
    uplink = UPLINK._replace(public_ip=parse_ip("198.51.100.7"))
    link = VXLAN.link(uplink, network="blue", mac=MAC)
    assert link is not None
    assert link.local == UPLINK.address
    assert VXLAN.attrs(Place(uplink, PLACE.link)).public_ip == parse_ip("198.51.100.7")


@pytest.mark.parametrize(
    ("outer", "key", "inner"),
    [(9000, "", 8950), (1500, ',"MTU":1400', 1350), (1500, ',"MTU":9000', 1450), (68, "", 68)],
)
def test_the_mtu_is_what_the_uplink_carries_and_the_key_allows(outer: int, key: str, inner: int) -> None:
    backend = backend_for(config(f'{{"Type":"vxlan"{key}}}'))
    uplink = UPLINK._replace(mtu=outer)
    link = backend.link(uplink, network="blue", mac=MAC)
    assert link is not None
    assert backend.mtu(Place(uplink, PLACE.link)) == link.mtu == inner


BAD_KEYS = [
    ("VNI", '"x"'), ("VNI", "-1"), ("VNI", "10000000"), ("VNI", "123456789"), ("VNI", "1.0"), ("VNI", "true"),
    ("VNI", "[]"), ("Port", '"8285"'), ("Port", "-1"), ("Port", "65536"), ("Port", "{}"), ("MTU", "0"),
    ("MTU", "117"), ("MTU", "65536"), ("MTU", '"1500"'), ("GBP", "1"), ("GBP", '"true"'), ("Learning", "0"),
    ("DirectRouting", '"yes"'), ("DirectRouting", "[true]"), ("VNI", '"' + "x" * 5000 + '"'), ("Port", '"\\n\\u007f"'),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD_KEYS)
def test_a_wrong_key_is_one_line_that_names_it(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"Backend.{key} of vxlan is ") as caught:
        backend_for(config(f'{{"Type":"vxlan","{key.lower()}":{value}}}'))
    assert caught.value.message.isprintable()
    assert len(caught.value.message) <= 200


@pytest.mark.parametrize("vni", [0, 1, 9_999_999])
def test_every_vni_that_fits_a_device_name_is_taken(vni: int) -> None:
    assert backend_for(config(f'{{"Type":"vxlan","VNI":{vni}}}')).device_name() == f"flannel.{vni}"


def test_the_lease_value_is_flannels_own() -> None:
    assert encode_value(VXLAN.attrs(PLACE)) == (
        b'{"PublicIP":"192.168.77.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:aa"}}'
    )


def test_the_own_lease_asks_for_its_base_address_and_a_quiet_device() -> None:
    assert VXLAN.own(Subnet.parse("10.5.25.0/24"), PLACE) == (
        Sysctl("net/ipv6/conf/flannel.1/accept_ra", "0"),
        Sysctl("net/ipv4/neigh/flannel.1/app_solicit", "0"),
        Address(9, parse_ip("10.5.25.0"), 32),
    )


def test_a_peer_is_a_neighbour_a_forwarding_entry_and_an_onlink_route() -> None:
    assert VXLAN.peer(lease(kind="vxlan", data=DATA), PLACE, nexthops=False) == (
        Neighbour(9, BASE, MAC),
        FdbEntry(9, MAC, PEER_IP),
        Route(BASE, 24, 9, BASE, onlink=True),
    )


def test_among_many_a_peers_route_goes_through_an_object_of_its_own() -> None:
    assert VXLAN.peer(lease(kind="vxlan", data=DATA), PLACE, nexthops=True)[2:] == (
        Nexthop(nexthop_id(BASE), 9, BASE, onlink=True),
        Route(BASE, 24, 9, BASE, onlink=True, nexthop=nexthop_id(BASE)),
    )


@pytest.mark.parametrize("subnet", ["10.5.34.0/25", "10.5.32.0/20", "10.5.34.2/31"])
def test_a_foreign_length_gets_a_plain_route_for_its_base_may_be_anothers(subnet: str) -> None:
    wanted = Subnet.parse(subnet)
    objects = VXLAN.peer(lease(subnet, kind="vxlan", data=DATA), PLACE, nexthops=True)
    assert objects[2:] == (Route(wanted.base, wanted.length, 9, wanted.base, onlink=True),)


def test_direct_routing_takes_the_short_way_on_a_common_l2_only() -> None:
    near = DIRECT.peer(lease(kind="vxlan", data=DATA), PLACE, nexthops=False)
    assert near == (Route(BASE, 24, 2, PEER_IP),)
    far = DIRECT.peer(lease(ip="203.0.113.5", kind="vxlan", data=DATA), PLACE, nexthops=False)
    assert [type(item) for item in far] == [Neighbour, FdbEntry, Route]
    through = DIRECT.peer(lease(kind="vxlan", data=DATA), PLACE, nexthops=True)
    assert through == (
        Nexthop(nexthop_id(BASE), 2, PEER_IP, False),
        Route(BASE, 24, 2, PEER_IP, False, nexthop_id(BASE)),
    )


SKIPPED: dict[str, tuple[dict[str, Any], str]] = {
    "another backend": ({"kind": "host-gw"}, 'BackendType is "host-gw"'),
    "no backend": ({"kind": ""}, 'BackendType is ""'),
    "a poisonous backend": ({"kind": "vx\nlan" * 1000}, "BackendType is"),
    "no data": ({"data": None}, "BackendData is null"),
    "data is text": ({"data": "c6:44:56:7e:f3:35"}, "BackendData is"),
    "data is empty": ({"data": {}}, "VtepMAC is missing"),
    "MAC is a number": ({"data": {"VtepMAC": 7}}, "VtepMAC is 7"),
    "MAC is zz": ({"data": {"VtepMAC": "zz"}}, "no MAC address"),
    "MAC is empty": ({"data": {"VtepMAC": ""}}, "no MAC address"),
    "MAC of 8 bytes": ({"data": {"VtepMAC": "02:00:5e:10:00:00:00:01"}}, "no MAC address"),
    "MAC with mixed marks": ({"data": {"VtepMAC": "c6:44-56:7e:f3:35"}}, "no MAC address"),
    "MAC with a line break": ({"data": {"VtepMAC": "c6:44:56:7e:f3:35\n"}}, "no MAC address"),
    "group MAC": ({"data": {"VtepMAC": "01:00:5e:00:00:01"}}, "no unicast MAC"),
    "broadcast MAC": ({"data": {"VtepMAC": "ff:ff:ff:ff:ff:ff"}}, "no unicast MAC"),
    "zero MAC": ({"data": {"VtepMAC": "00:00:00:00:00:00"}}, "no unicast MAC"),
    "our own MAC": ({"data": {"VtepMAC": format_mac(OWN_MAC)}}, "this host's own"),
    "our own address": ({"ip": "192.168.77.1"}, "this host's own"),
    "no address": ({"ip": "0.0.0.0"}, "no address of a host"),
    "multicast address": ({"ip": "239.1.1.1"}, "no address of a host"),
    "broadcast address": ({"ip": "255.255.255.255"}, "no address of a host"),
    "loopback address": ({"ip": "127.0.0.1"}, "no address of a host"),
    "address inside Network": ({"ip": "10.5.77.1"}, "lies inside Network 10.5.0.0/16"),
    "subnet outside Network": ({"subnet": "10.6.1.0/24"}, "not inside Network"),
    "subnet is Network": ({"subnet": "10.5.0.0/16"}, "not inside Network"),
    "subnet wider than Network": ({"subnet": "0.0.0.0/0"}, "not inside Network"),
}


@pytest.mark.parametrize(("more", "text"), SKIPPED.values(), ids=SKIPPED.keys())
@pytest.mark.parametrize("nexthops", [False, True])
def test_a_peer_that_cannot_be_is_passed_over_with_one_line(more: dict[str, Any], text: str, nexthops: bool) -> None:
    record = lease(**{"kind": "vxlan", "data": DATA} | more)
    with pytest.raises(PeerSkipped, match=text) as caught:
        VXLAN.peer(record, PLACE, nexthops=nexthops)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) <= 200


def test_a_subnet_without_host_addresses_is_passed_over() -> None:
    everything = backend_for(config('{"Type":"vxlan"}', network="0.0.0.0/0"))
    for subnet in ("0.0.0.0/24", "127.5.0.0/24", "239.0.1.0/24"):
        with pytest.raises(PeerSkipped, match="no host addresses"):
            everything.peer(lease(subnet, kind="vxlan", data=DATA), PLACE, nexthops=False)


@pytest.mark.parametrize("text", ["c6:44:56:7e:f3:35", "C6:44:56:7E:F3:35", "c6-44-56-7e-f3-35", "c644.567e.f335"])
def test_a_mac_is_read_in_every_usual_notation(text: str) -> None:
    assert parse_mac(text) == MAC
    assert vtep_mac({"vni": 9, "vtepmac": text}) == MAC
    assert format_mac(MAC) == "c6:44:56:7e:f3:35"


@given(st.binary(min_size=6, max_size=6))
def test_a_made_mac_is_local_unicast_and_is_read_back(six: bytes) -> None:
    mac = local_mac(six)
    assert mac[0] & 3 == 2
    assert parse_mac(format_mac(mac)) == mac
    assert mac[1:] == six[1:]


def test_a_new_mac_is_that_of_the_vxlan_it_replaces_or_a_random_one() -> None:
    six, there = bytes.fromhex("010203040506"), LinkState(9, "flannel.1", MAC, 1450, True, "vxlan")
    assert VXLAN.new_mac(there, six) == MAC
    assert VXLAN.new_mac(None, six) == VXLAN.new_mac(there._replace(kind="bridge"), six) == local_mac(six)


def test_the_scope_is_the_device_and_the_network_and_with_direct_routing_flannels_own_routes() -> None:
    assert VXLAN.scope(NETWORK, [SUBNET], PLACE) == Scope(9, 2, NETWORK, frozenset())
    assert DIRECT.scope(NETWORK, [SUBNET], PLACE) == Scope(9, 2, NETWORK, frozenset({SUBNET}))
    assert VXLAN.scope(NETWORK, [SUBNET], Place(UPLINK, None)) == Scope(0, 2, NETWORK, frozenset())


def test_twenty_thousand_peers_are_wanted_within_a_second() -> None:
    backend = backend_for(config('{"Type":"vxlan"}', network="10.0.0.0/8"))
    records = [
        LeaseRecord(
            Subnet(0x0A000000 + (number << 8), 24),
            LeaseAttrs(0xC0A84D02 + number, "vxlan", {"VNI": 1, "VtepMAC": format_mac(number.to_bytes(6, "big"))}),
        )
        for number in range(1, 20001)
    ]
    began_s = time.process_time()
    for record in records:
        backend.peer(record, PLACE, nexthops=True)
    assert time.process_time() - began_s < 1
