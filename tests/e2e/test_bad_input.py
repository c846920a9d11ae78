"""One network's poison in the store stays in that network: one clear line, and the others never notice."""

from __future__ import annotations

import signal

from tests.e2e.conftest import MakeOverlay, assert_nothing_lost
from tests.lab.flanneld import Flanneld, eventually, kill
from tests.lab.kernel import kernel_state
from tests.lab.overlay import THREE, Overlay, crowd, vxlan
from tests.lab.storehosts import PREFIX
from tests.unit.model.test_config import MALFORMED

KEY = f"{PREFIX}/blue/config"
OTHERS = ("green", "red")


def backend(text: str) -> bytes:
    return b'{"Network":"10.101.0.0/16","Backend":' + text.encode() + b"}"


BAD_BACKENDS = {
    "unknown backend": backend('{"Type":"vxlam"}'),
    "udp Port zero": backend('{"Type":"udp","Port":0}'),
    "udp Offload string": backend('{"Type":"udp","Offload":"yes"}'),
    "udp DataPath unknown": backend('{"Type":"udp","DataPath":"fast"}'),
    "VNI negative": backend('{"Type":"vxlan","VNI":-1}'),
    "VNI too large": backend('{"Type":"vxlan","VNI":16777216}'),
    "VNI string": backend('{"Type":"vxlan","VNI":"101"}'),
    "VNI huge": backend('{"Type":"vxlan","VNI":' + "9" * 400 + "}"),
    "VNI true": backend('{"Type":"vxlan","VNI":true}'),
    "Port too large": backend('{"Type":"vxlan","Port":65536}'),
    "Port fraction": backend('{"Type":"vxlan","Port":8472.5}'),
    "GBP number": backend('{"Type":"vxlan","GBP":1}'),
    "DirectRouting string": backend('{"Type":"vxlan","DirectRouting":"yes"}'),
    "MTU tiny": backend('{"Type":"vxlan","MTU":10}'),
}
STORABLE = 1_500_000  # bytes: etcd refuses a larger request, so such a config can only come from another store
BAD_CONFIGS = {name: raw for name, raw in {**MALFORMED, **BAD_BACKENDS}.items() if len(raw) < STORABLE}


