"""The kernel's own path in a worker: chosen, said in the lease, kept in step with the peers, put back, taken away."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.bench import NETWORK, Bench, end, on_bench, peers, udp
from tests.kernel.place import links, next_drift, open_tun, quiet, run, subnet

BPF, AUTO, USER = udp(DataPath="bpf"), udp(DataPath="auto"), udp(DataPath="user")
SAID = {"DataPath": "bpf"}
NO_ETHERNET = "the uplink has no Ethernet header, which the kernel programs need"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _pins(_host: None) -> Iterator[None]:
    """None of an earlier namespace with the same number, none left."""
    shutil.rmtree(pins(), ignore_errors=True)
    yield
    shutil.rmtree(pins(), ignore_errors=True)


@pytest.fixture(autouse=True)
def wire(_host: None) -> Iterator[socket.socket]:
    """What this host sends to hosts 2 to 4 by eth0."""
    for number in (2, 3, 4):
        run(f"ip neigh add 192.168.77.{number} lladdr 02:00:00:00:00:0{number} dev eth0")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap:
        tap.bind(("far", 0x0800))
        tap.settimeout(5.0)
        yield tap


def pins() -> Path:
    return Path("/sys/fs/bpf/flannel", str(Path("/proc/thread-self/ns/net").stat().st_ino))


def filters(device: str = "eth0") -> str:
    """Programs on the device's hooks."""
    return run(f"tc filter show dev {device} ingress") + run(f"tc filter show dev {device} egress")


def remains(device: str = "eth0") -> set[str]:
    """What of the kernel path stands on this host, whose uplink is or was `device`."""
    found = {name for name in ("tun_egress", "uplink_ingress") if name in filters(device)}
    found |= {f"clsact on {device}"} if "clsact" in run(f"tc qdisc show dev {device}") else set()
    found |= {"tun_egress"} if "flannel0" in links() and "tun_egress" in filters("flannel0") else set()
    found |= {name for name in links() if name.startswith("flgro")}
    return found | {"pins" for path in pins().rglob("networks/*/*")}


def rows() -> dict[str, bool]:
    """The kernel's peer table: is that subnet reached through the kernel?"""
    found = {}
    for row in json.loads(run(f"bpftool -j map dump pinned {pins()}/networks/blue/peers")):
        key, value = (bytes(int(byte, 16) for byte in row[part]) for part in ("key", "value"))
        found[f"{socket.inet_ntoa(key[4:8])}/{key[0]}"] = bool(value[4])
    return found


def carrier(wire: socket.socket, address: str) -> str:
    """Which path a packet to `address` takes: only the kernel's leaves the outer checksum out (overlay.bpf.c)."""
    return "user" if struct.unpack_from("!H", sent(wire, address), 40)[0] else "kernel"


