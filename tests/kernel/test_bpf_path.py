"""What two hosts see of each other when kernel programs carry their packets, and what those leave to the user path."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

import pytest

from flannel_multi.model.subnet import parse_ip
from flannel_worker.datapath.protocol import Peer
from tests.kernel.twohosts import PORT, SOL_UDP, UDP_SEGMENT, Network, echoes, joined, peer, transfer, two_hosts, udp
from tests.packets import vnet
from tests.packets.flows import Flow

MAX_UDP = 1472 - 28
IP_MTU_DISCOVER, IP_RECVERR, SO_NO_CHECK = 10, 11, 11  # linux/in.h, asm-generic/socket.h


@pytest.fixture(params=["ideal", "nic", "xdp", "nothing"])
def cable(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_large_tcp_transfers_arrive_as_sent_and_never_touch_user_space(cable: str) -> None:
    with joined(cable) as (left, right):
        assert transfer(left.host, right.host, right.inner, 30 << 20)
        assert transfer(right.host, left.host, left.inner, 30 << 20)
        counted = left.counted()
        assert counted["bpf_out_sent"] > 20_000
        assert counted["bpf_in_received"] > 20_000
        assert (left.user_packets(), right.user_packets()) == (0, 0)


def test_udp_of_every_size_goes_there_and_back(cable: str) -> None:
    with joined(cable) as (left, right), _sockets(left, right) as (near, far):
        assert [size for size in range(MAX_UDP + 1) if not echoes(near, far, os.urandom(size))] == []
        assert left.counted()["bpf_out_sent"] == left.counted()["bpf_in_received"] == MAX_UDP + 1


def test_fragments_and_ip_options_go_there_and_back(cable: str) -> None:
    with joined(cable) as (left, right), _sockets(left, right) as (near, far):
        assert echoes(near, far, os.urandom(3000))
        assert echoes(near, far, os.urandom(9000))
        near.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes((7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)))
        assert echoes(near, far, os.urandom(500))
        assert left.user_packets() == 0


def test_a_sender_of_udp_super_packets_loses_none(cable: str) -> None:
    """The kernel accepts them in the programs, and loses them later: they take the user path."""
    with joined(cable) as (left, right), _sockets(left, right) as (near, far):
        near.setsockopt(SOL_UDP, UDP_SEGMENT, 1200)
        sent = os.urandom(11 * 1200 - 100)
        near.sendto(sent, far.getsockname())
        assert b"".join(far.recv(2000) for _ in range(11)) == sent
        assert left.counted()["bpf_out_not_tcp_gso"] == 11


def test_a_tunnel_inside_the_overlay_works(cable: str) -> None:
    with joined(cable) as (left, right):
        for near, far, number in ((left, right, 1), (right, left, 2)):
            ends = f"local {near.inner} remote {far.inner} dev {near.device}"
            near.host.run(f"ip link add nested type vxlan id 9 dstport 4789 {ends}")
            near.host.run(f"ip address add 10.99.0.{number}/24 dev nested")
            near.host.run("ip link set nested up")
        assert transfer(left.host, right.host, "10.99.0.2", 10 << 20)
        assert transfer(right.host, left.host, "10.99.0.1", 10 << 20)


def test_a_packet_that_has_no_hop_left_is_dropped_in_silence() -> None:
    with joined("ideal") as (left, right), _sockets(left, right) as (near, far):
        for ttl in (1, 2):  # one is taken at each end
            near.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            near.sendto(b"short-lived", far.getsockname())
        near.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 3)
        near.sendto(b"arrives", far.getsockname())
        assert far.recv(100) == b"arrives"
        assert left.counted()["bpf_out_ttl"] == 1
        assert right.counted()["bpf_in_ttl"] == 1
        assert left.user_packets() == 0


def test_what_no_peer_has_is_answered_by_the_user_path() -> None:
    with joined("ideal") as (left, _):
        with udp(left.host, left.inner) as near:
            near.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            near.connect(("10.9.77.1", 9))
            near.send(b"anybody?")
            with pytest.raises(OSError, match="unreachable"):
                near.recv(100)
        assert left.counted()["bpf_out_no_peer"] == 1


@pytest.mark.parametrize("verify", [False, True])
def test_a_foreign_inner_source_is_dropped_only_where_sources_are_verified(verify: bool) -> None:
    with joined("ideal", verify_source=verify) as (left, right):
        left.host.run(f"ip address add 10.9.7.7/32 dev {left.device}")
        with udp(left.host, "10.9.7.7") as near, udp(right.host, right.inner) as far:
            near.sendto(b"from elsewhere", far.getsockname())
            if verify:
                with pytest.raises(TimeoutError):
                    far.recv(100)
            else:
                assert far.recv(100) == b"from elsewhere"
        assert right.counted().get("bpf_in_stranger", 0) == verify


def test_a_peer_that_reads_datagrams_gets_them_whole_and_with_checksums(cable: str) -> None:
    """On a cable that leaves checksums and large packets to the receiver, a program's would be rubbish there."""
    with two_hosts(cable) as (one, two):
        left, right = one.join("blue", "10.9.1.0"), two.join("blue", "10.9.2.0")
        left.start_user(peer(right))
        left.start_bpf(peer(right), fast=False)
        right.start_user(peer(left))
        assert transfer(one, two, right.inner, 10 << 20)
        assert transfer(two, one, left.inner, 10 << 20)
        with _sockets(left, right) as (near, far):
            assert all(echoes(near, far, os.urandom(size)) for size in (0, 1, 100, MAX_UDP, 3000))
        assert left.counted()["bpf_out_plain_peer"] > 0
        assert left.counted()["bpf_in_checksummed"] > 0
        assert "bpf_out_sent" not in left.counted()


