"""What exists once on a host has one network: the other waits, says for whom and what to do, and goes on by itself."""

from __future__ import annotations

import os
import signal

from tests.e2e.conftest import MakeOverlay
from tests.e2e.test_kill_matrix import env_stat
from tests.lab.flanneld import alive, eventually
from tests.lab.kernel import kernel_state
from tests.lab.overlay import THREE, Overlay, udp, vxlan

VXLAN_101 = ("type", "vxlan", "id", "101", "dev", "eth0", "local", "192.0.2.1", "dstport", "8472")
FOREIGN = ("10.101.7.0/24", "via", "192.0.2.254", "dev", "eth0")


def test_the_second_network_with_a_vni_waits_until_its_config_has_another(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1, networks={**THREE, "green": vxlan("10.102.0.0/16", 101)})
    daemon = overlay.daemons[0]
    start_in_conflict(overlay, "green")
    line = daemon.wait_phase("green", "conflict")
    assert "flannel.101" in line.text
    assert '"blue"' in line.text
    assert "VNI" in line.text
    overlay.publish("green", THREE["green"])
    daemon.wait_ready("green")
    assert not any(line.text.startswith(("blue: conflict", "red: conflict")) for line in daemon.lines)


def test_a_udp_network_on_a_vxlan_networks_port_waits_until_its_config_has_another(make_overlay: MakeOverlay) -> None:
    networks = {"blue": vxlan("10.101.0.0/16", 101, Port=9000), "green": udp("10.102.0.0/16", Port=9000)}
    overlay = make_overlay(hosts=1, networks=networks)
    daemon = overlay.daemons[0]
    start_in_conflict(overlay, "green")
    line = daemon.wait_phase("green", "conflict")
    assert 'udp-port 9000 clashes with 101/9000 of network "blue"' in line.text
    assert "flannel0" not in daemon.host.links()
    overlay.publish("green", udp("10.102.0.0/16", Port=9001))
    daemon.wait_ready("green")


def test_of_two_overlapping_networks_the_later_waits_until_the_earlier_has_moved(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1, networks={**THREE, "red": vxlan("10.101.128.0/17", 103)})
    daemon = overlay.daemons[0]
    start_in_conflict(overlay, "red")
    line = daemon.wait_phase("red", "conflict")
    assert "10.101.128.0/17" in line.text
    assert "10.101.0.0/16" in line.text
    assert '"blue"' in line.text
    assert daemon.stop() == 0
    overlay.publish("blue", vxlan("10.111.0.0/16", 101))  # taken at the start of the daemon
    overlay.start_daemons()
    assert daemon.env("blue")["FLANNEL_NETWORK"] == "10.111.0.0/16"
    assert daemon.env("red")["FLANNEL_NETWORK"] == "10.101.128.0/17"


def test_the_network_that_ran_before_keeps_its_vni_against_an_earlier_in_the_list(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1, networks={"blue": vxlan("10.102.0.0/16", 101), "red": THREE["blue"]})
    daemon = overlay.daemons[0]
    overlay.etcd.start()
    overlay.publish("red", THREE["blue"])
    daemon.networks = ("red",)
    daemon.start().wait_ready("red")
    daemon.stop()
    overlay.publish("blue", overlay.networks["blue"])
    daemon.networks = ("blue", "red")
    before, env = kernel_state(daemon.host), env_stat(daemon, "red")
    for _ in range(5):  # whichever of the two is the first to ask
        mark = daemon.mark()
        daemon.start()
        daemon.wait_ready("red", after=mark)
        assert '"red"' in daemon.wait_phase("blue", "conflict", after=mark).text
        assert not daemon.env_file("blue").exists()
        assert (kernel_state(daemon.host), env_stat(daemon, "red")) == (before, env)
        daemon.stop()


