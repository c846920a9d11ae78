"""The udp backend in whole daemons: hosts that reach each other by TUN and UDP, and what survives whose death."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time

import pytest

from tests.e2e.conftest import MakeOverlay
from tests.lab.flanneld import Flanneld, eventually, kill, wait_gone
from tests.lab.kernel import kernel_state
from tests.lab.netns import inside
from tests.lab.overlay import Overlay, udp, vxlan
from tests.lab.world import Host

TWO = {"blue": udp("10.101.0.0/16"), "green": udp("10.102.0.0/16", Port=8286)}
FLAGS = ("--restart-settled=0.05", "--restart-floor=20ms")
REPAIRED_S = 1.0


def device(host: Host, network: str) -> str:
    """The TUN of a network, by its mark. Fails unless there is just one."""
    (name,) = devices(host, network)
    return name


def devices(host: Host, network: str) -> list[str]:
    links = json.loads(host.ip("-j", "link"))
    return [link["ifname"] for link in links if link.get("ifalias") == f"flannel network {network}"]


def standing(host: Host, network: str) -> list[str]:
    """All that the kernel has for a network: link with ifindex, address, route. Not its operational state, which is
    unknown until it was closed and opened once."""
    lines = kernel_state(host, about=device(host, network))
    return [re.sub(r"state (UP|UNKNOWN)", "state up", line) for line in lines]


def test_three_hosts_reach_each_other_in_two_networks_and_publish_what_flannel_does(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=3, networks={"blue": {"Network": "10.101.0.0/16"}, "green": TWO["green"]})
    overlay.start()
    overlay.attach()
    for daemon in overlay.daemons:
        for network in overlay.networks:
            subnet = overlay.subnet(daemon, network)
            assert daemon.env(network)["FLANNEL_MTU"] == "1472"
            assert overlay.etcd.get(overlay.lease_key(network, subnet)) == (
                f'{{"PublicIP":"{daemon.host.address}"}}'.encode()
            )
            name, whole = device(daemon.host, network), overlay.networks[network]["Network"]
            assert f"route {whole} dev {name} proto 102" in " ".join(standing(daemon.host, network))
            assert f"inet {subnet.partition('/')[0]}/32 scope global {name}" in " ".join(standing(daemon.host, network))
            daemon.wait_line("data path user: ", network=network)


def test_a_host_that_leaves_is_unreachable_at_once_for_the_others(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(networks={"blue": TWO["blue"]})
    overlay.start()
    overlay.attach()
    one, two = overlay.daemons
    there, subnet = overlay.container(two, "blue"), overlay.subnet(two, "blue")
    assert connect(one.host, overlay.container(one, "blue"), there) == "Connection refused"
    two.stop()
    overlay.etcd.delete(overlay.lease_key("blue", subnet))
    gone = "Network is unreachable"
    eventually(lambda: connect(one.host, overlay.container(one, "blue"), there) == gone, gone)


def connect(host: Host, source: str, target: str) -> str:
    """What a TCP connect from `source` gets within a second, as the system says it."""

    def attempt() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(1.0)
            sock.bind((source, 0))
            try:
                sock.connect((target, 9))
            except OSError as error:
                return error.strerror or str(error)
            return ""

    return inside(host.netns, attempt)


def test_two_networks_with_one_port_are_said_and_the_second_waits_until_its_config_has_another(
    make_overlay: MakeOverlay,
) -> None:
    overlay = make_overlay(hosts=1, networks={**TWO, "green": udp("10.102.0.0/16")})
    daemon = start_without_green(overlay)
    line = daemon.wait_phase("green", "conflict")
    assert 'udp-port 8285 clashes with 8285 of network "blue": give one of them another Port' in line.text
    assert devices(daemon.host, "green") == []
    overlay.publish("green", TWO["green"])
    daemon.wait_ready("green")
    assert len(devices(daemon.host, "green")) == 1


def start_without_green(overlay: Overlay) -> Flanneld:
    overlay.etcd.start()
    for name, config in overlay.networks.items():
        overlay.publish(name, config)
    daemon = overlay.daemons[0].start()
    daemon.wait_ready("blue")
    return daemon


def test_a_port_that_another_program_has_is_said_leaves_no_device_and_is_taken_when_it_is_free(
    make_overlay: MakeOverlay,
) -> None:
    overlay = make_overlay(hosts=1, networks=TWO)
    daemon = overlay.daemons[0]
    holder = inside(daemon.host.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with holder:
        holder.bind(("0.0.0.0", 8286))
        start_without_green(overlay)
        line = daemon.wait_phase("green", "conflict")
        assert "UDP port 8286 on 192.0.2.1 is in use by another program" in line.text
        assert "choose another Port" in line.text
        mark = daemon.mark()
        time.sleep(3.0)  # several tries
        assert devices(daemon.host, "green") == []
        assert daemon.lines[mark:] == [], "said once"
    daemon.wait_ready("green", timeout_s=20.0)
    assert len(devices(daemon.host, "green")) == 1


def test_killed_workers_lose_no_packet_and_their_devices_stay(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(networks=TWO, flags=FLAGS)
    overlay.start()
    overlay.attach()
    one = overlay.daemons[0]
    before = {network: standing(one.host, network) for network in TWO}
    files = supervisor_files(one)
    pings = overlay.ping()
    for _ in range(5):
        for network in TWO:
            mark = one.mark()
            pid = one.worker_pid(network)
            kill(pid, signal.SIGKILL)
            wait_gone(pid, 5.0)
            one.wait_line("data path user", network=network, after=mark, timeout_s=20.0)
            one.wait_ready(network, after=mark)
            time.sleep(0.1)  # settled: the next one starts at once again
    counts = pings.stop()
    assert {network: count.lost for network, count in counts.items()} == {"blue": 0, "green": 0}, counts
    assert min(count.sent for count in counts.values()) >= 50
    assert {network: standing(one.host, network) for network in TWO} == before
    assert supervisor_files(one) == files


def supervisor_files(daemon: Flanneld) -> list[str]:
    """What the supervisor has open of tunnels: two TUNs, two memories of packets in flight."""
    out = subprocess.run(["ls", "-l", f"/proc/{daemon.pid}/fd"], capture_output=True, text=True, check=True).stdout
    targets = [line.partition(" -> ")[2] for line in out.splitlines()]
    return sorted(target for target in targets if "tun" in target or "flight" in target)


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_that_ended_finds_its_devices_again(make_overlay: MakeOverlay, ended_by: signal.Signals) -> None:
    overlay = make_overlay(networks=TWO)
    overlay.start()
    overlay.attach()
    one, two = overlay.daemons
    before = {network: standing(one.host, network) for network in TWO}
    one.send(ended_by)
    one.wait(15.0)
    one.wait_all_gone(10.0)
    assert {network: len(devices(one.host, network)) for network in TWO} == {"blue": 1, "green": 1}
    overlay.start_daemons([one])
    assert {network: standing(one.host, network) for network in TWO} == before
    for network in TWO:
        overlay.reach(two, one, network)
        overlay.reach(one, two, network)


VANDALISM = {
    "the device is deleted": "ip link del {device}",
    "the device is down": "ip link set {device} down",
    "the MTU is changed": "ip link set {device} mtu 1300",
    "the queue is short": "ip link set {device} txqueuelen 1",
    "the alias is another's": "ip link set {device} alias mine",
    "the address is deleted": "ip addr flush dev {device}",
    "the route is deleted": "ip route del 10.101.0.0/16",
    "a stale route of ours": "ip route add 10.101.250.0/24 dev {device} proto 102",
}


def test_every_kind_of_drift_is_repaired_within_a_second(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(networks=TWO)
    overlay.start()
    overlay.attach()
    one, two = overlay.daemons
    workers, name = one.worker_pids(), device(one.host, "blue")
    before, others = without_numbers(one.host, name), standing(one.host, "green")
    for what, command in VANDALISM.items():
        one.host.run(*command.format(device=name).split())
        eventually(lambda: without_numbers(one.host, name) == before, what, REPAIRED_S)
        overlay.reach(one, two, "blue")
        overlay.reach(two, one, "blue")
    assert one.worker_pids() == workers
    assert standing(one.host, "green") == others
    assert device(one.host, "blue") == name


def without_numbers(host: Host, name: str) -> list[str]:
    """The lines about a device, without the interface numbers, which a new device has anew."""
    lines = kernel_state(host, about=name)
    return sorted(" ".join(word for word in line.split() if not word.rstrip(":").isdigit()) for line in lines)


def test_a_changed_backend_takes_the_old_device_away_at_the_start_of_the_daemon(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1, networks=TWO)
    overlay.start()
    daemon = overlay.daemons[0]
    daemon.stop()
    overlay.publish("blue", vxlan("10.101.0.0/16", 101))
    overlay.start_daemons()
    assert devices(daemon.host, "blue") == ["flannel.101"]
    daemon.stop()
    overlay.publish("blue", TWO["blue"])
    overlay.start_daemons()
    assert device(daemon.host, "blue").startswith("flannel")
    assert "flannel.101" not in daemon.host.links()


def test_an_uplink_with_a_new_address_is_followed_without_a_restart(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(networks=TWO)
    overlay.start()
    overlay.attach()
    one, two = overlay.daemons
    workers, before = one.worker_pids(), {network: device(one.host, network) for network in TWO}
    one.host.ip("addr", "del", "192.0.2.1/24", "dev", "eth0")
    one.host.ip("addr", "add", "192.0.2.101/24", "dev", "eth0")
    one.host.ip("route", "replace", "default", "via", overlay.world.gateway)
    for network in TWO:
        overlay.reach(one, two, network, timeout_s=10)
        overlay.reach(two, one, network, timeout_s=10)
    assert one.worker_pids() == workers
    assert {network: device(one.host, network) for network in TWO} == before