def sent(wire: socket.socket, address: str) -> bytes:
    """The frame that a packet to `address` becomes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"by whom?", (address, 9))
    while True:
        frame = wire.recv(2000)
        if frame[23] == socket.IPPROTO_UDP and frame.endswith(b"by whom?"):
            return frame


def once(*words: str, inside: str = "") -> tuple[dict[str, Any], str]:
    """What once.py says, and its log; `inside`: shell commands for a mount namespace of its own."""
    command = [sys.executable, "-m", "tests.kernel.once", *words]
    if inside:
        command = ["unshare", "-m", "sh", "-ec", f'{inside}\nexec "$@"', "sh", *command]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "workers")))}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


# -- wanted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [BPF, AUTO], ids=["bpf", "auto"])
def test_the_programs_stand_on_both_devices_and_the_own_lease_says_so(backend: Any) -> None:
    async def story(bench: Bench) -> None:
        await bench.step()
        assert "tun_egress" in run("tc filter show dev flannel0 egress")
        assert "uplink_ingress" in run("tc filter show dev eth0 ingress")
        assert (bench.published(), bench.plane.faults) == (SAID, [])
        assert bench.tunnel.runs, "the user path, beneath"

    end(on_bench(story, backend=backend))


def test_a_peer_is_reached_through_the_kernel_when_its_lease_says_that_it_takes_part(wire: socket.socket) -> None:
    async def story(bench: Bench) -> None:
        await bench.step(peers("2+bpf", "3", "4+user"))
        assert rows() == {"10.5.2.0/24": True, "10.5.3.0/24": False, "10.5.4.0/24": False}
        assert [carrier(wire, f"10.5.{number}.9") for number in (2, 3, 4)] == ["kernel", "user", "user"]

    end(on_bench(story, backend=BPF))


def test_a_lease_that_comes_changes_or_goes_is_followed_at_the_next_event(wire: socket.socket) -> None:
    async def story(bench: Bench) -> None:
        for leases, expected in (
            (peers("2"), {"10.5.2.0/24": False}),
            (peers("2+bpf"), {"10.5.2.0/24": True}),
            (peers("2+bpf", "3+bpf"), {"10.5.2.0/24": True, "10.5.3.0/24": True}),
            (peers("2", "3+bpf"), {"10.5.2.0/24": False, "10.5.3.0/24": True}),
        ):
            await bench.step(leases, whole=False)
            assert rows() == expected
            assert carrier(wire, "10.5.2.9") == ("kernel" if expected["10.5.2.0/24"] else "user")
        leases = peers("3+bpf")
        await bench.plane.apply(bench.backend, NETWORK, subnet(1), leases, [subnet(2)], whole=False)
        assert rows() == {"10.5.3.0/24": True}

    end(on_bench(story, backend=BPF))


def test_a_network_with_the_user_path_alone_pays_nothing_for_the_other() -> None:
    seen, _ = once("user", "2+bpf", inside="mount -t tmpfs none /sys/fs/bpf")  # a host that never had a bpf network
    assert seen["lease"] is None
    parts = ("bpf", "bpffs", "bpfhooks", "bpfobject", "libbpf", "merging", "selftest", "xdp")
    assert not {f"flannel_worker.datapath.{part}" for part in parts} & {*seen["imported"]}
    assert remains() == set()


# -- where it does not work ------------------------------------------------------------------------------------------


def uplink_without_ethernet() -> int:
    """The default route leads into a TUN, whose descriptor this is: what it reads is what this host sends."""
    fd = open_tun("up0", vnet_header=False)
    run("ip address add 192.168.88.1/24 dev up0")
    run("ip link set up0 up")
    run("ip route add 192.168.77.2 dev up0")
    run("ip route replace default dev up0")
    return fd


def sends_to_a_peer(uplink: int) -> bool:
    """Does a packet for the overlay come out of the uplink, in a datagram with a checksum as the user path sends it?"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"by whom?", ("10.5.2.9", 9))
    packet = b""
    while not packet.endswith(b"by whom?"):
        assert select.select([uplink], [], [], 5.0)[0], "nothing was sent"
        packet = os.read(uplink, 2000)
    return struct.unpack_from("!HxxH", packet, 22) != (8285, 0)


def test_auto_goes_without_where_the_uplink_cannot_and_says_it_once(capfd: pytest.CaptureFixture[str]) -> None:
    async def story(bench: Bench) -> None:
        for _ in range(3):
            await bench.step(peers("2+bpf"))
        assert (bench.published(), bench.plane.faults, bench.tunnel.runs) == (None, [], True)
        assert sends_to_a_peer(uplink)
        assert remains() == set()

    uplink = uplink_without_ethernet()
    end(on_bench(story, backend=AUTO))
    os.close(uplink)
    said = [line for line in capfd.readouterr().err.splitlines() if "data path bpf" in line]
    assert len(said) == 1
    assert f"data path bpf not used: {NO_ETHERNET}" in said[0]


def test_bpf_where_the_uplink_cannot_is_a_fault_and_the_user_path_carries() -> None:
    async def story(bench: Bench) -> None:
        await bench.step(peers("2+bpf"))
        assert bench.plane.faults == [f"data path bpf: {NO_ETHERNET}; packets go by the user path"]
        assert (bench.published(), bench.tunnel.runs) == (None, True)
        assert sends_to_a_peer(uplink)
        run("ip route replace default via 192.168.77.254 dev eth0")
        await bench.step(peers("2+bpf"))
        assert (bench.published(), bench.plane.faults) == (SAID, [])

    uplink = uplink_without_ethernet()
    end(on_bench(story, backend=BPF))
    os.close(uplink)


