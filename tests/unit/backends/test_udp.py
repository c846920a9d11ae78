"""udp: the device, what the own lease asks for, the tunnel, and which peers it has (spec §7.4)."""

from __future__ import annotations

from typing import Any

import pytest

from flannel_multi.model.claims import Claim
from flannel_multi.model.config import parse_config
from flannel_multi.model.errors import ConfigError
from flannel_multi.model.lease import LeaseAttrs, encode_value
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.peers import hop_of
from flannel_worker.backends.protocol import Hop, PeerSkipped, Place, TunnelSpec
from flannel_worker.kernel.objects import Address, LinkState, Route, Scope, Sysctl, TunLink
from tests.unit.backends.places import UPLINK, config, lease

UDP = backend_for(config('{"Type":"udp"}'))
TUN = LinkState(9, "flannel0", b"", 1472, True, "tun", "flannel network blue", 2000)
PLACE = Place(UPLINK, TUN)
NETWORK, OWN = Subnet.parse("10.5.0.0/16"), Subnet.parse("10.5.1.0/24")


def test_a_config_without_backend_is_udp_with_every_default() -> None:
    assert backend_for(parse_config(b'{"Network":"10.5.0.0/16"}')) == UDP
    assert UDP.tunnel(UPLINK) == TunnelSpec(
        UPLINK.ifindex, UPLINK.address, 8285, offload=True, verify_source=False, data_path="user", xdp=False
    )
    assert UDP.link(UPLINK, network="blue", mac=b"") == TunLink("", 1472, 2000, "flannel network blue")
    assert UDP.claims() == (Claim("udp-port", "8285"),)
    assert UDP.device_name() == "", "the kernel names it"


def test_every_key_in_any_letter_case() -> None:
    keys = '{"Type":"UDP","port":40000,"OFFLOAD":false,"verifysource":true,"DataPath":"auto","xdp":true}'
    backend = backend_for(config(keys))
    assert backend.tunnel(UPLINK) == TunnelSpec(
        UPLINK.ifindex, UPLINK.address, 40000, offload=False, verify_source=True, data_path="auto", xdp=True
    )
    assert backend.claims() == (Claim("udp-port", "40000"),)


def test_null_keys_are_absent() -> None:
    assert backend_for(config('{"Type":"udp","Port":null,"Offload":null,"VerifySource":null,"DataPath":null}')) == UDP


BAD = {
    "Port zero": ('"Port":0', r"Backend\.Port of udp is 0, expected an integer from 1 to 65535"),
    "Port too large": ('"Port":65536', r"Backend\.Port of udp is 65536"),
    "Port negative": ('"Port":-1', r"Backend\.Port of udp is -1"),
    "Port string": ('"Port":"8285"', r'Backend\.Port of udp is "8285"'),
    "Port true": ('"Port":true', r"Backend\.Port of udp is true"),
    "Offload string": ('"Offload":"no"', r'Backend\.Offload of udp is "no", expected true or false'),
    "VerifySource number": ('"VerifySource":1', r"Backend\.VerifySource of udp is 1, expected true or false"),
    "DataPath unknown": ('"DataPath":"ebpf"', r'Backend\.DataPath of udp is "ebpf", expected one of user, bpf, auto'),
    "DataPath number": ('"DataPath":1', r"Backend\.DataPath of udp is 1, expected one of"),
    "DataPath list": ('"DataPath":["user"]', r"Backend\.DataPath of udp is \["),
}


