"""What a network does when its store is gone, late, hung, or says that a lease is no longer ours."""

from __future__ import annotations

import json
import signal
import time
from functools import partial

from tests.e2e.conftest import MakeOverlay, assert_nothing_lost
from tests.e2e.test_kill_matrix import env_stat
from tests.lab.flanneld import Flanneld, eventually, kill
from tests.lab.kernel import kernel_state
from tests.lab.overlay import THREE, Overlay

ONE = {"blue": THREE["blue"]}
STRANGER = {"PublicIP": "192.0.2.77", "BackendType": "vxlan", "BackendData": {"VtepMAC": "02:00:00:00:00:77"}}


def test_traffic_flows_while_etcd_is_killed_and_the_networks_say_so(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay()
    overlay.start()
    overlay.attach()
    workers = [daemon.worker_pids() for daemon in overlay.daemons]
    pings = overlay.ping()
    overlay.etcd.kill()
    for daemon in overlay.daemons:
        for network in overlay.networks:
            line = daemon.wait_phase(network, "degraded")
            assert "since 20" in line.text, line.text
    marks = [daemon.mark() for daemon in overlay.daemons]
    overlay.etcd.start()
    for daemon, mark in zip(overlay.daemons, marks, strict=True):
        for network in overlay.networks:
            daemon.wait_ready(network, after=mark, timeout_s=15.0)
    counts = pings.stop()
    assert_nothing_lost(counts)
    assert [daemon.worker_pids() for daemon in overlay.daemons] == workers


def test_a_host_that_boots_without_etcd_serves_what_it_last_knew(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay()
    overlay.start()
    overlay.attach()
    daemon = overlay.daemons[0]
    before, envs = kernel_without_ifindex(daemon), {name: daemon.env(name) for name in overlay.networks}
    assert daemon.stop() == 0
    reboot(overlay, daemon)
    overlay.etcd.stop()
    mark = daemon.mark()
    daemon.start()
    for network in overlay.networks:
        daemon.wait_phase(network, "degraded", after=mark)
        overlay.reach(daemon, overlay.daemons[1], network)
    assert kernel_without_ifindex(daemon) == before
    overlay.etcd.start()
    for network in overlay.networks:
        daemon.wait_ready(network, after=mark, timeout_s=15.0)
    assert kernel_without_ifindex(daemon) == before
    assert {name: daemon.env(name) for name in overlay.networks} == envs


def test_a_fresh_host_waits_for_an_etcd_that_comes_later(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    daemon = overlay.daemons[0].start()
    for network in overlay.networks:
        daemon.wait_phase(network, "waiting-for-config")
    overlay.etcd.start()
    for network, config in overlay.networks.items():
        overlay.publish(network, config)
    for network in overlay.networks:
        daemon.wait_ready(network, timeout_s=15.0)


def test_a_hung_etcd_is_noticed_and_its_return_too(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1, networks=ONE)
    overlay.start()
    daemon = overlay.daemons[0]
    mark, began_s = daemon.mark(), time.time()
    overlay.etcd.pause()
    try:
        noticed = daemon.wait_phase("blue", "degraded", after=mark, timeout_s=20.0)
    finally:
        overlay.etcd.resume()
    assert noticed.at_s - began_s < 11.0
    daemon.wait_ready("blue", after=mark, timeout_s=11.0)


def test_a_deleted_lease_is_taken_again_with_the_same_subnet(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    key = overlay.lease_key("blue", overlay.subnet(daemon, "blue"))
    before = overlay.etcd.kv(key)
    assert before is not None
    workers, kernel, files = daemon.worker_pids(), kernel_state(daemon.host), env_stat(daemon, "blue")
    for lose in (overlay.etcd.delete, lambda key: overlay.etcd.revoke(lease_of(overlay, key))):
        lost = created(overlay, key)
        lose(key)
        eventually(partial(was_created_after, overlay, key, lost), "leased again")
        assert (overlay.etcd.kv(key) or {})["value"] == before["value"]
        assert lease_of(overlay, key) != 0
    assert (daemon.worker_pids(), kernel_state(daemon.host), env_stat(daemon, "blue")) == (workers, kernel, files)


def test_a_host_that_wakes_does_not_take_its_subnet_back_from_another(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    lost = overlay.subnet(daemon, "blue")
    key = overlay.lease_key("blue", lost)
    everyone = [daemon.pid, *daemon.worker_pids().values()]
    mark = daemon.mark()
    for pid in everyone:
        kill(pid, signal.SIGSTOP)
    overlay.etcd.delete(key)
    overlay.etcd.put(key, json.dumps(STRANGER))
    for pid in everyone:
        kill(pid, signal.SIGCONT)
    assert_moved(overlay, daemon, lost, mark)


def test_a_host_whose_subnet_was_given_away_while_it_was_down_takes_another(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    lost = overlay.subnet(daemon, "blue")
    key = overlay.lease_key("blue", lost)
    daemon.stop()
    overlay.etcd.delete(key)
    overlay.etcd.put(key, json.dumps(STRANGER))
    mark = daemon.mark()
    daemon.start()
    assert_moved(overlay, daemon, lost, mark)


def test_a_reservation_is_taken_and_stays_one(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1, networks=ONE)
    overlay.etcd.start()
    overlay.publish("blue", THREE["blue"])
    daemon = overlay.daemons[0]
    key = overlay.lease_key("blue", "10.101.77.0/24")
    overlay.etcd.put(key, json.dumps({"PublicIP": daemon.host.address}))
    for _ in range(2):
        overlay.start_daemons()
        assert overlay.subnet(daemon, "blue") == "10.101.77.0/24"
        assert lease_of(overlay, key) == 0
        assert b"VtepMAC" in (overlay.etcd.get(key) or b"")
        daemon.stop()


def test_a_peer_that_joins_or_leaves_shows_in_the_kernel_of_its_network_only(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    host = overlay.daemons[0].host
    before = kernel_state(host)
    key = overlay.lease_key("blue", "10.101.200.0/24")
    overlay.etcd.put(key, json.dumps(STRANGER), lease=overlay.etcd.grant(60))
    eventually(lambda: len(kernel_state(host)) == len(before) + 3, "the peer's route, neighbour and FDB entry")
    news = "\n".join(line for line in kernel_state(host) if line not in before)
    assert "10.101.200.0/24 via 10.101.200.0 dev flannel.101" in news
    assert "neigh 10.101.200.0 dev flannel.101 lladdr 02:00:00:00:00:77 PERMANENT" in news
    assert "02:00:00:00:00:77 dst 192.0.2.77" in news
    overlay.etcd.delete(key)
    eventually(lambda: kernel_state(host) == before, "all three are gone again")


def assert_moved(overlay: Overlay, daemon: Flanneld, lost: str, mark: int) -> None:
    """The network holds another subnet, everywhere, and the stranger's lease stands as it was."""
    daemon.wait_line(rf"lease {lost} now belongs to 192\.0\.2\.77", network="blue", after=mark)
    daemon.wait_line("^wrote ", network="blue", after=mark)
    eventually(lambda: overlay.subnet(daemon, "blue") != lost, "the env file names another subnet")
    mine = overlay.subnet(daemon, "blue")
    assert json.loads(overlay.etcd.get(overlay.lease_key("blue", lost)) or b"{}") == STRANGER
    assert daemon.host.address.encode() in (overlay.etcd.get(overlay.lease_key("blue", mine)) or b"")

    def addresses() -> list[str]:
        return [line for line in kernel_state(daemon.host, about="flannel.101") if line.startswith("addr")]

    eventually(
        lambda: len(addresses()) == 1 and mine.partition("/")[0] + "/32" in addresses()[0], "the address follows"
    )
    eventually(
        lambda: bool(kernel_state(daemon.host, about=f"route {lost} via")),
        "the lost subnet is reached at its new holder",
    )


def created(overlay: Overlay, key: str) -> int:
    """The revision at which a key was made, 0 when it is absent."""
    return int((overlay.etcd.kv(key) or {}).get("create_revision", 0))


def was_created_after(overlay: Overlay, key: str, revision: int) -> bool:
    return created(overlay, key) > revision


def lease_of(overlay: Overlay, key: str) -> int:
    """The etcd lease a key hangs on, 0 for none."""
    return int((overlay.etcd.kv(key) or {}).get("lease", 0))


def reboot(overlay: Overlay, daemon: Flanneld) -> None:
    """What a boot takes away: devices with everything on them. Folders and container bridges stay here."""
    for device in daemon.host.links():
        if device.startswith("flannel."):
            daemon.host.ip("link", "del", device)
    for route in daemon.host.ip("route", "show", "proto", "all").splitlines():
        if "via 192.0.2." in route and not route.startswith("default"):
            daemon.host.ip("route", "del", *route.split()[:1])
    assert overlay.etcd is not None


def kernel_without_ifindex(daemon: Flanneld) -> list[str]:
    """The flannel lines of the kernel state, without the numbers that a re-created device gets anew."""
    lines = kernel_state(daemon.host, about="flannel.")
    return sorted(" ".join(word for word in line.split() if not word.rstrip(":").isdigit()) for line in lines)