HIDE = 'for file in $(ldconfig -p | sed -n "s/.*libbpf.so.1.*=> //p"); do mount --bind /dev/null $file; done'
WHY = "libbpf.so.1 is missing: install libbpf1 (Debian, Ubuntu) or libbpf (Fedora)"


def test_without_libbpf_auto_goes_without_and_bpf_is_a_fault_that_says_what_to_install() -> None:
    seen, said = once("auto", "2+bpf", inside=HIDE)
    assert (seen["runs"], seen["faults"], seen["lease"]) == (True, [], None)
    assert said.count("data path bpf") == said.count(f"data path bpf not used: {WHY}") == 1
    seen, said = once("bpf", "2+bpf", inside=HIDE)
    assert (seen["runs"], seen["faults"], seen["lease"]) == (
        True,
        [f"data path bpf: {WHY}; packets go by the user path"],
        None,
    )
    assert remains() == set()


@pytest.mark.parametrize("mode", ["bpf", "auto", "user"])
def test_programs_of_an_earlier_run_send_nothing_more_where_libbpf_has_gone(mode: str) -> None:
    """Their peers are those of the past: one that has moved since would get nothing."""
    once("bpf", "2+bpf")
    assert "tun_egress" in filters("flannel0")
    seen, said = once(mode, "2+bpf", inside=HIDE)
    assert seen["runs"]
    assert filters("flannel0") == ""
    assert said.count(f"data path bpf: what an earlier run left on the uplink stays: {WHY}") == 1
    once("user", "2")
    assert remains() == set(), "libbpf is back: the rest goes too"


def test_an_uplink_that_cannot_after_one_that_could_leaves_nothing_there(capfd: pytest.CaptureFixture[str]) -> None:
    async def story(bench: Bench) -> None:
        await bench.step(peers("2+bpf"))
        uplinks.append(uplink_without_ethernet())
        await bench.step(peers("2+bpf"))
        assert remains() == set()
        assert (bench.published(), bench.plane.faults) == (None, [])
        bench.plane.look()
        assert remains() == set()
        assert sends_to_a_peer(uplinks[0])

    uplinks: list[int] = []
    end(on_bench(story, backend=AUTO))
    os.close(uplinks[0])
    assert f"data path bpf no longer used: {NO_ETHERNET}" in capfd.readouterr().err


