"""From leases to what is asked of the kernel, on a kernel that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from flannel_multi.model.config import parse_config
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.uplink import choose_uplink
from flannel_worker.dataplane import SKIPS_SHOWN, Dataplane
from flannel_worker.kernel.objects import NEXTHOPS_FROM, NEXTHOPS_UNTIL, FdbEntry, LinkState, Nexthop, Route
from flannel_worker.kernel.reconcile import Reconciler
from flannel_worker.tunnel import Tunnel
from tests.unit.worker.place import HOST_GW, VXLAN, PlainHost, keeper, peer, subnet, view

NETWORK, OWN = subnet("10.5.0.0/16"), subnet("10.5.1.0/24")
UPLINK = choose_uplink(view())
MAC = bytes.fromhex("020000000001")
Leases = Mapping[Subnet, LeaseRecord]


def peers(count: int) -> dict[Subnet, LeaseRecord]:
    """host-gw peers on the uplink's own link, each with a /28."""
    found = {}
    for number in range(count):
        spot = Subnet(NETWORK.base + 16 * (number + 64), 28)
        found[spot] = LeaseRecord(spot, LeaseAttrs(parse_ip("192.0.2.2") + number % 250, "host-gw"), 7, number)
    return found


class Desk:
    """A dataplane on a plain host."""

    def __init__(self, raw: bytes = VXLAN) -> None:
        self.host = PlainHost()
        self.backend = backend_for(parse_config(raw))
        reconciler = cast(Reconciler, cast(Any, self.host))
        self.plane = Dataplane(reconciler, "blue", Tunnel(reconciler, keeper()))

    async def apply(
        self, leases: Leases, *touched: Subnet, whole: bool = False, bridged: Mapping[Subnet, str] | None = None
    ) -> None:
        await self.plane.device(self.backend, UPLINK, MAC)
        await self.plane.apply(self.backend, NETWORK, OWN, leases, touched, whole=whole, bridged=bridged or {})

    def of(self, kind: type) -> list[object]:
        return [item for item in self.host.objects.values() if isinstance(item, kind)]


def test_only_what_was_touched_is_sent() -> None:
    async def story() -> None:
        desk = Desk()
        leases = {OWN: peer("10.5.1.0/24", "192.0.2.1")}
        await desk.apply(leases, whole=True)
        leases[subnet("10.5.9.0/24")] = peer("10.5.9.0/24")
        await desk.apply(leases, subnet("10.5.9.0/24"))
        await desk.apply(leases)
        assert desk.host.calls == ["create flannel.1", "ensure", "update"]
        assert desk.plane.peers == 1

    asyncio.run(story())


@pytest.mark.parametrize(("there", "remembered", "kept"), [(b"\x02there", MAC, MAC), (b"\x02there", b"", b"\x02there")])
def test_the_remembered_mac_is_used_and_else_that_of_the_device_that_stands(
    there: bytes, remembered: bytes, kept: bytes
) -> None:
    async def story() -> None:
        desk = Desk()
        desk.host.devices["flannel.1"] = LinkState(40, "flannel.1", there, 1450, True, "vxlan")
        await desk.plane.device(desk.backend, UPLINK, remembered)
        assert [spec.mac for spec in desk.host.specs] == [kept]

    asyncio.run(story())


def test_many_peers_go_through_nexthop_objects_and_few_again_without() -> None:
    async def story() -> None:
        config = b'{"Network":"10.5.0.0/16","SubnetLen":28,"Backend":{"Type":"host-gw"}}'
        desk = Desk(config)
        many = peers(NEXTHOPS_FROM)
        await desk.apply(many, whole=True)
        assert len(desk.of(Nexthop)) == len(desk.of(Route)) == NEXTHOPS_FROM
        fewer = dict(list(many.items())[:NEXTHOPS_UNTIL])
        await desk.apply(fewer, *(many.keys() - fewer.keys()))
        assert len(desk.of(Nexthop)) == NEXTHOPS_UNTIL  # no flapping in between
        few = dict(list(many.items())[: NEXTHOPS_UNTIL - 1])
        await desk.apply(few, *(fewer.keys() - few.keys()))
        assert desk.of(Nexthop) == []
        assert len(desk.of(Route)) == NEXTHOPS_UNTIL - 1

    asyncio.run(story())