def test_every_malformed_config_is_one_line_and_quarantines_its_network_alone(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    daemon = start_without_blue(overlay)
    blue, others = daemon.worker_pid("blue"), {name: daemon.worker_pid(name) for name in OTHERS}
    kernel = kernel_state(daemon.host)
    assert len(BAD_CONFIGS) >= 40
    for name, raw in BAD_CONFIGS.items():
        mark = daemon.mark()
        overlay.etcd.put(KEY, raw)
        line = daemon.wait_phase("blue", "quarantined", after=mark)
        assert KEY in line.text, name
        assert line.text.isprintable(), name
        assert len(line.text) < 300, name
        overlay.etcd.delete(KEY)
        daemon.wait_phase("blue", "waiting-for-config", after=mark)
        said = [line.text for line in daemon.lines[mark:]]
        assert len(said) == 2, (name, said)
    assert daemon.worker_pid("blue") == blue  # no respawn loop: it lives and watches
    assert {name: daemon.worker_pid(name) for name in OTHERS} == others
    assert kernel_state(daemon.host) == kernel
    mark = daemon.mark()
    overlay.etcd.put(KEY, BAD_CONFIGS["null"])
    daemon.wait_phase("blue", "quarantined", after=mark)
    overlay.publish("blue", THREE["blue"])
    daemon.wait_ready("blue", after=mark)


def test_a_bad_config_under_a_running_network_changes_nothing_until_the_next_start(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    kernel, env = kernel_state(daemon.host), daemon.env("blue")
    eventually(daemon.state_file("blue").exists, "the last known state is on disk")
    mark = daemon.mark()
    overlay.etcd.put(KEY, b"[]")
    assert "config changed" in daemon.wait_phase("blue", "ready", after=mark).text
    kill(daemon.worker_pid("blue"), signal.SIGKILL)
    daemon.wait_line("next start in", after=mark)
    mark = daemon.mark()
    assert "config changed" in daemon.wait_phase("blue", "ready", after=mark).text
    daemon.stop()
    mark = daemon.mark()
    daemon.start()
    line = daemon.wait_line(f"^blue: degraded: .*{KEY}", network="supervisor", after=mark)
    assert "expected a JSON object" in line.text
    assert (kernel_state(daemon.host), daemon.env("blue")) == (kernel, env)
    overlay.publish("blue", THREE["blue"])
    daemon.wait_ready("blue", after=mark)


MAC = '"BackendData":{"VtepMAC":"02:00:00:00:00:%02x"}'
VX = '{"PublicIP":"192.0.2.%d","BackendType":"vxlan",' + MAC + "}"
BAD_LEASES: dict[str, bytes] = {
    "not-a-subnet": b"{}",
    "10.101.40.0-24/child": b"{}",
    "10.101.41.0-31": (VX % (41, 41)).encode(),
    "10.101.42.0-32": (VX % (42, 42)).encode(),
    "10.101.43.0-99": (VX % (43, 43)).encode(),
    "10.101.44.0": (VX % (44, 44)).encode(),
    "300.1.1.0-24": (VX % (45, 45)).encode(),
    "10.101.46.0-": (VX % (46, 46)).encode(),
    "": b"",
    "10.101.50.0-24": b"",
    "10.101.51.0-24": b"null",
    "10.101.52.0-24": b"[1]",
    "10.101.53.0-24": b"no JSON",
    "10.101.54.0-24": b"\xff\xfe",
    "10.101.55.0-24": b'{"PublicIP":7}',
    "10.101.56.0-24": b'{"PublicIP":"nobody"}',
    "10.101.57.0-24": b'{"PublicIP":"192.0.2.57","BackendType":"vxlan"}',
    "10.101.58.0-24": b'{"PublicIP":"192.0.2.58","BackendType":"vxlan","BackendData":{"VtepMAC":"zz"}}',
    "10.101.59.0-24": b'{"PublicIP":"192.0.2.59","BackendType":"vxlan","BackendData":{"VtepMAC":"01:00:00:00:00:59"}}',
    "10.101.60.0-24": b'{"PublicIP":"192.0.2.60","BackendType":"udp"}',
    "10.101.61.0-24": b"[" * 50_000,
    "10.101.62.0-24": b'{"a":' * 20_000,
    "10.101.63.0-24": b'{"PublicIP":"192.0.2.63","BackendType":"vxlan","BackendData":[[[]]]}',
    "10.101.64.0-24": b'{"PublicIP":"0.0.0.0","BackendType":"vxlan",' + (MAC % 64).encode() + b"}",
    "10.101.65.0-24": b'{"PublicIP":"192.0.2.65","BackendType":{},"BackendData":' + b"9" * 5000 + b"}",
    "10.250.0.0-24": (VX % (66, 66)).encode(),
}


def test_leases_of_any_shape_are_skipped_and_later_changes_are_still_seen(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.etcd.start()
    folder = f"{PREFIX}/blue/subnets/"
    half = len(BAD_LEASES) // 2
    items = list(BAD_LEASES.items())
    for key, value in items[:half]:  # some there before, some come later
        overlay.etcd.put(folder + key, value)
    for network, config in overlay.networks.items():
        overlay.publish(network, config)
    overlay.start_daemons()
    daemon = overlay.daemons[0]
    workers = daemon.worker_pids()
    for key, value in items[half:]:
        overlay.etcd.put(folder + key, value)
    overlay.etcd.put(folder.encode() + b"\xff\xfe-24", b"{}")
    overlay.etcd.put(folder + "10.101.99.0-24", VX % (99, 99))
    eventually(lambda: bool(kernel_state(daemon.host, about="route 10.101.99.0/24 via")), "the good peer's route")
    assert daemon.worker_pids() == workers
    for at in range(40, 67):
        assert not kernel_state(daemon.host, about=f"route 10.101.{at}.0/24"), at
    mark = daemon.mark()
    kill(daemon.worker_pid("blue"), signal.SIGKILL)  # the same keys met in a listing
    daemon.wait_ready("blue", after=mark)
    overlay.etcd.delete(folder + "10.101.99.0-24")
    eventually(lambda: not kernel_state(daemon.host, about="route 10.101.99.0/24"), "the route is gone")
    assert {name: daemon.worker_pid(name) for name in OTHERS} == {name: workers[name] for name in OTHERS}


def test_ten_thousand_leases_in_one_network_do_not_touch_the_others(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(networks={**THREE, "blue": vxlan("10.128.0.0/10", 101)})
    overlay.start()
    overlay.attach()
    daemon = overlay.daemons[0]
    others = {name: daemon.worker_pid(name) for name in OTHERS}
    pings = overlay.ping()
    overlay.etcd.put_many(crowd(overlay, "blue", 10_000))
    last = f"route 10.{130 + 9_999 // 256}.{9_999 % 256}.0/24"
    eventually(lambda: bool(kernel_state(daemon.host, about=last)), "the last peer is in the kernel", 30.0)
    counts = pings.stop()
    assert_nothing_lost(counts)
    assert {name: daemon.worker_pid(name) for name in OTHERS} == others


def start_without_blue(overlay: Overlay) -> Flanneld:
    """etcd, and the daemon with the two other networks ready; blue has no config yet."""
    overlay.etcd.start()
    for network in OTHERS:
        overlay.publish(network, THREE[network])
    daemon = overlay.daemons[0].start()
    for network in OTHERS:
        daemon.wait_ready(network)
    daemon.wait_phase("blue", "waiting-for-config")
    return daemon