# -- interference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [
    "tc filter del dev flannel0 egress pref 8285", "tc filter del dev eth0 ingress pref 8285",
    "tc qdisc del dev flannel0 clsact", "tc qdisc del dev eth0 clsact", "ip link del flgro8285a",
])  # fmt: skip
def test_what_somebody_takes_from_the_hooks_is_put_back_at_the_next_look(
    spoil: str, wire: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story(bench: Bench) -> None:
        run("ethtool -K eth0 tso off gro on")  # so that there is a pair that merges
        await bench.step(peers("2+bpf"))
        before = remains()
        assert {"tun_egress", "uplink_ingress", "flgro8285a", "flgro8285b"} <= before
        run(spoil)
        assert remains() != before
        bench.plane.look()
        assert remains() == before
        assert carrier(wire, "10.5.2.9") == "kernel"
        assert bench.plane.faults == []

    end(on_bench(story, backend=BPF))
    assert capfd.readouterr().err.count("programs were gone from their place, and are back") == 1


STRANGER = "tc filter add dev eth0 ingress pref 8285 protocol all u32 match u32 0 0 flowid 1:1"


def test_a_stranger_in_our_place_is_a_fault_until_it_is_gone(wire: socket.socket) -> None:
    async def story(bench: Bench) -> None:
        await bench.step(peers("2+bpf"))
        run("tc filter del dev eth0 ingress pref 8285")
        run(STRANGER)
        bench.plane.look()
        assert await next_drift(bench.reconciler) == "data path bpf failed", "the lease says what is not so: look again"
        for _ in range(2):
            await bench.step(peers("2+bpf"))
            (fault,) = bench.plane.faults
            assert "uplink_ingress (prio 8285, ingress of interface" in fault
            assert bench.published() is None
            assert carrier(wire, "10.5.2.9") == "user"
        assert "u32" in filters()
        run("tc filter del dev eth0 ingress pref 8285")
        await bench.step(peers("2+bpf"))
        assert bench.plane.faults == []
        assert await next_drift(bench.reconciler) == "data path bpf works again"
        await bench.step(peers("2+bpf"))
        assert bench.published() == SAID
        assert carrier(wire, "10.5.2.9") == "kernel"
        assert await quiet(bench.reconciler) is None

    end(on_bench(story, backend=BPF))


def test_auto_does_without_where_a_stranger_is_in_our_place(wire: socket.socket) -> None:
    async def story(bench: Bench) -> None:
        run("tc qdisc add dev eth0 clsact")
        run(STRANGER)
        await bench.step(peers("2+bpf"))
        assert await next_drift(bench.reconciler) == "data path bpf failed"
        await bench.step(peers("2+bpf"))
        assert (bench.published(), bench.plane.faults) == (None, [])
        assert carrier(wire, "10.5.2.9") == "user"
        assert remains() == {"clsact on eth0"}

    end(on_bench(story, backend=AUTO))


def test_a_device_made_anew_has_the_programs_too(wire: socket.socket) -> None:
    async def story(bench: Bench) -> None:
        await bench.step(peers("2+bpf"))
        run("ip link del flannel0")
        await next_drift(bench.reconciler)
        await bench.step(peers("2+bpf"))
        assert "tun_egress" in run("tc filter show dev flannel0 egress")
        assert carrier(wire, "10.5.2.9") == "kernel"
        assert bench.plane.faults == []

    end(on_bench(story, backend=BPF))
    assert remains() == set()


def test_another_uplink_has_the_programs_and_the_one_before_has_nothing() -> None:
    async def story(bench: Bench) -> None:
        await bench.step(peers("2+bpf"))
        run("ip link add eth1 type veth peer name far1")
        run("ip address add 192.168.99.1/24 dev eth1")
        run("ip link set eth1 up")
        run("ip route replace default dev eth1")
        await bench.step(peers("2+bpf"))
        assert "uplink_ingress" in run("tc filter show dev eth1 ingress")
        assert "clsact" not in run("tc qdisc show dev eth0")
        assert bench.plane.faults == []

    end(on_bench(story, backend=BPF))
    assert remains("eth1") == set()


def test_another_address_of_the_same_uplink_is_the_sender_from_then_on(wire: socket.socket) -> None:
    async def story(bench: Bench) -> None:
        await bench.step(peers("2+bpf"))
        run("ip address add 192.168.77.101/24 dev eth0")
        run("ip address del 192.168.77.1/24 dev eth0")
        run("ip address replace 192.168.77.101/24 dev eth0")
        run("ip route replace default via 192.168.77.254 dev eth0")
        run("ip neigh replace 192.168.77.2 lladdr 02:00:00:00:00:02 dev eth0")
        await bench.step(peers("2+bpf"))
        assert sent(wire, "10.5.2.9")[26:30] == socket.inet_aton("192.168.77.101")
        assert carrier(wire, "10.5.2.9") == "kernel"

    end(on_bench(story, backend=BPF))


# -- the end of it ---------------------------------------------------------------------------------------------------


def test_a_config_with_the_user_path_takes_all_of_the_other_away_and_packets_flow_on(wire: socket.socket) -> None:
    async def story(bench: Bench) -> None:
        run("ethtool -K eth0 tso off gro on")
        await bench.step(peers("2+bpf"))
        assert {"clsact on eth0", "flgro8285a", "pins"} <= remains()
        bench.backend = USER
        await bench.step(peers("2+bpf"))
        assert remains() == set()
        bench.plane.look()
        assert remains() == set(), "nobody puts it back"
        assert (bench.published(), bench.plane.faults, bench.tunnel.runs) == (None, [], True)
        assert carrier(wire, "10.5.2.9") == "user"
        bench.backend = BPF
        await bench.step(peers("2+bpf"))
        assert carrier(wire, "10.5.2.9") == "kernel"

    end(on_bench(story, backend=BPF))


@pytest.mark.parametrize("backend", [BPF, USER], ids=["bpf", "user"])
def test_what_is_withdrawn_leaves_nothing_at_all(backend: Any) -> None:
    async def story(bench: Bench) -> None:
        run("ethtool -K eth0 tso off gro on")
        await bench.step(peers("2+bpf"))
        await bench.plane.withdraw(backend, NETWORK)
        assert remains() == set()

    end(on_bench(story, backend=BPF))


def test_a_host_that_lost_its_lease_carries_nothing_through_the_kernel_either(wire: socket.socket) -> None:
    async def story(bench: Bench) -> None:
        await bench.step(peers("2+bpf"))
        await bench.plane.stand_down(bench.backend, NETWORK)
        assert remains() == set()
        bench.plane.look()
        assert remains() == set()
        await bench.step(peers("2+bpf"))
        assert carrier(wire, "10.5.2.9") == "kernel"

    end(on_bench(story, backend=BPF))


# -- over a restart of the whole process -----------------------------------------------------------------------------


def test_a_restarted_daemon_goes_on_with_the_peers_it_finds_until_the_store_answers(wire: socket.socket) -> None:
    seen, _ = once("bpf", "2+bpf", "3+bpf")
    assert (seen["lease"], seen["faults"]) == (SAID, [])
    assert carrier(wire, "10.5.2.9") == "kernel", "no process is left"

    async def story(bench: Bench) -> None:
        await bench.step(peers("2", "4+bpf"), remembered=True)
        assert rows() == {"10.5.2.0/24": True, "10.5.3.0/24": True}
        assert [carrier(wire, f"10.5.{number}.9") for number in (2, 3)] == ["kernel", "kernel"]
        await bench.step(peers("2", "4+bpf"))
        assert rows() == {"10.5.2.0/24": False, "10.5.4.0/24": True}

    end(on_bench(story, backend=BPF))
    assert remains() == set()


def test_what_is_remembered_serves_where_the_kernel_has_nothing(wire: socket.socket) -> None:
    async def story(bench: Bench) -> None:
        await bench.step(peers("2+bpf"), remembered=True)
        assert rows() == {"10.5.2.0/24": True}
        assert carrier(wire, "10.5.2.9") == "kernel"

    end(on_bench(story, backend=BPF))


def test_a_daemon_that_dies_twice_leaves_the_same_as_one_that_dies_once() -> None:
    once("bpf", "2+bpf")
    before = remains(), rows(), filters().count("uplink_ingress"), filters("flannel0").count("tun_egress")
    once("bpf", "2", "remembered")
    assert (remains(), rows(), filters().count("uplink_ingress"), filters("flannel0").count("tun_egress")) == before


@pytest.mark.parametrize("path", ["user", "auto"])
def test_a_restart_with_a_config_or_a_place_for_the_user_path_alone_leaves_nothing_of_the_other(
    path: str, wire: socket.socket
) -> None:
    run("ethtool -K eth0 tso off gro on")
    once("bpf", "2+bpf")
    assert {"clsact on eth0", "flgro8285a", "pins"} <= remains()
    uplink = uplink_without_ethernet() if path == "auto" else -1
    seen, _ = once(path, "2+bpf")
    assert (seen["lease"], seen["faults"], seen["runs"]) == (None, [], True)
    assert remains() == set()
    if uplink >= 0:
        os.close(uplink)


def test_what_an_earlier_run_left_is_withdrawn_without_an_uplink() -> None:
    run("ethtool -K eth0 tso off gro on")
    once("bpf", "2+bpf")

    async def leave(bench: Bench) -> None:
        run("ip route del default")
        await bench.plane.withdraw(BPF, NETWORK)

    on_bench(leave)
    assert remains() == set()
    assert "flannel0" not in links()


def test_a_restart_onto_an_uplink_where_it_fails_leaves_nothing_on_the_one_before() -> None:
    once("bpf", "2+bpf")
    run("ip link add eth1 type veth peer name far1")
    run("ip address add 192.168.99.1/24 dev eth1")
    run("ip link set eth1 up")
    run("ip route replace default dev eth1")
    run("tc qdisc add dev eth1 clsact")
    run(STRANGER.replace("eth0", "eth1"))
    seen, _ = once("bpf", "2+bpf")
    assert len(seen["faults"]) == 1
    assert remains() == set()
    assert remains("eth1") == {"clsact on eth1"}