@pytest.mark.parametrize(("key", "text"), BAD.values(), ids=BAD.keys())
def test_a_wrong_key_is_one_line_that_names_it(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        backend_for(config(f'{{"Type":"udp",{key}}}'))


def test_only_where_bpf_runs_the_lease_says_more_than_flannels() -> None:
    assert UDP.attrs(PLACE) == LeaseAttrs(UPLINK.public_ip)
    assert UDP.attrs(PLACE._replace(runs_bpf=True)) == LeaseAttrs(UPLINK.public_ip, "", {"DataPath": "bpf"})


@pytest.mark.parametrize(
    ("attrs", "runs_bpf"),
    [
        (LeaseAttrs(7), False),
        (LeaseAttrs(7, "", {"DataPath": "bpf"}), True),
        (LeaseAttrs(7, "vxlan", {"DataPath": "bpf"}), False),
        (LeaseAttrs(7, "", {"DataPath": "user"}), False),
        (LeaseAttrs(7, "", ["DataPath"]), False),
    ],
)
def test_a_peer_runs_bpf_when_its_lease_says_so(attrs: LeaseAttrs, runs_bpf: bool) -> None:
    assert hop_of(lease("10.5.2.0/24")._replace(attrs=attrs)) == Hop(7, runs_bpf)


def test_the_own_lease_is_an_address_of_32_bits_and_one_route_for_the_whole_network() -> None:
    assert UDP.own(OWN, PLACE) == (
        Sysctl("net/ipv4/conf/flannel0/accept_local", "1"),
        Sysctl("net/ipv4/conf/flannel0/ignore_routes_with_linkdown", "0"),
        Sysctl("net/ipv6/conf/flannel0/accept_ra", "0"),
        Address(9, OWN.base, 32),
        Route(NETWORK.base, 16, 9, 0),
    )


def test_the_lease_value_is_flannels_without_backend_type() -> None:
    assert encode_value(UDP.attrs(PLACE)) == b'{"PublicIP":"192.168.77.1"}'


@pytest.mark.parametrize(("outer", "inner"), [(1500, 1472), (9000, 8972), (576, 548), (80, 68)])
def test_the_mtu_leaves_room_for_ip_and_udp(outer: int, inner: int) -> None:
    uplink = UPLINK._replace(mtu=outer)
    wish = UDP.link(uplink, network="blue", mac=b"")
    assert isinstance(wish, TunLink)
    assert UDP.mtu(Place(uplink, TUN)) == wish.mtu == inner


@pytest.mark.parametrize("kind", ["", "udp", "vxlan", "host-gw", "something new"])
def test_leases_of_all_backend_types_are_peers(kind: str) -> None:
    assert UDP.peer(lease(kind=kind), PLACE, nexthops=False) == ()


SKIPPED: dict[str, tuple[dict[str, Any], str]] = {
    "our own address": ({"ip": "192.168.77.1"}, "this host's own"),
    "no address": ({"ip": "0.0.0.0"}, "no address of a host"),
    "address inside Network": ({"ip": "10.5.77.1"}, "lies inside Network"),
    "subnet outside Network": ({"subnet": "10.6.0.0/24"}, "not inside Network"),
    "subnet as wide as Network": ({"subnet": "10.5.0.0/16"}, "not inside Network"),
}


@pytest.mark.parametrize(("more", "text"), SKIPPED.values(), ids=SKIPPED.keys())
def test_a_peer_that_cannot_be_meant_is_passed_over(more: dict[str, Any], text: str) -> None:
    with pytest.raises(PeerSkipped, match=text):
        UDP.peer(lease(**more), PLACE, nexthops=False)


def test_behind_nat_it_works_and_the_socket_is_on_the_interfaces_own_address() -> None:
    uplink = UPLINK._replace(public_ip=parse_ip("198.51.100.7"))
    UDP.check(uplink)
    spec = UDP.tunnel(uplink)
    assert spec is not None
    assert spec.address == UPLINK.address


def test_what_stands_on_the_device_is_in_its_scope_and_routes_of_real_flannel_are_not() -> None:
    assert UDP.scope(NETWORK, [OWN], PLACE) == Scope(9, 2, NETWORK)
    assert UDP.scope(NETWORK, [OWN], Place(UPLINK, None)) == Scope(0, 2, NETWORK)
