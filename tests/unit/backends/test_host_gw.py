"""host-gw: a route by way of each peer, on a common L2 only (§7.2)."""

from __future__ import annotations

from typing import Any

import pytest

from flannel_multi.model.errors import ConfigError
from flannel_multi.model.lease import encode_value
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.protocol import PeerSkipped, Place
from flannel_worker.kernel.objects import Nexthop, Route, Scope, nexthop_id
from tests.unit.backends.places import UPLINK, config, lease

BACKEND = backend_for(config('{"Type":"host-gw"}'))
PLACE = Place(UPLINK, None)
BASE, PEER_IP = parse_ip("10.5.34.0"), parse_ip("192.168.77.2")


def test_a_peer_is_one_route_by_way_of_itself() -> None:
    assert BACKEND.peer(lease(kind="host-gw"), PLACE, nexthops=False) == (Route(BASE, 24, 2, PEER_IP),)


def test_two_peers_of_neighbouring_addresses_have_two_nexthop_objects() -> None:
    first = BACKEND.peer(lease(kind="host-gw"), PLACE, nexthops=True)
    second = BACKEND.peer(lease("10.5.35.0/24", "192.168.77.3", "host-gw"), PLACE, nexthops=True)
    assert first == (
        Nexthop(nexthop_id(BASE), 2, PEER_IP, False),
        Route(BASE, 24, 2, PEER_IP, False, nexthop_id(BASE)),
    )
    assert isinstance(second[0], Nexthop)
    assert second[0].id != nexthop_id(BASE)


SKIPPED: dict[str, tuple[dict[str, Any], str]] = {
    "another backend": ({"kind": "vxlan"}, 'BackendType is "vxlan"'),
    "another L2": ({"ip": "203.0.113.5"}, "not directly reachable from eth0: host-gw needs a common L2"),
    "our own address": ({"ip": "192.168.77.1"}, "this host's own"),
    "address inside Network": ({"ip": "10.5.77.1"}, "lies inside Network"),
    "subnet outside Network": ({"subnet": "10.6.0.0/24"}, "not inside Network"),
}


@pytest.mark.parametrize(("more", "text"), SKIPPED.values(), ids=SKIPPED.keys())
def test_a_peer_that_no_route_reaches_is_passed_over(more: dict[str, Any], text: str) -> None:
    with pytest.raises(PeerSkipped, match=text):
        BACKEND.peer(lease(**{"kind": "host-gw"} | more), PLACE, nexthops=False)


def test_behind_nat_it_is_refused() -> None:
    BACKEND.check(UPLINK)
    with pytest.raises(ConfigError, match=r"198\.51\.100\.7 is not the address 192\.168\.77\.1 of eth0"):
        BACKEND.check(UPLINK._replace(public_ip=parse_ip("198.51.100.7")))


def test_it_has_no_device_the_uplinks_mtu_and_flannels_lease_value() -> None:
    assert BACKEND.device_name() == ""
    assert BACKEND.link(UPLINK, network="blue", mac=b"") is None
    assert BACKEND.own(Subnet.parse("10.5.1.0/24"), PLACE) == ()
    assert BACKEND.claims() == ()
    assert BACKEND.mtu(PLACE) == 1500
    assert encode_value(BACKEND.attrs(PLACE)) == b'{"PublicIP":"192.168.77.1","BackendType":"host-gw"}'


def test_flannels_own_routes_to_leased_subnets_are_in_its_scope() -> None:
    network, leased = Subnet.parse("10.5.0.0/16"), Subnet.parse("10.5.34.0/24")
    assert BACKEND.scope(network, [leased], PLACE) == Scope(0, 2, network, frozenset({leased}))