def test_peers_that_cannot_be_reached_are_said_a_few_times_and_counted(capfd: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        desk = Desk(HOST_GW)
        far = {
            spot: record._replace(attrs=LeaseAttrs(parse_ip("198.51.100.7"), "host-gw"))
            for spot, record in peers(100).items()
        }
        await desk.apply(far, whole=True)
        await desk.apply(far, whole=True)
        assert desk.host.objects == {}

    asyncio.run(story())
    lines = capfd.readouterr().err.splitlines()
    assert len([line for line in lines if "is not directly reachable" in line]) == SKIPS_SHOWN
    assert len([line for line in lines if f"{100 - SKIPS_SHOWN} more leases skipped" in line]) == 1


def test_a_peer_that_turns_bad_loses_its_route_alone() -> None:
    async def story() -> None:
        desk = Desk()
        good, other = peer("10.5.9.0/24"), peer("10.5.8.0/24", "192.0.2.3")
        leases = {good.subnet: good, other.subnet: other}
        await desk.apply(leases, whole=True)
        leases[good.subnet] = good._replace(attrs=LeaseAttrs(good.attrs.public_ip, "vxlan", {"VtepMAC": "nonsense"}))
        await desk.apply(leases, good.subnet)
        assert desk.host.routes() == {"10.5.8.0/24"}

    asyncio.run(story())


def test_what_is_withdrawn_is_gone_with_its_device() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.apply({subnet("10.5.9.0/24"): peer("10.5.9.0/24")}, whole=True)
        await desk.plane.withdraw(desk.backend, NETWORK)
        assert (desk.host.objects, desk.host.devices, desk.plane.place) == ({}, {}, None)

    asyncio.run(story())


def test_no_peers_route_leads_this_hosts_own_containers_away(capfd: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        desk = Desk()
        leases = {subnet(text): peer(text) for text in ("10.5.1.128/25", "10.5.9.0/24", "10.5.10.0/24")}
        await desk.apply(leases, whole=True, bridged={subnet("10.5.9.0/24"): "docker0"})
        assert desk.host.routes() == {"10.5.10.0/24"}
        await desk.apply(leases)
        assert desk.host.routes() == {"10.5.9.0/24", "10.5.10.0/24"}

    asyncio.run(story())
    said = capfd.readouterr().err
    assert "lease 10.5.1.128/25 skipped: it overlaps this host's own subnet 10.5.1.0/24" in said
    assert "lease 10.5.9.0/24 skipped: bridge docker0 of this host still stands on it" in said


def test_of_two_hosts_with_one_vtep_mac_the_first_keeps_it_and_both_are_named(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def story() -> None:
        desk = Desk()
        first = peer("10.5.9.0/24", "192.0.2.9", revision=5)
        clone = peer("10.5.10.0/24", "192.0.2.10", revision=8)._replace(
            attrs=first.attrs._replace(public_ip=parse_ip("192.0.2.10"))
        )
        for leases in ({first.subnet: first, clone.subnet: clone}, {clone.subnet: clone, first.subnet: first}):
            await desk.apply(leases, whole=True)
        (entry,) = desk.of(FdbEntry)
        assert isinstance(entry, FdbEntry)
        assert entry.dst == parse_ip("192.0.2.9")

    asyncio.run(story())
    said = capfd.readouterr().err
    assert said.count("publish one VtepMAC") == 1
    assert "10.5.9.0/24 of 192.0.2.9 and 10.5.10.0/24 of 192.0.2.10" in said
