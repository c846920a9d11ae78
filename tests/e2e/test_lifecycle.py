"""The supervisor's own life: its end, its restart, what it tells the service manager, its one lock for a network."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeOverlay, assert_nothing_lost
from tests.e2e.test_kill_matrix import env_stat
from tests.lab.flanneld import Flanneld, alive, children_of, kill, wait_gone
from tests.lab.kernel import kernel_state
from tests.lab.manager import Manager
from tests.lab.overlay import THREE, Overlay, host_gw

MIXED = {**THREE, "green": host_gw("10.102.0.0/16")}


def test_a_restart_of_everything_loses_no_packet_and_changes_nothing(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(networks=MIXED)
    overlay.start()
    overlay.attach()
    before = [standing(overlay, daemon) for daemon in overlay.daemons]
    pings = overlay.ping()
    for daemon in overlay.daemons:
        assert daemon.stop() == 0
        daemon.wait_all_gone(1.0)
    assert [standing(overlay, daemon) for daemon in overlay.daemons] == before
    signal.sigtimedwait((), 0.3)  # a while of traffic with nobody there
    overlay.start_daemons()
    signal.sigtimedwait((), 0.3)
    counts = pings.stop()
    assert_nothing_lost(counts)
    assert [standing(overlay, daemon) for daemon in overlay.daemons] == before


def test_a_killed_supervisor_takes_its_workers_along_within_two_seconds(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay()
    overlay.start()
    overlay.attach()
    daemon = overlay.daemons[0]
    before = standing(overlay, daemon)
    workers = daemon.worker_pids()
    pings = overlay.ping()
    kill(workers["red"], signal.SIGSTOP)  # it sees no end of file
    began_s = time.monotonic()
    daemon.kill()
    for pid in workers.values():
        wait_gone(pid, 2.0)
    assert time.monotonic() - began_s < 2.0
    assert standing(overlay, daemon) == before
    overlay.start_daemons([daemon])
    signal.sigtimedwait((), 0.3)
    counts = pings.stop()
    assert_nothing_lost(counts)
    assert standing(overlay, daemon) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_stop_ends_everything_within_a_second(make_overlay: MakeOverlay, number: signal.Signals) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    leases = overlay.etcd.keys("/coreos.com/network/")
    began_s = time.monotonic()
    daemon.send(number)
    assert daemon.wait(5.0) == 0
    daemon.wait_all_gone(1.0)
    assert time.monotonic() - began_s < 1.0
    assert overlay.etcd.keys("/coreos.com/network/") == leases
    assert len(leases) == 6  # a config and a lease for each
    for network in overlay.networks:
        daemon.wait_line(f"^{network}: stopped$", network="supervisor")
        assert daemon.env_file(network).exists()


def test_a_worker_that_does_not_stop_is_killed_at_the_stop_timeout(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1, flags=("--stop-timeout=500ms",))
    overlay.start()
    daemon = overlay.daemons[0]
    kill(daemon.worker_pid("red"), signal.SIGSTOP)
    began_s = time.monotonic()
    assert daemon.stop() == 0
    assert 0.4 < time.monotonic() - began_s < 2.0
    daemon.wait_line("^red: did not stop in time", network="supervisor")


def test_each_worker_is_named_after_its_network_and_no_child_is_a_zombie(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    workers = daemon.worker_pids()
    assert set(workers) == set(overlay.networks)
    for network, pid in workers.items():
        assert network in Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert network in Path(f"/proc/{pid}/comm").read_text()
    for _ in range(3):
        mark, dead = daemon.mark(), Path(f"/proc/{daemon.worker_pid('blue')}")
        kill(int(dead.name), signal.SIGKILL)
        daemon.wait_ready("blue", after=mark)
        assert not dead.exists()  # reaped: not even a zombie
    assert children_of(daemon.pid) == set(daemon.worker_pids().values())


def test_a_second_daemon_on_the_same_folders_is_refused_by_the_lock(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    first = overlay.daemons[0]
    workers = first.worker_pids()
    second = twin(overlay, first)
    try:
        line = second.wait_phase("blue", "conflict")
        assert str(first.lock_file("blue")) in line.text
        assert f"pid {workers['blue']}" in line.text
        assert first.worker_pids() == workers
        assert all(alive(pid) for pid in workers.values())
        assert first.stop() == 0
        for network in overlay.networks:  # the lock is free: it goes on by itself
            second.wait_ready(network, timeout_s=15.0)
        assert second.stop() == 0
    finally:
        second.close()


def test_several_networks_never_claim_to_be_ready_but_tell_where_they_stand(
    make_overlay: MakeOverlay, tmp_path: Path
) -> None:
    with Manager(tmp_path / "notify", watchdog_s=0.4) as manager:
        overlay = make_overlay(hosts=1, environ=manager.environ)
        overlay.start()
        manager.wait("STATUS=blue ready, green ready, red ready".__eq__, "all ready")
        manager.wait("WATCHDOG=1".__eq__, "the watchdog's beat", after=len(manager.told))
        overlay.daemons[0].stop()
        assert not any("READY=1" in message for message in manager.told)


def test_a_network_without_config_is_shown_as_waiting_until_it_has_one(
    make_overlay: MakeOverlay, tmp_path: Path
) -> None:
    with Manager(tmp_path / "notify") as manager:
        overlay = make_overlay(hosts=1, environ=manager.environ)
        overlay.etcd.start()
        for network in ("blue", "green"):
            overlay.publish(network, THREE[network])
        daemon = overlay.daemons[0].start()
        manager.wait("STATUS=blue ready, green ready, red waiting-for-config".__eq__, "red waits")
        overlay.publish("red", THREE["red"])
        daemon.wait_ready("red")
        assert (daemon.env("red")["FLANNEL_NETWORK"]) == "10.103.0.0/16"


def test_a_hangup_tells_what_would_change_and_an_invalid_file_changes_nothing(
    make_overlay: MakeOverlay, tmp_path: Path
) -> None:
    file = tmp_path / "flanneld.toml"
    file.write_text("[networks.blue]\n")
    overlay = make_overlay(hosts=1, networks={"blue": THREE["blue"]}, flags=(f"--config={file}",))
    daemon = overlay.daemons[0]
    daemon.networks = ()  # the file lists them
    overlay.etcd.start()
    overlay.publish("blue", THREE["blue"])
    daemon.start().wait_ready("blue")
    file.write_text('[networks.blue]\niface = ["eth7"]\n[networks.green]\n')
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    line = daemon.wait_line("^SIGHUP", after=mark)
    assert "green would be added" in line.text
    assert "blue would change" in line.text
    file.write_text('[networks.blue]\nifaec = "eth0"\n')
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    line = daemon.wait_line("^SIGHUP", after=mark)
    assert line.level == "E"
    assert "unknown key ifaec" in line.text
    assert alive(daemon.worker_pid("blue"))
    assert daemon.stop() == 0


def test_one_unnamed_network_tells_that_it_is_ready_once_its_env_file_stands(
    make_overlay: MakeOverlay, tmp_path: Path
) -> None:
    with Manager(tmp_path / "notify") as manager:
        overlay = make_overlay(hosts=1, networks={"": THREE["blue"]}, environ=manager.environ)
        overlay.etcd.start()
        daemon = overlay.daemons[0].start()
        daemon.wait_phase("", "waiting-for-config")
        assert not daemon.env_file().exists()
        assert "READY=1" not in manager.told
        overlay.publish("", THREE["blue"])
        manager.wait("READY=1".__eq__, "ready")
        text = daemon.env_file().read_text()
        assert daemon.env_file() == daemon.run_dir / "subnet.env"
        assert text.splitlines()[0] == "FLANNEL_NETWORK=10.101.0.0/16"
        assert text.splitlines()[2:] == ["FLANNEL_MTU=1450", "FLANNEL_IPMASQ=false"]
        assert daemon.stop() == 0


def standing(overlay: Overlay, daemon: Flanneld) -> tuple[object, ...]:
    """What a restart must leave as it is: the host's kernel state, env files with their times, leases."""
    files = {network: env_stat(daemon, network) for network in overlay.networks}
    leases = {
        network: overlay.etcd.kv(overlay.lease_key(network, overlay.subnet(daemon, network))) for network in files
    }
    return kernel_state(daemon.host), files, leases


def twin(overlay: Overlay, first: Flanneld) -> Flanneld:
    """A second daemon with the folders of the first, started."""
    return Flanneld(first.host, overlay.folder, networks=first.networks, store=first.store).start()
