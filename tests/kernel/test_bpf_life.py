"""What of the kernel programs stays, is taken over, repaired and taken away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flannel_multi.model.subnet import parse_ip
from flannel_worker.datapath import bpffs, bpfplace
from flannel_worker.datapath.protocol import Peer
from flannel_worker.datapath.selftest import self_test
from tests.kernel.twohosts import Host, Network, Stream, echoes, joined, peer, transfer, two_hosts, udp

HERE = Peer(parse_ip("10.9.3.0"), 24, parse_ip("192.0.2.3"))


@pytest.fixture(params=["plain", "merged", "xdp"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Network, Network]]:
    cable = "ideal" if request.param == "plain" else "nic"
    with joined(cable, receiving=request.param) as networks:
        yield networks


def test_traffic_flows_on_without_any_process(pair: tuple[Network, Network]) -> None:
    left, right = pair
    with Stream(left, right) as stream:
        stream.reach(100)
        left.kill()
        right.kill()
        stream.reach(1000)
    assert (stream.lost(), stream.sent > 1000) == (0, True)
    assert transfer(left.host, right.host, right.inner, 5 << 20)
    for network in pair:
        _withdraw(network)


def test_programs_are_replaced_under_traffic_without_a_loss(pair: tuple[Network, Network]) -> None:
    left, right = pair
    with Stream(left, right) as stream:
        for _ in range(10):
            stream.reach(50)
            for near, far in ((left, right), (right, left)):
                assert near.bpf is not None
                near.bpf.close()
                near.start_bpf(peer(far))
    assert stream.lost() == 0
    assert left.user_packets() == 0


def test_a_new_worker_goes_on_with_the_peers_and_counters_of_the_one_before(pair: tuple[Network, Network]) -> None:
    left, right = pair
    assert transfer(left.host, right.host, right.inner, 1 << 20)
    assert left.bpf is not None
    before = left.bpf.peer_counters()
    left.bpf.close()
    left.start_bpf()
    assert left.bpf.peer_counters() == before
    assert transfer(left.host, right.host, right.inner, 1 << 20)
    assert left.user_packets() == 0


def test_a_tcp_transfer_survives_the_replacement_of_programs_and_maps(pair: tuple[Network, Network]) -> None:
    left, right = pair
    over = threading.Event()

    def replace() -> None:
        while not over.wait(0.02):
            for near, far in ((left, right), (right, left)):
                assert near.bpf is not None
                near.bpf.close()
                bpffs.unpin(near.host.within(lambda near=near: bpffs.network_folder(near.name)))  # new maps each time
                near.start_bpf(peer(far))

    replacer = threading.Thread(target=replace)
    replacer.start()
    try:
        assert transfer(left.host, right.host, right.inner, 100 << 20)
    finally:
        over.set()
        replacer.join()
    assert "bpf_in_not_merged" not in right.counted()
    assert left.user_packets() == right.user_packets() == 0


def test_a_swap_changes_only_what_differs(pair: tuple[Network, Network]) -> None:
    left, right = pair
    assert left.bpf is not None
    with Stream(left, right) as stream:
        stream.reach(50)
        left.bpf.swap([peer(right), HERE], {parse_ip("192.0.2.2"), parse_ip("192.0.2.3")})
        assert {row[:2] for row in left.bpf.peer_counters()} == {HERE[:2], peer(right)[:2]}
        stream.reach(50)
        counted = {row[:2]: row.sent_packets for row in left.bpf.peer_counters()}
        left.bpf.swap([peer(right)], {parse_ip("192.0.2.2")})
        assert [row[:2] for row in left.bpf.peer_counters()] == [peer(right)[:2]]
        stream.reach(50)
    assert stream.lost() == 0
    assert counted[peer(right)[:2]] >= 100
    left.bpf.swap([], ())
    assert left.bpf.peer_counters() == []


def test_what_somebody_takes_from_the_hooks_is_carried_by_the_user_path_until_it_is_back(
    pair: tuple[Network, Network],
) -> None:
    left, right = pair
    assert left.bpf is not None
    assert not left.host.within(left.bpf.repair)
    left.host.run("tc qdisc del dev eth0 clsact")
    left.host.run(f"tc qdisc del dev {left.device} clsact")
    if "xdp" in left.bpf.features():
        left.host.run("ip link set eth0 xdpdrv off")
    if "merging" in left.bpf.features():
        left.host.run("ip link del flgro8285a")
    assert transfer(left.host, right.host, right.inner, 1 << 20)
    assert transfer(right.host, left.host, left.inner, 1 << 20)  # what programs send, on whatever cable
    carried = left.user_packets()
    assert carried > 0
    assert left.host.within(left.bpf.repair)
    assert not left.host.within(left.bpf.repair)
    assert transfer(left.host, right.host, right.inner, 1 << 20)
    assert left.user_packets() < carried + 100  # the last words of the connections before


def test_removal_takes_away_ours_alone(pair: tuple[Network, Network]) -> None:
    left, _ = pair
    left.host.run("tc filter add dev eth0 ingress pref 9 protocol ip u32 match u32 0 0 flowid 1:1")
    assert left.bpf is not None
    left.host.within(left.bpf.remove)
    left.bpf = None
    assert "uplink_ingress" not in left.host.run("tc filter show dev eth0 ingress")
    assert "u32" in left.host.run("tc filter show dev eth0 ingress")
    assert "tun_egress" not in left.host.run(f"tc filter show dev {left.device} egress")
    assert "xdp" not in left.host.run("ip link show eth0")
    assert "flgro" not in left.host.run("ip link show")
    assert _pins(left.host) == []


def test_removal_leaves_no_qdisc_that_it_made(pair: tuple[Network, Network]) -> None:
    left, _ = pair
    assert left.bpf is not None
    left.host.within(left.bpf.remove)
    left.bpf = None
    assert "clsact" not in left.host.run("tc qdisc show dev eth0")


def test_a_worker_with_another_path_takes_away_what_is_pinned(pair: tuple[Network, Network]) -> None:
    left, right = pair
    assert left.bpf is not None
    left.bpf.close()
    left.bpf = None
    _withdraw(left)
    assert "uplink_ingress" not in left.host.run("tc filter show dev eth0 ingress")
    assert _pins(left.host) == []
    _withdraw(left)  # nothing left: nothing to do
    assert transfer(left.host, right.host, right.inner, 1 << 20)
    assert left.user_packets() > 0


def test_another_port_moves_the_programs(pair: tuple[Network, Network]) -> None:
    left, right = pair
    assert left.bpf is not None
    left.bpf.close()
    left.start_bpf(peer(right), port=9999)
    prefs = re.findall(r"pref (\d+) bpf chain 0 handle", left.host.run("tc filter show dev eth0 ingress"))
    assert prefs == ["9999"]


def test_maps_of_another_release_are_not_taken_over(pair: tuple[Network, Network]) -> None:
    left, right = pair
    assert left.bpf is not None
    left.bpf.close()
    (config,) = (pin for pin in _pins(left.host) if pin.name == "config")
    config.unlink()
    left.host.run(f"bpftool map create {config} type array key 4 value 4 entries 1 name config")
    left.start_bpf(peer(right))
    assert transfer(left.host, right.host, right.inner, 1 << 20)
    assert left.user_packets() == 0


def test_a_strangers_program_in_our_place_stays_and_is_named(tmp_path: Path) -> None:
    with two_hosts("ideal") as (one, _):
        left = one.join("blue", "10.9.1.0")
        one.run("tc qdisc add dev eth0 clsact")
        one.run(f"tc filter add dev eth0 ingress pref 8285 handle 1 bpf da obj {_stranger(tmp_path)} sec tc")
        with pytest.raises(OSError, match=r"program stranger\.o of somebody else is there; choose another Port"):
            left.start_bpf(HERE)
        assert "stranger" in one.run("tc filter show dev eth0 ingress")
        assert "tun_egress" not in one.run(f"tc filter show dev {left.device} egress")


def test_without_libbpf_the_self_test_says_what_to_install() -> None:
    with two_hosts("ideal") as (one, _):
        code = "from flannel_worker.datapath.selftest import self_test; print(self_test(2))"
        hide = 'for file in $(ldconfig -p | sed -n "s/.*libbpf.so.1.*=> //p"); do mount --bind /dev/null $file; done'
        command = ["ip", "netns", "exec", one.netns, "sh", "-c", f'{hide}; exec {sys.executable} -c "{code}"']
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        said = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
        assert said == "libbpf.so.1 is missing: install libbpf1 (Debian, Ubuntu) or libbpf (Fedora)\n"


def test_an_uplink_whose_xdp_hook_is_taken_works_without_it(tmp_path: Path) -> None:
    with two_hosts("nic") as (one, two):
        left, right = one.join("blue", "10.9.1.0"), two.join("blue", "10.9.2.0")
        one.run(f"ip link set eth0 xdpdrv obj {_stranger(tmp_path)} sec xdp")
        for near, far in ((left, right), (right, left)):
            near.start_user(peer(far))
            near.start_bpf(peer(far), receiving="xdp")
        assert left.bpf is not None
        assert left.bpf.features() == ("tc",)
        assert left.bpf.remark == "receiving without XDP: XDP of interface 2 is taken by program stranger_xdp"
        assert transfer(two, one, left.inner, 5 << 20)
        assert left.user_packets() == 0
        one.within(left.bpf.remove)
        left.bpf = None
        assert "prog/xdp" in one.run("ip link show eth0")


def test_networks_with_dots_in_their_names_and_the_same_letters_have_their_own_pins() -> None:
    with two_hosts("ideal") as (one, _):
        folders = [one.within(lambda name=name: bpffs.network_folder(name)) for name in ("a.b", "a-b", "a_b", "_")]
        assert len(set(folders)) == 4
        for folder in folders:
            bpffs.clear(folder)


def test_the_self_test_passes_here_and_says_why_it_does_not() -> None:
    with two_hosts("ideal") as (one, _):
        assert one.within(lambda: self_test(2)) == ""
        assert one.within(lambda: self_test(1)) == "the uplink has no Ethernet header, which the kernel programs need"
        assert "No such device" in one.within(lambda: self_test(99))


def test_xdp_is_shared_by_the_networks_of_an_uplink_and_goes_with_the_last() -> None:
    with joined("nic", receiving="xdp") as (blue, far):
        green = blue.host.join("green", "10.10.1.0", port=8286)
        green.start_bpf(HERE, receiving="xdp")
        for network, rest in ((green, 1), (blue, 0)):
            assert network.bpf is not None
            assert network.bpf.features() == ("tc", "xdp")
            network.host.within(network.bpf.remove)
            network.bpf = None
            assert ("xdp" in blue.host.run("ip link show eth0")) == bool(rest)
        assert transfer(far.host, blue.host, blue.inner, 1 << 20)


@pytest.mark.parametrize("cable", ["ideal", "nic"])
def test_tcp_is_merged_where_it_comes_in_frames_of_the_wires_size(cable: str) -> None:
    with joined(cable) as (left, right):
        assert left.bpf is not None
        assert left.bpf.features() == (("tc", "merging") if cable == "nic" else ("tc",))
        with udp(left.host, left.inner) as near, udp(right.host, right.inner) as far:
            assert echoes(near, far, bytes(100))
        assert transfer(left.host, right.host, right.inner, 5 << 20)
        merged = right.counted().get("bpf_in_merged", 0)
        assert merged == (right.counted()["bpf_in_received"] - 1 if cable == "nic" else 0)


def test_a_merging_device_that_changed_is_put_right() -> None:
    with joined("nic") as (left, _):
        assert left.bpf is not None
        for command in (
            "ethtool -K flgro8285a tso on",
            "ethtool -K flgro8285b gro off",
            "tc qdisc del dev flgro8285b clsact",
        ):
            left.host.run(command)
            assert left.host.within(left.bpf.repair)
            assert not left.host.within(left.bpf.repair)


def test_every_network_of_an_uplink_notices_that_xdp_was_taken_away() -> None:
    with joined("nic", receiving="xdp") as (blue, far):
        green = blue.host.join("green", "10.10.1.0", port=8286)
        green.start_bpf(HERE, receiving="xdp")
        blue.host.run("ip link set eth0 xdpdrv off")
        for network in (green, blue):
            assert network.bpf is not None
            assert blue.host.within(network.bpf.repair)
            assert not blue.host.within(network.bpf.repair)
        assert transfer(far.host, blue.host, blue.inner, 1 << 20)
        assert blue.counted()["xdp_opened"] > 0


def test_a_worker_that_does_not_see_the_pins_takes_over_what_is_attached(pair: tuple[Network, Network]) -> None:
    """`ip netns exec` gives a program a /sys of its own: its pins end with it, its programs stay."""
    left, right = pair
    assert left.bpf is not None
    left.host.within(left.bpf.remove)
    code = (
        "from flannel_worker.datapath.bpf import BpfPath; from flannel_worker.datapath.bpfplace import BpfSpec;"
        "from flannel_worker.datapath.protocol import Peer;"
        f"BpfPath.start(BpfSpec{tuple(left.spec())}, [Peer{tuple(peer(right))}], {{{peer(right).address}}})"
    )
    command = ["ip", "netns", "exec", left.host.netns, sys.executable, "-c", code]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert _pins(left.host) == []
    with Stream(left, right) as stream:
        stream.reach(100)
        left.start_bpf(peer(right))
        stream.reach(100)
    assert stream.lost() == 0
    assert left.user_packets() == 0


def _withdraw(network: Network) -> None:
    network.host.within(lambda: bpfplace.withdraw(network.name, network.spec()))


def _stranger(folder: Path) -> Path:
    """Somebody else's object file, with a program for tc and one for XDP that let everything pass."""
    source, made = folder / "stranger.c", folder / "stranger.o"
    program = '__attribute__((section("{0}"), used)) int stranger{1}(void *packet) {{ return {2}; }}\n'
    source.write_text(program.format("tc", "", -1) + program.format("xdp", "_xdp", 2))
    subprocess.run(["clang", "-target", "bpf", "-O2", "-g", "-c", source, "-o", made], check=True)
    return made


def _pins(host: Host) -> list[Path]:
    return [path for path in host.pins().rglob("*") if path.is_file()]