def test_a_foreign_route_inside_the_network_holds_it_up_until_it_is_deleted(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    daemon = overlay.daemons[0]
    daemon.host.ip("route", "add", *FOREIGN)
    start_in_conflict(overlay, "blue")
    line = daemon.wait_phase("blue", "conflict")
    assert "10.101.0.0/16" in line.text
    assert "10.101.7.0/24 via 192.0.2.254 dev eth0" in line.text
    assert not daemon.env_file("blue").exists()
    daemon.host.ip("route", "del", *FOREIGN)
    daemon.wait_ready("blue")


def test_a_foreign_route_under_a_running_network_is_one_degraded_line_and_no_conflict(
    make_overlay: MakeOverlay,
) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    workers, mark = daemon.worker_pids(), daemon.mark()
    daemon.host.ip("route", "add", *FOREIGN)
    assert "10.101.7.0/24" in daemon.wait_phase("blue", "degraded", after=mark).text
    daemon.host.ip("route", "del", *FOREIGN)
    daemon.wait_ready("blue", after=mark)
    assert daemon.worker_pids() == workers


def test_a_foreign_vxlan_with_our_vni_and_port_holds_the_network_up_until_it_is_deleted(
    make_overlay: MakeOverlay,
) -> None:
    overlay = make_overlay(hosts=1)
    daemon = overlay.daemons[0]
    daemon.host.ip("link", "add", "tunnel", *VXLAN_101)
    start_in_conflict(overlay, "blue")
    line = daemon.wait_phase("blue", "conflict")
    assert "VNI 101 on port 8472 clashes with the host's vxlan device tunnel: delete tunnel" in line.text
    assert not daemon.env_file("blue").exists()
    daemon.host.ip("link", "del", "tunnel")
    daemon.wait_ready("blue")


def test_a_foreign_bridge_of_our_devices_name_is_not_touched_and_holds_the_network_up_until_it_is_deleted(
    make_overlay: MakeOverlay,
) -> None:
    overlay = make_overlay(hosts=1)
    daemon = overlay.daemons[0]
    daemon.host.ip("link", "add", "flannel.101", "type", "bridge")
    daemon.host.ip("link", "set", "flannel.101", "alias", "mine, do not touch")
    before = daemon.host.ip("-d", "link", "show", "flannel.101")
    start_in_conflict(overlay, "blue")
    line = daemon.wait_phase("blue", "conflict")
    assert "device flannel.101 clashes with the host's bridge of that name" in line.text
    assert "mine, do not touch" in line.text
    assert daemon.host.ip("-d", "link", "show", "flannel.101") == before
    daemon.host.ip("link", "del", "flannel.101")
    daemon.wait_ready("blue")


def test_a_foreign_vxlan_in_the_place_of_the_deleted_device_of_a_running_network_is_one_degraded_line(
    make_overlay: MakeOverlay,
) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    workers, mark = daemon.worker_pids(), daemon.mark()
    os.kill(workers["blue"], signal.SIGSTOP)  # or it has its device back before there is another
    daemon.host.ip("link", "del", "flannel.101")
    daemon.host.ip("link", "add", "tunnel", *VXLAN_101)
    before = daemon.host.ip("-d", "link", "show", "tunnel")
    os.kill(workers["blue"], signal.SIGCONT)
    assert "the host's vxlan device tunnel" in daemon.wait_phase("blue", "degraded", after=mark).text
    assert daemon.host.ip("-d", "link", "show", "tunnel") == before
    daemon.host.ip("link", "del", "tunnel")
    daemon.wait_ready("blue", after=mark)
    assert daemon.worker_pids() == workers


def test_a_config_with_another_vni_at_the_start_of_the_daemon_takes_the_old_device_away(
    make_overlay: MakeOverlay,
) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    daemon.stop()
    overlay.publish("blue", vxlan("10.101.0.0/16", 7))
    overlay.start_daemons()
    links = daemon.host.ip("link", "show")
    assert "flannel.7" in links
    assert "flannel.101" not in links


def test_a_wider_route_is_no_clash(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.daemons[0].host.ip("route", "add", "10.0.0.0/8", "via", "192.0.2.254")
    overlay.start()


def test_the_uplinks_own_address_inside_the_network_is_a_conflict(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1, networks={**THREE, "green": vxlan("192.0.0.0/16", 102)})
    start_in_conflict(overlay, "green")
    assert "192.0.2.1" in overlay.daemons[0].wait_phase("green", "conflict").text


def test_a_host_without_an_interface_yet_waits_for_it(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    daemon = overlay.daemons[0]
    daemon.host.ip("route", "del", "default")
    overlay.etcd.start()
    for network, config in overlay.networks.items():
        overlay.publish(network, config)
    daemon.start()
    for network in overlay.networks:
        daemon.wait_phase(network, "waiting-for-interface")
    daemon.host.ip("route", "add", "default", "via", overlay.world.gateway)
    for network in overlay.networks:
        daemon.wait_ready(network)


def start_in_conflict(overlay: Overlay, network: str) -> None:
    """etcd, configs and daemon, until all networks but `network` are ready."""
    overlay.etcd.start()
    for name, config in overlay.networks.items():
        overlay.publish(name, config)
    daemon = overlay.daemons[0].start()
    for name in overlay.networks:
        if name != network:
            daemon.wait_ready(name)
    eventually(lambda: alive(daemon.worker_pid(network)), "the worker in conflict lives")


def test_a_network_that_starts_from_what_it_knows_beside_a_foreign_vxlan_is_degraded(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    daemon.stop()
    daemon.host.ip("link", "del", "flannel.101")
    daemon.host.ip("link", "add", "tunnel", *VXLAN_101)
    mark = daemon.mark()
    daemon.start()
    assert "the host's vxlan device tunnel" in daemon.wait_phase("blue", "degraded", after=mark).text
    daemon.host.ip("link", "del", "tunnel")
    daemon.wait_ready("blue", after=mark)
    assert not any(line.text.startswith("blue: conflict") for line in daemon.lines)