def test_odd_datagrams_harm_nothing_and_are_all_counted(cable: str) -> None:
    with joined(cable) as (left, right), udp(right.host, right.host.address, 9999) as sender:
        sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)  # as a peer's programs send
        here, there = socket.inet_aton(left.inner), socket.inet_aton(right.inner)
        good = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 253, 0, there, here) + bytes(20)
        odd = [
            good[:39],  # shorter than it says
            good + b"x",  # longer
            b"\x60" + good[1:],  # IPv6, it says
            b"\x41" + good[1:],  # a header of 4 bytes
            b"\x4f" + good[1:],  # a header longer than the packet
            good[:2] + b"\xff\xff" + good[4:],
            good[:2] + b"\0\0" + good[4:],
        ]
        spent = [good[:8] + bytes([ttl]) + good[9:] for ttl in (0, 1)]
        short = [b"", b"E", good[:19]]  # too short to be looked at
        for datagram in 50 * (odd + spent + short):
            sender.sendto(datagram, (left.host.address, PORT))
        seen = left.counted()
        assert (seen["bpf_in_odd"], seen["bpf_in_ttl"]) == (50 * len(odd), 50 * len(spent))
        assert "bpf_in_received" not in seen
        assert transfer(left.host, right.host, right.inner, 1 << 20)


def test_datagrams_in_fragments_are_put_together_by_the_kernel_and_taken_by_the_user_path() -> None:
    with joined("ideal") as (left, right):
        here, there = socket.inet_aton(left.inner), socket.inet_aton(right.inner)
        with udp(right.host, right.host.address, 9999) as sender, udp(left.host, left.inner, 5000) as receiver:
            sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
            sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 0)
            payload = os.urandom(1600)
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, there, here)
            (total,) = struct.unpack("!H", struct.pack("!H", sum(struct.unpack("!10H", head)) % 0xFFFF))
            head = head[:10] + struct.pack("!H", 0xFFFF - total) + head[12:]
            inner = head + struct.pack("!HHHH", 4000, 5000, 8 + len(payload), 0) + payload
            sender.sendto(inner, (left.host.address, PORT))
            assert receiver.recv(2000) == payload
        assert left.counted()["bpf_in_fragment"] == 2
        assert "bpf_in_received" not in left.counted()


def test_networks_of_one_uplink_do_not_disturb_each_other(cable: str) -> None:
    with joined(cable) as (blue, far_blue):
        green, far_green = (
            host.join("green", inner, port=8286)
            for host, inner in ((blue.host, "10.10.1.0"), (far_blue.host, "10.10.2.0"))
        )
        for near, far in ((green, far_green), (far_green, green)):
            near.start_user(peer(far))
            near.start_bpf(peer(far))
        for near, far in ((blue, far_blue), (green, far_green)):
            assert transfer(near.host, far.host, far.inner, 5 << 20)
            assert near.user_packets() == 0
        assert green.bpf is not None
        green.host.within(green.bpf.remove)
        green.bpf = None
        assert transfer(blue.host, far_blue.host, far_blue.inner, 5 << 20)
        assert blue.user_packets() == 0
        assert transfer(green.host, far_green.host, far_green.inner, 5 << 20)


@pytest.mark.parametrize("port", [PORT - 1, PORT + 1])  # the programs of the lower one see a packet first
@pytest.mark.parametrize("cable", ["nic", "xdp"])
def test_what_a_peer_of_one_network_puts_inside_is_no_datagram_of_another(cable: str, port: int) -> None:
    with joined(cable, verify_source=True) as (blue, far_blue):
        green = blue.host.join("green", "10.10.1.0", port=port)
        green.start_bpf(Peer(parse_ip("10.10.2.0"), 24, parse_ip("192.0.2.3")), verify_source=True)
        far_blue.host.run("ip address add 192.0.2.3/24 dev eth0")
        with (
            _unchecked(far_blue, "192.0.2.2") as blue_peer,
            _unchecked(far_blue, "192.0.2.3") as green_peer,
            udp(blue.host, green.inner, 5000) as receiver,
        ):
            forged, genuine = (_without_checksum("10.10.2.5", green.inner, 5000, text) for text in (b"forged", b"real"))
            disguised = _without_checksum("192.0.2.3", blue.host.address, port, forged)
            blue_peer.sendto(disguised, (blue.host.address, PORT))
            green_peer.sendto(genuine, (blue.host.address, port))
            assert receiver.recv(100) == b"real"
        assert green.counted()["bpf_in_received"] == 1
        assert blue.counted()["bpf_in_stranger"] == 1
        assert "bpf_in_received" not in blue.counted()


def test_counters_tell_what_each_peer_sent_and_got() -> None:
    with joined("ideal") as (left, right), _sockets(left, right) as (near, far):
        for _ in range(5):
            assert echoes(near, far, bytes(72))
        assert left.bpf is not None
        (row,) = left.bpf.peer_counters()
        assert row[:2] == peer(right)[:2]
        assert row[2:] == (5, 500, 5, 500)


def _unchecked(far: Network, address: str) -> socket.socket:
    """Sends as a peer's programs do."""
    sender = udp(far.host, address)
    sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    return sender


def _without_checksum(source: str, target: str, port: int, payload: bytes) -> bytes:
    """A UDP packet whose checksum is 0."""
    flow = Flow(vnet.UDP, socket.inet_aton(source), socket.inet_aton(target), (5000, port))
    return vnet.with_ip_checksum(flow.unfinished(payload))


@contextlib.contextmanager
def _sockets(left: Network, right: Network):  # type: ignore[no-untyped-def]
    with udp(left.host, left.inner) as near, udp(right.host, right.inner) as far:
        yield near, far
