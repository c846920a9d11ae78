"""Whatever somebody else does to a network's kernel state is undone within a second, and nothing else is touched."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.e2e.conftest import MakeOverlay
from tests.lab.flanneld import Flanneld, eventually
from tests.lab.kernel import kernel_state
from tests.lab.overlay import THREE, Overlay, host_gw

REPAIRED_S = 1.0
VANDALISM = {
    "a route is deleted": "ip route del {subnet}",
    "a route leads elsewhere": "ip route replace {subnet} via 192.0.2.254 dev eth0",
    "a neighbour is deleted": "ip neigh del {base} dev flannel.101",
    "a neighbour has another MAC": "ip neigh replace {base} dev flannel.101 lladdr 02:00:00:00:00:01 nud permanent",
    "an FDB entry is deleted": "bridge fdb del {mac} dev flannel.101 dst {peer} self",
    "an FDB entry leads elsewhere": "bridge fdb replace {mac} dev flannel.101 dst 192.0.2.99 self permanent",
    "the address is deleted": "ip addr flush dev flannel.101",
    "the MTU is changed": "ip link set flannel.101 mtu 1300",
    "the alias is another's": "ip link set flannel.101 alias mine",
    "the device is down": "ip link set flannel.101 down",
    "a stale route of ours": "ip route add 10.101.250.0/24 via 10.101.250.0 dev flannel.101 onlink proto 102",
}


def test_every_kind_of_drift_is_repaired_within_a_second(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay()
    overlay.start()
    overlay.attach()
    one, two = overlay.daemons
    host = one.host
    workers = one.worker_pids()
    before = kernel_state(host)
    subnet = overlay.subnet(two, "blue")
    mac = json.loads(overlay.etcd.get(overlay.lease_key("blue", subnet)) or b"{}")["BackendData"]["VtepMAC"]
    facts = {"subnet": subnet, "base": subnet.partition("/")[0], "mac": mac, "peer": two.host.address}
    for name, command in VANDALISM.items():
        host.run(*command.format(**facts).split())
        eventually(lambda: kernel_state(host) == before, name, REPAIRED_S)
        overlay.reach(one, two, "blue")
        eventually(lambda: last_phase(one, "blue") == "ready", f"ready after {name}", REPAIRED_S)
    assert one.worker_pids() == workers


def last_phase(daemon: Flanneld, network: str) -> str:
    """What the supervisor last said of a network."""
    said = [line.text for line in daemon.lines if line.text.startswith(f"{network}: ")]
    return said[-1].split()[1].rstrip(":")


def test_a_device_with_another_mac_is_reached_again(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay()
    overlay.start()
    overlay.attach()
    one, two = overlay.daemons
    workers = one.worker_pids()
    one.host.ip("link", "set", "flannel.101", "address", "02:00:00:00:00:02")
    overlay.reach(two, one, "blue", timeout_s=2)
    overlay.reach(one, two, "blue", timeout_s=2)
    assert one.worker_pids() == workers


def test_a_deleted_device_comes_back_with_its_mac_and_all_that_was_on_it(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay()
    overlay.start()
    overlay.attach()
    one, two = overlay.daemons
    others = [kernel_state(one.host, about=f"flannel.{vni}") for vni in (102, 103)]
    before = mac_and_entries(overlay)
    one.host.ip("link", "del", "flannel.101")
    eventually(lambda: mac_and_entries(overlay) == before, "device, address, route, neighbour, FDB", REPAIRED_S)
    overlay.reach(two, one, "blue")
    assert [kernel_state(one.host, about=f"flannel.{vni}") for vni in (102, 103)] == others


def test_foreign_routes_addresses_and_links_are_left_alone(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay()
    host = overlay.hosts[0]
    host.ip("link", "add", "mine0", "type", "bridge")
    host.ip("addr", "add", "10.200.0.1/24", "dev", "mine0")
    host.ip("link", "set", "mine0", "up")
    host.ip("route", "add", "10.201.0.0/16", "via", "192.0.2.254")
    foreign = [kernel_state(host, about=word) for word in ("mine0", "10.201.0.0/16")]
    overlay.start()
    overlay.daemons[0].stop()
    overlay.start_daemons([overlay.daemons[0]])
    assert [kernel_state(host, about=word) for word in ("mine0", "10.201.0.0/16")] == foreign


@pytest.mark.parametrize("second", ["vxlan", "host-gw"])
def test_an_uplink_with_a_new_address_is_followed_without_a_restart(make_overlay: MakeOverlay, second: str) -> None:
    networks = {"blue": THREE["blue"], "green": THREE["green"] if second == "vxlan" else host_gw("10.102.0.0/16")}
    overlay = make_overlay(networks=networks)
    overlay.start()
    overlay.attach()
    one, two = overlay.daemons
    workers = [daemon.worker_pids() for daemon in overlay.daemons]
    envs = [one.env(network) for network in networks]
    one.host.ip("addr", "del", "192.0.2.1/24", "dev", "eth0")
    one.host.ip("addr", "add", "192.0.2.101/24", "dev", "eth0")
    one.host.ip("route", "replace", "default", "via", overlay.world.gateway)
    for network in networks:
        key = overlay.lease_key(network, overlay.subnet(one, network))
        eventually(partial(names, overlay, key, "192.0.2.101"), f"the lease of {network}", 10.0)
        overlay.reach(one, two, network)
        overlay.reach(two, one, network)
    assert [daemon.worker_pids() for daemon in overlay.daemons] == workers
    assert [one.env(network) for network in networks] == envs


def names(overlay: Overlay, key: str, address: str) -> bool:
    """True when the lease at `key` says that its holder is `address`."""
    return f'"{address}"'.encode() in (overlay.etcd.get(key) or b"")


def mac_and_entries(overlay: Overlay) -> list[str]:
    """The lines about the device, without the interface numbers."""
    lines = kernel_state(overlay.hosts[0], about="flannel.101")
    return sorted(" ".join(word for word in line.split() if not word.rstrip(":").isdigit()) for line in lines)
