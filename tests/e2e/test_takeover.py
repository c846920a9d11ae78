"""A host that ran real flannel: what it left is adopted or replaced under traffic, whatever release it was.

No distribution here has a flannel package, so its kernel state is built by hand, as flannel behaviour §7 shows it.
"""

from __future__ import annotations

import json
import shutil
import signal

from tests.e2e.conftest import MakeOverlay, assert_nothing_lost
from tests.lab.flanneld import Flanneld
from tests.lab.overlay import THREE, Overlay, host_gw

MIXED = {**THREE, "green": host_gw("10.102.0.0/16")}


def test_what_real_flannel_left_is_taken_over_without_a_lost_packet(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(networks=MIXED)
    overlay.start()
    overlay.attach()
    here, there = overlay.daemons
    assert there.stop() == 0
    subnets = {network: overlay.subnet(there, network) for network in MIXED}
    macs = {device: mac(there, device) for device in ("flannel.101", "flannel.103")}
    shutil.rmtree(there.state_dir)
    as_flannel_0_28_leaves_vxlan(overlay, there, overlay.subnet(here, "blue"))
    as_any_flannel_leaves_host_gw(there, overlay.subnet(here, "green"), here.host.address)
    as_flannel_0_7_leaves_vxlan(there, overlay.subnet(here, "red"), overlay.container(here, "red"))
    overlay.reach(there, here, "red")
    pings = overlay.ping()
    signal.sigtimedwait((), 0.3)
    overlay.start_daemons([there])
    signal.sigtimedwait((), 0.5)
    assert_nothing_lost(pings.stop())
    assert {network: overlay.subnet(there, network) for network in MIXED} == subnets
    assert {device: mac(there, device) for device in macs} == macs
    for network, way in (
        ("blue", f"via {base(overlay.subnet(here, 'blue'))} dev flannel.101 proto 102 onlink"),
        ("green", f"via {here.host.address} dev eth0 proto 102"),
        ("red", f"via {base(overlay.subnet(here, 'red'))} dev flannel.103 proto 102 onlink"),
    ):
        assert there.host.ip("route", "show", overlay.subnet(here, network)).split() == [
            overlay.subnet(here, network), *way.split(),
        ]  # fmt: skip
    assert there.host.ip("route", "show", "exact", "10.103.0.0/16") == ""
    assert "PERMANENT" in there.host.ip("neigh", "show", base(overlay.subnet(here, "red")), "dev", "flannel.103")
    assert there.host.ip("neigh", "show", overlay.container(here, "red"), "dev", "flannel.103") == ""


def as_flannel_0_28_leaves_vxlan(overlay: Overlay, daemon: Flanneld, peer: str) -> None:
    """The same objects without our marks, and a lease value of its form."""
    host = daemon.host
    host.ip("link", "set", "flannel.101", "alias", "")
    host.ip("route", "replace", peer, "via", base(peer), "dev", "flannel.101", "onlink", "proto", "boot")
    value = {
        "PublicIP": host.address, "PublicIPv6": None, "BackendType": "vxlan",
        "BackendData": {"VNI": 101, "VtepMAC": mac(daemon, "flannel.101")},
    }  # fmt: skip
    overlay.etcd.put(overlay.lease_key("blue", overlay.subnet(daemon, "blue")), json.dumps(value))


def as_any_flannel_leaves_host_gw(daemon: Flanneld, peer: str, gateway: str) -> None:
    daemon.host.ip("route", "replace", peer, "via", gateway, "dev", "eth0", "proto", "boot")


def as_flannel_0_7_leaves_vxlan(daemon: Flanneld, peer: str, container: str) -> None:
    """One route for all of Network, a neighbour for each address that was talked to, and the kernel asks the daemon."""
    host = daemon.host
    vtep = host.ip("neigh", "show", base(peer), "dev", "flannel.103").split()[2]
    host.ip("link", "set", "flannel.103", "alias", "")
    host.ip("route", "replace", "10.103.0.0/16", "dev", "flannel.103")
    host.ip("neigh", "replace", container, "lladdr", vtep, "dev", "flannel.103", "nud", "reachable")
    host.ip("route", "del", peer)
    host.ip("neigh", "del", base(peer), "dev", "flannel.103")
    host.run("sysctl", "-qw", "net/ipv4/neigh/flannel.103/app_solicit=3")


def base(subnet: str) -> str:
    return subnet.partition("/")[0]


def mac(daemon: Flanneld, device: str) -> str:
    return str(json.loads(daemon.host.ip("-j", "link", "show", device))[0]["address"])
