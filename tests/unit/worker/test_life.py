"""The life of one network, told as stories: what its operator sees, whatever store, host and disk do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from flannel_multi.model.claims import Claim, Clash
from flannel_multi.model.errors import KernelRefused
from flannel_multi.model.lease import LeaseAttrs
from flannel_multi.model.messages import ClaimAsked, GiveWay, Phase
from flannel_multi.model.subnet import parse_ip
from flannel_worker.kernel.host import HostRoute
from tests.unit.worker.place import ALLOC, ETH0, HOST_GW, KEY, NOWHERE, VXLAN, Blue, peer, subnet, view

Story = Callable[[Blue], Awaitable[None]]


@pytest.fixture
def blue(tmp_path: Path) -> Blue:
    return Blue(tmp_path)


async def ready(blue: Blue, raw: bytes = VXLAN) -> None:
    """A network that runs."""
    blue.store.configure(raw)
    blue.start()
    standing = await blue.hear()
    assert (standing.phase, standing.reason, standing.serving) == (Phase.READY, "", True)


def test_from_nothing_to_ready_with_lease_device_routes_and_env_file(blue: Blue) -> None:
    async def story() -> None:
        blue.store.put(peer("10.5.9.0/24"))
        await ready(blue)
        (own,) = [record for record in blue.store.leases.values() if record.attrs.public_ip == parse_ip("192.0.2.1")]
        assert blue.leased == own.subnet
        assert own.attrs.backend_data["VtepMAC"] == blue.host.devices["flannel.1"].mac.hex(":")
        assert blue.host.routes() == {"10.5.9.0/24"}
        assert blue.env.read_text().startswith("FLANNEL_NETWORK=10.5.0.0/16\n")
        facts = blue.life.facts()
        assert (facts.network, facts.backend, facts.device, facts.peers) == ("10.5.0.0/16", "vxlan", "flannel.1", 1)
        assert facts.mtu == 1450

    asyncio.run(story())


def test_a_network_without_config_waits_and_says_for_which_key(blue: Blue) -> None:
    async def story() -> None:
        blue.start()
        standing = await blue.hear()
        assert standing.phase is Phase.WAITING_FOR_CONFIG
        assert KEY in standing.reason
        blue.store.configure(ALLOC)
        assert (await blue.hear()).phase is Phase.READY

    asyncio.run(story())


def test_a_host_without_an_interface_waits_for_one(blue: Blue) -> None:
    async def story() -> None:
        blue.store.configure(VXLAN)
        blue.host.view = NOWHERE
        blue.start()
        assert (await blue.hear()).phase is Phase.WAITING_FOR_INTERFACE
        blue.host.view = view()
        blue.life.host_changed()
        assert (await blue.settle()).phase is Phase.READY

    asyncio.run(story())


def test_a_store_that_is_away_at_the_first_start_is_named(blue: Blue) -> None:
    async def story() -> None:
        blue.store.down = "no answer from http://127.0.0.1:2379"
        blue.start()
        standing = await blue.hear()
        assert standing.phase is Phase.WAITING_FOR_CONFIG
        assert standing.reason.startswith("no answer from http://127.0.0.1:2379 since 20")
        assert not standing.serving

    asyncio.run(story())


def test_the_last_known_state_is_served_while_the_store_is_away_and_then_confirmed(blue: Blue) -> None:
    async def story() -> None:
        blue.store.put(peer("10.5.9.0/24"))
        await ready(blue)
        blue.end()
        before, inode, held = blue.env.read_bytes(), blue.env.stat().st_ino, blue.leased
        blue.host.objects.clear()
        blue.store.down = "etcd is away"
        blue.start(daemon="d2")
        standing = await blue.settle()
        assert (standing.phase, standing.serving) == (Phase.DEGRADED, True)
        assert blue.host.routes() == {"10.5.9.0/24"}
        standing = await blue.hear()
        assert (standing.phase, standing.serving) == (Phase.DEGRADED, True)
        assert standing.reason.startswith("etcd is away since 20")
        blue.store.down = ""
        standing = await blue.hear()
        assert (standing.phase, standing.reason) == (Phase.READY, "")
        assert blue.leased == held
        assert (blue.env.read_bytes(), blue.env.stat().st_ino) == (before, inode)

    asyncio.run(story())


def test_an_older_last_known_state_takes_nothing_away_before_the_store_answers(blue: Blue) -> None:
    async def story() -> None:
        blue.store.put(peer("10.5.9.0/24"))
        await ready(blue)
        blue.end()
        state = Path(blue.options.state_file).read_bytes()
        blue.store.put(peer("10.5.10.0/24", "192.0.2.10"))
        blue.store.delete(subnet("10.5.9.0/24"))
        await blue.hear()
        assert blue.host.routes() == {"10.5.10.0/24"}
        Path(blue.options.state_file).write_bytes(state)  # killed before it was saved again
        blue.start()
        await blue.settle()
        assert blue.host.routes() == {"10.5.9.0/24", "10.5.10.0/24"}
        await blue.hear()
        assert blue.host.routes() == {"10.5.10.0/24"}

    asyncio.run(story())


def test_a_device_made_again_keeps_its_mac(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        mac = blue.host.devices["flannel.1"].mac
        blue.end()
        blue.host.devices.clear()
        blue.start()
        await blue.settle()
        assert blue.host.devices["flannel.1"].mac == mac

    asyncio.run(story())


def test_a_known_network_without_an_interface_says_that_it_waits_for_one(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.end()
        blue.host.view = NOWHERE
        blue.start()
        standing = await blue.settle()
        assert standing.phase is Phase.WAITING_FOR_INTERFACE
        assert not standing.serving

    asyncio.run(story())


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b'{"Network":"10.5.0.0/16","SubnetLen":31}', b'{"Network":"10.5.0.0/16","Backend":{"Type":"vxlna"}}'],
)
def test_a_config_error_is_quarantined_once_and_ends_with_a_new_value(blue: Blue, raw: bytes) -> None:
    async def story() -> None:
        blue.store.configure(raw)
        blue.start()
        standing = await blue.hear()
        assert standing.phase is Phase.QUARANTINED
        assert KEY in standing.reason
        assert not standing.retry
        assert await blue.hear() == standing
        blue.store.configure(VXLAN)
        assert (await blue.hear()).phase is Phase.READY

    asyncio.run(story())


def test_a_backend_not_built_yet_is_quarantined_and_said(blue: Blue) -> None:
    async def story() -> None:
        blue.store.configure(b'{"Network":"10.5.0.0/16","Backend":{"Type":"gce"}}')
        blue.start()
        standing = await blue.hear()
        assert standing.phase is Phase.QUARANTINED
        assert "gce" in standing.reason
        assert "not built yet" in standing.reason

    asyncio.run(story())


@pytest.mark.parametrize(
    ("raw", "remark"),
    [(None, "config gone"), (b"{}", "config changed"), (b'{"Network":"10.9.0.0/16"}', "config changed")],
)
def test_a_config_rewritten_or_deleted_under_a_running_network_is_a_remark(
    blue: Blue, raw: bytes | None, remark: str
) -> None:
    async def story() -> None:
        await ready(blue)
        before = blue.env.read_bytes()
        blue.store.configure(raw)
        standing = await blue.hear()
        assert standing.phase is Phase.READY
        assert standing.reason.startswith(remark)
        blue.end()
        blue.start()  # a restart of the worker alone changes nothing
        standing = await blue.hear()
        assert standing.phase is Phase.READY
        assert standing.reason.startswith(remark)
        assert blue.env.read_bytes() == before

    asyncio.run(story())


def test_a_start_of_the_daemon_takes_the_stores_config_and_what_the_old_one_made_goes(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.end()
        blue.store.configure(b'{"Network":"10.6.0.0/16","Backend":{"Type":"vxlan","VNI":6}}')
        blue.start(daemon="d2")
        await blue.settle()
        standing = await blue.hear()
        assert standing.phase is Phase.READY
        assert list(blue.host.devices) == ["flannel.6"]
        assert subnet("10.6.0.0/16").covers(blue.leased)

    asyncio.run(story())


def test_a_start_of_the_daemon_with_an_invalid_config_keeps_the_last_one_degraded(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.end()
        blue.store.configure(b"{}")
        blue.start(daemon="d2")
        standing = await blue.hear()
        assert (standing.phase, standing.serving) == (Phase.DEGRADED, True)
        assert KEY in standing.reason

    asyncio.run(story())


def test_a_deleted_lease_is_taken_again_on_the_same_subnet(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        held, inode = blue.leased, blue.env.stat().st_ino
        blue.store.delete(held)
        assert (await blue.hear()).phase is Phase.READY
        assert held in blue.store.leases
        assert blue.env.stat().st_ino == inode

    asyncio.run(story())


def test_a_subnet_given_to_another_meanwhile_is_not_taken_back(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        held = blue.leased
        theirs = blue.store.put(peer(str(held), "192.0.2.77", lease_id=99))
        assert (await blue.hear()).phase is Phase.READY
        assert blue.store.leases[held] == theirs
        assert blue.leased != held
        assert str(held) in blue.host.routes()

    asyncio.run(story())


def test_a_host_that_wakes_after_its_lease_went_to_another_does_not_steal_it(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        held = blue.leased
        blue.end()
        theirs = blue.store.put(peer(str(held), "192.0.2.77", lease_id=99))
        blue.start(daemon="d2")
        assert (await blue.settle()).phase is Phase.DEGRADED
        assert (await blue.hear()).phase is Phase.READY
        assert blue.store.leases[held] == theirs
        assert blue.leased != held

    asyncio.run(story())


def test_a_reservation_stays_without_an_end(blue: Blue) -> None:
    async def story() -> None:
        blue.store.put(peer("10.5.20.0/24", "192.0.2.1", lease_id=0))
        await ready(blue)
        assert blue.leased == subnet("10.5.20.0/24")
        assert blue.store.leases[blue.leased].permanent
        assert blue.life.facts().expires_at == 0
        assert "renew" not in blue.store.calls

    asyncio.run(story())


def test_an_uplink_that_changes_its_address_publishes_it_and_keeps_the_subnet(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        held = blue.leased
        blue.host.view = view("192.0.2.50")
        blue.life.host_changed()
        assert (await blue.hear()).phase is Phase.READY
        assert blue.leased == held
        assert blue.store.leases[held].attrs.public_ip == parse_ip("192.0.2.50")

    asyncio.run(story())


def test_an_uplink_that_vanishes_leaves_the_network_serving_and_degraded(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.host.view = NOWHERE
        blue.life.host_changed()
        standing = await blue.settle()
        assert (standing.phase, standing.serving) == (Phase.DEGRADED, True)
        assert "eth0" in standing.reason
        blue.host.view = view(link=ETH0._replace(ifindex=8))
        blue.life.host_changed()
        assert (await blue.settle()).phase is Phase.READY

    asyncio.run(story())


def test_another_networks_resources_are_a_conflict_that_ends_with_the_blocker(blue: Blue) -> None:
    async def story() -> None:
        blue.store.configure(VXLAN)
        blue.clashes = (Clash(Claim("cidr", "10.5.0.0/16"), "green", "10.0.0.0/8"),)
        blue.start()
        standing = await blue.hear()
        assert standing.phase is Phase.CONFLICT
        assert all(word in standing.reason for word in ("10.5.0.0/16", "10.0.0.0/8", "green", "another Network"))
        assert blue.host.calls == []
        assert blue.store.leases == {}
        assert (await blue.blocker_gone()).phase is Phase.READY

    asyncio.run(story())


def test_a_foreign_route_inside_the_network_is_a_conflict_that_ends_with_the_route(blue: Blue) -> None:
    async def story() -> None:
        blue.store.configure(VXLAN)
        inside = HostRoute(parse_ip("10.5.7.0"), 24, 2, parse_ip("192.0.2.9"), 4, 1, 0)
        blue.host.view = view(more=(inside,))
        blue.start()
        standing = await blue.hear()
        assert standing.phase is Phase.CONFLICT
        assert "10.5.7.0/24" in standing.reason
        assert blue.sent == []  # an answer to a claim would make it look, and ask, again
        blue.host.view = view()
        blue.life.host_changed()
        assert (await blue.settle()).phase is Phase.READY

    asyncio.run(story())


def test_thousands_of_foreign_routes_are_a_reason_that_fits_a_line(blue: Blue) -> None:
    async def story() -> None:
        blue.store.configure(VXLAN)
        routes = tuple(
            HostRoute(parse_ip("10.5.0.0") + 256 * (n % 256), 25 + n % 6, 2, parse_ip("192.0.2.9"), 4, 1, n)
            for n in range(5000)
        )
        blue.host.view = view(more=routes)
        blue.start()
        standing = await blue.hear()
        assert standing.phase is Phase.CONFLICT
        assert len(standing.reason) < 2000

    asyncio.run(story())


def test_a_network_that_runs_meets_a_clash_degraded_and_keeps_serving(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.end()
        blue.clashes = (Clash(Claim("cidr", "10.5.0.0/16"), "green", "10.0.0.0/8"),)
        blue.start(daemon="d2")
        standing = await blue.settle()
        assert (standing.phase, standing.serving) == (Phase.DEGRADED, True)
        asked = [one for one in blue.sent if isinstance(one, ClaimAsked)]
        assert asked[-1].held
        assert "green" in (await blue.hear()).reason

    asyncio.run(story())


def test_a_network_not_yet_ready_gives_way_and_gives_its_lease_back(blue: Blue, tmp_path: Path) -> None:
    async def story() -> None:
        blue.store.configure(VXLAN)
        blue.env.mkdir(parents=True)  # so that it gets a lease and never becomes ready
        blue.start()
        assert not (await blue.hear()).serving
        assert len(blue.store.leases) == 1
        blue.clashes = (Clash(Claim("cidr", "10.5.0.0/16"), "aqua", "10.5.0.0/16"),)
        blue.life.heard(GiveWay())
        standing = await blue.settle()
        assert standing.phase is Phase.CONFLICT
        assert "aqua" in standing.reason
        assert blue.store.leases == {}
        assert blue.host.devices == {}

    asyncio.run(story())


def test_a_network_that_is_ready_gives_way_to_nobody(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.life.heard(GiveWay())
        assert (await blue.settle()).phase is Phase.READY
        assert blue.leased in blue.store.leases

    asyncio.run(story())


def test_a_disk_that_refuses_the_env_file_is_named_and_tried_again(blue: Blue) -> None:
    async def story() -> None:
        blue.store.configure(VXLAN)
        blue.env.parent.parent.mkdir(parents=True)
        blue.env.parent.write_text("in the way")
        blue.start()
        standing = await blue.hear()
        assert (standing.serving, standing.retry) == (False, True)
        assert str(blue.env) in standing.reason
        blue.env.parent.unlink()
        assert (await blue.settle()).phase is Phase.READY
        assert blue.env.exists()

    asyncio.run(story())


def test_a_kernel_that_refuses_the_device_is_named_and_tried_again(blue: Blue) -> None:
    async def story() -> None:
        blue.store.configure(VXLAN)
        blue.host.no_device = KernelRefused("link flannel.1 refused: EPERM", 1)
        blue.start()
        standing = await blue.hear()
        assert (standing.phase, standing.retry) == (Phase.WAITING_FOR_LEASE, True)
        assert "flannel.1" in standing.reason
        blue.host.no_device = None
        assert (await blue.settle()).phase is Phase.READY

    asyncio.run(story())


def test_a_refused_route_is_degraded_until_the_kernel_takes_it(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.host.refuses = (KernelRefused("route 10.5.9.0/24 refused: ENETUNREACH"),) * 3
        blue.store.put(peer("10.5.9.0/24"))
        standing = await blue.hear()
        assert (standing.phase, standing.serving, standing.retry) == (Phase.DEGRADED, True, True)
        assert standing.reason == "route 10.5.9.0/24 refused: ENETUNREACH (and 2 more)"
        blue.host.refuses = ()
        assert (await blue.settle()).phase is Phase.READY
        assert blue.host.calls[-1] == "ensure"

    asyncio.run(story())


def test_a_peer_that_comes_and_goes_is_one_change_each(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.host.calls.clear()
        blue.store.put(peer("10.5.9.0/24"))
        await blue.hear()
        assert blue.host.routes() == {"10.5.9.0/24"}
        blue.store.delete(subnet("10.5.9.0/24"))
        await blue.hear()
        assert blue.host.routes() == set()
        assert blue.host.calls == ["update", "update"]

    asyncio.run(story())


def test_drift_is_repaired_by_a_whole_look(blue: Blue) -> None:
    async def story() -> None:
        blue.store.put(peer("10.5.9.0/24"))
        await ready(blue)
        blue.host.objects.clear()
        blue.life.drifted("route 10.5.9.0/24 deleted")
        assert (await blue.settle()).phase is Phase.READY
        assert blue.host.routes() == {"10.5.9.0/24"}

    asyncio.run(story())


def test_a_full_network_is_said_and_ends_when_a_lease_goes(blue: Blue) -> None:
    async def story() -> None:
        blue.store.configure(b'{"Network":"10.5.0.0/24","Backend":{"Type":"alloc"}}')
        blue.store.put(peer("10.5.0.128/25"))
        blue.start()
        standing = await blue.hear()
        assert (standing.phase, standing.retry) == (Phase.WAITING_FOR_LEASE, True)
        assert "out of subnets" in standing.reason
        blue.store.delete(subnet("10.5.0.128/25"))
        assert (await blue.hear()).phase is Phase.READY

    asyncio.run(story())


def test_host_gw_behind_nat_is_quarantined(tmp_path: Path) -> None:
    async def story() -> None:
        blue = Blue(tmp_path, "--public-ip=198.51.100.7")
        blue.store.configure(HOST_GW)
        blue.start()
        standing = await blue.hear()
        assert standing.phase is Phase.QUARANTINED
        assert "198.51.100.7" in standing.reason

    asyncio.run(story())


def test_a_restored_store_takes_nothing_away_until_the_grace_is_over(blue: Blue) -> None:
    async def story() -> None:
        blue.store.put(peer("10.5.9.0/24"))
        await ready(blue)
        held = blue.leased
        blue.store.leases.clear()
        blue.store.revision, blue.store.cluster, blue.store.restored = 3, "c2", True
        assert (await blue.hear()).phase is Phase.READY
        assert held in blue.store.leases  # the own key at once
        assert blue.host.routes() == {"10.5.9.0/24"}
        assert not blue.life.clocks(599.0, grace_s=600.0)
        assert blue.life.clocks(600.0, grace_s=600.0)
        await blue.settle()
        assert blue.host.routes() == set()

    asyncio.run(story())


def test_a_broken_state_file_is_passed_over(blue: Blue) -> None:
    async def story() -> None:
        state = Path(blue.options.state_file)
        state.parent.mkdir(parents=True)
        for raw in (b"", b"{}", b"[" * 100_000, os.urandom(64), b'{"version":1,"network":"blue"}'):
            state.write_bytes(raw)
            await ready(blue)

    asyncio.run(story())


def test_the_env_file_names_the_subnet_to_prefer(blue: Blue) -> None:
    async def story() -> None:
        blue.env.parent.mkdir(parents=True)
        blue.env.write_text("FLANNEL_SUBNET=10.5.44.1/24\n")
        await ready(blue, ALLOC)
        assert blue.leased == subnet("10.5.44.0/24")
        assert blue.store.leases[blue.leased].attrs == LeaseAttrs(parse_ip("192.0.2.1"))

    asyncio.run(story())


def test_a_change_of_config_that_the_kernel_refused_half_way_is_finished_before_anything_is_served(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.end()
        blue.store.configure(VXLAN.replace(b"10.5.0.0/16", b"10.9.0.0/16").replace(b'"vxlan"', b'"vxlan","VNI":9'))
        blue.start(daemon="d2")
        await blue.settle()
        blue.host.refuses_removal = KernelRefused("link flannel.1: EBUSY")
        standing = await blue.hear()
        assert (standing.phase, "EBUSY" in standing.reason) == (Phase.DEGRADED, True)
        assert "FLANNEL_NETWORK=10.5.0.0/16" in blue.env.read_text()
        blue.host.refuses_removal = None
        standing = await blue.settle()
        assert standing.phase is Phase.READY
        assert "flannel.1" not in blue.host.devices
        assert "FLANNEL_NETWORK=10.9.0.0/16" in blue.env.read_text()
        assert blue.leased.base >> 16 == 0x0A09

    asyncio.run(story())


def test_a_worker_that_died_while_the_store_was_away_still_takes_the_config_of_this_start(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.end()
        blue.store.down = "etcd is away"
        blue.start(daemon="d2")
        await blue.hear()
        blue.end()
        blue.start(daemon="d2")
        await blue.hear()
        blue.store.down = ""
        blue.store.configure(VXLAN.replace(b"10.5.0.0/16", b"10.9.0.0/16"))
        standing = await blue.hear()
        assert (standing.phase, standing.reason) == (Phase.READY, "")
        assert "FLANNEL_NETWORK=10.9.0.0/16" in blue.env.read_text()

    asyncio.run(story())


def test_a_subnet_that_went_to_another_in_a_full_network_is_not_served_any_more(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        mine = blue.leased
        blue.store.put(peer(str(mine), "192.0.2.77", lease_id=99))
        blue.store.full = True
        standing = await blue.hear()
        assert (standing.phase, standing.serving) == (Phase.WAITING_FOR_LEASE, False)
        assert blue.host.objects == {}
        blue.store.configure(VXLAN.replace(b"10.5.0.0/16", b"10.9.0.0/16"))
        blue.end()
        blue.start()  # a worker that comes back knows that the lease is lost, and still which config it ran on
        standing = await blue.hear()
        assert (standing.phase, standing.serving) == (Phase.WAITING_FOR_LEASE, False)
        assert blue.host.objects == {}
        assert f"FLANNEL_SUBNET={mine}".rpartition(".")[0] in blue.env.read_text()
        blue.store.full = False
        standing = await blue.settle()
        assert standing.phase is Phase.READY
        assert "config changed" in standing.reason
        assert blue.leased != mine
        assert blue.leased.base >> 16 == 0x0A05

    asyncio.run(story())


def test_a_former_address_that_is_anothers_now_does_not_make_its_lease_ours(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        mine = blue.leased
        blue.host.view = view("192.0.2.50")
        blue.life.host_changed()
        blue.store.put(peer(str(mine), "192.0.2.1", lease_id=99))
        standing = await blue.hear()
        assert standing.phase is Phase.READY
        assert blue.leased != mine
        assert blue.store.leases[mine].lease_id == 99

    asyncio.run(story())


def test_an_env_file_that_somebody_removed_comes_back(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        before = blue.env.read_bytes()
        assert not blue.life.clocks(0.0, grace_s=1.0)
        blue.env.unlink()
        assert blue.life.clocks(0.0, grace_s=1.0)
        await blue.settle()
        assert blue.env.read_bytes() == before
        assert not blue.life.clocks(0.0, grace_s=1.0)

    asyncio.run(story())


def test_a_host_with_our_public_ip_is_named_and_not_fought_with(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        mine = blue.store.leases[blue.leased]
        rival = mine._replace(attrs=mine.attrs._replace(backend_data={"VNI": 1, "VtepMAC": "02:00:00:00:00:99"}))
        for _ in range(50):
            blue.store.put(rival)
            standing = await blue.hear()
        assert (standing.phase, standing.serving) == (Phase.DEGRADED, True)
        assert "another host publishes our public IP 192.0.2.1" in standing.reason
        assert "02:00:00:00:00:99" in standing.reason
        assert blue.store.calls.count("publish") <= 2
        blue.store.put(mine)
        assert (await blue.hear()).phase is Phase.READY

    asyncio.run(story())


def test_a_config_that_was_gone_at_the_start_and_is_written_later_waits_for_the_next_start(blue: Blue) -> None:
    async def story() -> None:
        await ready(blue)
        blue.end()
        blue.store.configure(None)
        blue.start(daemon="d2")
        assert "config gone" in (await blue.hear()).reason
        blue.store.configure(VXLAN.replace(b"10.5.0.0/16", b"10.9.0.0/16"))
        standing = await blue.hear()
        assert standing.phase is Phase.READY
        assert "config changed" in standing.reason
        assert "FLANNEL_NETWORK=10.5.0.0/16" in blue.env.read_text()

    asyncio.run(story())


def test_what_changes_while_the_kernel_is_told_is_looked_at_again(blue: Blue) -> None:
    async def story() -> None:
        blue.store.put(peer("10.5.9.0/24"))
        blue.store.configure(VXLAN)

        def vandal() -> None:
            blue.host.objects.clear()
            blue.host.meanwhile = lambda: None
            blue.life.drifted("route 10.5.9.0/24 deleted")

        blue.host.meanwhile = vandal
        blue.start()
        await blue.hear()
        await blue.settle()
        assert blue.host.routes() == {"10.5.9.0/24"}

    asyncio.run(story())
