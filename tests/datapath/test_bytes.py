"""What the path does to a single packet, byte by byte, as flannel does it or as the specification mends it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from scapy.all import ICMP, IP, TCP, UDP, IPOption, raw

from tests.datapath.hand import Hand
from tests.datapath.site import MTU, End, Site
from tests.datapath.traffic import udp_socket
from tests.lab.netns import inside
from tests.packets import vnet
from tests.packets.flows import Flow, payload_of

TO_B = {"10.77.2.0/24": "192.168.77.2"}
OUT = {"src": "10.77.1.0", "dst": "10.77.2.5"}
IN = {"src": "10.77.2.5", "dst": "10.77.1.0"}
UNKNOWN = {"src": "10.77.1.0", "dst": "10.77.9.5"}


@pytest.fixture(params=["offload", "plain"])
def hand(request: pytest.FixtureRequest) -> Iterator[Hand]:
    with Site() as site, End(site.a, TO_B) as end:
        end.start(*(["plain"] if request.param == "plain" else []))
        with Hand(site, end) as hand:
            yield hand


@pytest.fixture
def fast() -> Iterator[Hand]:
    with Site() as site, End(site.a, TO_B) as end:
        end.start()
        with Hand(site, end) as hand:
            yield hand


@pytest.fixture
def strict() -> Iterator[Hand]:
    with Site() as site, End(site.a, TO_B) as end:
        end.start("verify")
        with Hand(site, end) as hand:
            yield hand


def only_marker_comes_in(hand: Hand, payload: bytes) -> bool:
    """Is `payload` dropped, and what follows it delivered?"""
    hand.onto_wire(payload)
    marker = raw(IP(**IN, ttl=9, id=7) / UDP(sport=1, dport=2) / b"marker")
    hand.onto_wire(marker)
    return hand.from_tun().endswith(b"marker")


def only_marker_goes_out(hand: Hand, packet: bytes) -> bool:
    hand.into_tun(packet)
    hand.into_tun(raw(IP(**OUT, ttl=9, id=7) / UDP(sport=1, dport=2) / b"marker"))
    return hand.from_wire().endswith(b"marker")


def aged(packet: IP) -> bytes:
    """The packet with one TTL less, its checksum made anew."""
    older = IP(raw(packet))
    older.ttl -= 1
    del older.chksum
    return raw(older)


@pytest.mark.parametrize("ttl", [2, 64, 255])
def test_each_end_takes_one_from_the_ttl(hand: Hand, ttl: int) -> None:
    sent = IP(**OUT, ttl=ttl, id=77) / UDP(sport=1, dport=2) / b"outward"
    hand.into_tun(raw(sent))
    assert hand.from_wire() == aged(sent)
    arrived = IP(**IN, ttl=ttl, id=78) / UDP(sport=1, dport=2) / b"inward"
    hand.onto_wire(raw(arrived))
    assert hand.from_tun() == aged(arrived)


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_packet_whose_ttl_is_used_up_is_dropped(hand: Hand, ttl: int) -> None:
    assert only_marker_comes_in(hand, raw(IP(**IN, ttl=ttl) / UDP(sport=1, dport=2) / b"old"))
    assert only_marker_goes_out(hand, raw(IP(**OUT, ttl=ttl, id=9) / UDP(sport=1, dport=2) / b"old"))
    counters = hand.end.counters()
    assert (counters["in_ttl"], counters["out_ttl"]) == (1, 1)


GOOD = raw(IP(**IN) / UDP(sport=1, dport=2) / b"some bytes")
NO_PACKETS = {
    "empty": (b"", "in_too_short"),
    "19 bytes": (GOOD[:19], "in_too_short"),
    "IPv6": (b"\x60" + GOOD[1:], "in_not_ipv4"),
    "a header of 16 bytes": (b"\x44" + GOOD[1:], "in_bad_header"),
    "a header longer than all": (b"\x4f" + GOOD[1:], "in_bad_header"),
    "cut": (GOOD[:-1], "in_wrong_length"),
    "trailing bytes": (GOOD + b"\0", "in_wrong_length"),
}


@pytest.mark.parametrize("name", NO_PACKETS)
def test_what_is_no_packet_is_dropped_under_its_name(hand: Hand, name: str) -> None:
    payload, counter = NO_PACKETS[name]
    assert only_marker_comes_in(hand, payload)
    assert hand.end.counters()[counter] == 1


@pytest.mark.parametrize(
    "packet",
    [
        IP(**IN, options=[IPOption(b"\x07\x07\x04\0\0\0\0\0")]) / UDP(sport=1, dport=2) / b"options",
        IP(**IN, flags="MF") / UDP(sport=1, dport=2, len=64) / bytes(24),
        IP(**IN, frag=100) / bytes(24),
        IP(**IN, chksum=0x1234) / UDP(sport=1, dport=2) / b"wrong header checksum",
        IP(**IN) / UDP(sport=1, dport=2, chksum=0x1234) / b"wrong checksum",
        IP(src="8.8.8.8", dst="9.9.9.9") / UDP(sport=1, dport=2) / b"strangers",
        IP(**IN, proto=132) / b"what we know nothing of",
        IP(**IN, proto=6) / b"too short",
        IP(**IN) / TCP(sport=1, dport=2, flags="S", options=[("MSS", 1432)]),
    ],
)
def test_other_packets_are_handed_on_as_they_are(hand: Hand, packet: IP) -> None:
    packet.ttl = 64
    wire = raw(packet)
    hand.onto_wire(wire)
    check = int.from_bytes(wire[10:12], "big") + 0x0100  # mended, not made anew: a wrong one stays wrong
    check = (check & 0xFFFF) + (check >> 16)
    assert hand.from_tun() == wire[:8] + bytes((63,)) + wire[9:10] + check.to_bytes(2, "big") + wire[12:]


def test_a_checksum_that_a_sender_left_to_its_card_is_finished_for_our_sockets(fast: Hand) -> None:
    with udp_socket(fast.end.host, IN["dst"]) as receiving:
        flow = Flow(protocol=vnet.UDP, source=bytes((10, 77, 2, 5)), target=bytes((10, 77, 1, 0)))
        to = replace(flow, ports=(1000, receiving.getsockname()[1]))
        fast.onto_wire(vnet.with_ip_checksum(vnet.with_partial_checksum(to.unfinished(b"unfinished"))))
        assert receiving.recv(100) == b"unfinished"


def test_a_super_packet_that_a_sender_left_to_its_card_is_cut_to_the_mtu(fast: Hand) -> None:
    flow = Flow(source=bytes((10, 77, 2, 5)), target=bytes((10, 77, 1, 0)))
    packet = vnet.with_ip_checksum(vnet.with_partial_checksum(flow.unfinished(payload_of(1, 9000))))
    fast.onto_wire(packet)
    pieces = fast.packets_from_tun()
    assert max(map(len, pieces)) == MTU
    assert b"".join(piece[40:] for piece in pieces) == payload_of(1, 9000)
    assert all(vnet.with_checksum(piece) == piece for piece in pieces)


def test_strangers_are_counted_and_let_in(hand: Hand) -> None:
    hand.onto_wire(raw(IP(src="10.77.3.1", dst="10.77.1.0") / UDP(sport=1, dport=2) / b"from another subnet"))
    assert hand.from_tun().endswith(b"from another subnet")
    assert hand.end.counters()["strangers"] == 1


def test_with_verify_source_strangers_stay_outside(strict: Hand) -> None:
    assert only_marker_comes_in(strict, raw(IP(src="10.77.3.1", dst="10.77.1.0") / UDP(sport=1, dport=2) / b"foreign"))
    counters = strict.end.counters()
    assert (counters["in_foreign"], counters["strangers"], counters["in_delivered"]) == (1, 0, 1)


def test_a_packet_for_an_unknown_subnet_is_answered_as_flannel_does(hand: Hand) -> None:
    offender = IP(**UNKNOWN, id=5, ttl=64) / UDP(sport=1, dport=2) / b"to nowhere"
    hand.into_tun(raw(offender))
    header = IP(src="10.77.1.0", dst="10.77.1.0", ttl=8, id=0, tos=0)
    assert hand.from_tun() == raw(header / ICMP(type=3, code=0) / raw(offender)[:28])


@pytest.mark.parametrize(
    "offender",
    [
        IP(**UNKNOWN, id=5) / ICMP(),
        IP(**UNKNOWN, id=5, frag=100) / bytes(24),
        IP(**UNKNOWN, id=5, options=[IPOption(b"\x01" * 40)]) / UDP(sport=1, dport=2),
    ],
    ids=["ICMP", "a later fragment", "a header of 60 bytes"],
)
def test_no_answer_to(hand: Hand, offender: IP) -> None:
    hand.into_tun(raw(offender))
    assert only_marker_comes_in(hand, b"")
    counters = hand.end.counters()
    assert (counters["out_no_route"], counters["unreachables"]) == (1, 0)


def test_connecting_to_an_unknown_subnet_fails_at_once(hand: Hand) -> None:
    host = hand.end.host
    with closing(inside(host.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))) as tcp:
        tcp.settimeout(5.0)
        with pytest.raises(OSError) as refusal:
            tcp.connect(("10.77.9.9", 80))
        assert refusal.value.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
