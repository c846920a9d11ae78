"""The wire format: both kinds of end, both kinds of link, every kind of packet, both directions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.datapath import traffic
from tests.datapath.site import MTU, RUNNERS, End, PlainPeer, Site
from tests.lab.world import Host

TO_A, TO_B = {"10.77.1.0/24": "192.168.77.1"}, {"10.77.2.0/24": "192.168.77.2"}


class Way(NamedTuple):
    """One direction: from whom, to whom, at which address."""

    sender: Host
    receiver: Host
    address: str


class Overlay(NamedTuple):
    """Two ends that know each other; `ours` is the one under test. `out`, `back`: what it sends, and gets, is for the
    kernel's own path to carry."""

    ours: End
    other: End | PlainPeer
    out: bool
    back: bool


@pytest.fixture(scope="module", params=["offloads on", "offloads off"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with Site(offloads=request.param == "offloads on") as site:
        yield site


PAIRS = [
    ("user", "plain"),
    ("user", "user"),
    ("bpf", "plain"),
    ("bpf", "user"),
    ("bpf", "bpf"),
    ("bpf", "formerly bpf"),  # its lease says so still, but it runs the user path
]


@pytest.fixture(scope="module", params=PAIRS, ids=" to ".join)
def overlay(request: pytest.FixtureRequest, site: Site) -> Iterator[Overlay]:
    here, there = request.param
    out, back = "bpf" in here and "bpf" in there, here == there == "bpf"
    to_a, to_b = (
        {subnet: host + known * "+bpf" for subnet, host in peers.items()}
        for peers, known in ((TO_A, back), (TO_B, out))
    )
    with ExitStack() as stack:
        ours = stack.enter_context(End(site.a, to_b, runner=RUNNERS[here])).start()
        if there == "plain":
            yield Overlay(ours, stack.enter_context(PlainPeer(site.b, to_a)), out, back)
        else:
            runner = RUNNERS.get(there, RUNNERS["user"])
            yield Overlay(ours, stack.enter_context(End(site.b, to_a, runner=runner)).start(), out, back)


@pytest.fixture(params=["out", "in"])
def way(request: pytest.FixtureRequest, overlay: Overlay) -> Way:
    ours, other, *_ = overlay
    if request.param == "out":
        return Way(ours.host, other.host, other.overlay)
    return Way(other.host, ours.host, ours.overlay)


def test_pings_of_every_size_are_answered(way: Way) -> None:
    assert traffic.wrong_pings(way.sender, way.address, [*range(0, MTU - 28 + 1, 7), MTU - 28, 4000, 9000]) == []


def test_a_large_tcp_transfer_arrives_as_it_left(way: Way) -> None:
    left, arrived = traffic.digests_of_a_transfer(*way, mebibytes=100)
    assert left == arrived


def test_datagrams_of_all_sizes_come_back_as_they_were_sent(way: Way) -> None:
    assert traffic.wrong_echoes(*way, sizes=range(MTU - 28 + 1)) == []


def test_fragmented_datagrams_come_back_as_they_were_sent(way: Way) -> None:
    assert traffic.wrong_echoes(*way, sizes=[MTU - 27, 3000, 9000, 65507] * 3) == []


RECORD_ROUTE = bytes((7, 11, 4)) + bytes(8) + bytes((1,))  # RFC 791: room for two addresses


def test_ip_options_arrive(way: Way) -> None:
    payload, options = traffic.options_received(*way, RECORD_ROUTE)
    assert payload == b"with options"
    assert options[:2] == RECORD_ROUTE[:2]


def test_pings_with_ip_options_are_answered(way: Way) -> None:
    assert traffic.wrong_pings(way.sender, way.address, [0, 56, 1000] * 5, options=RECORD_ROUTE) == []


@pytest.mark.parametrize("size", [1, 100, 1000, MTU - 28])
def test_a_sender_that_uses_udp_segment_is_understood(way: Way, size: int) -> None:
    payload = os.urandom(10 * size + (size + 1) // 2)
    expected = [payload[at : at + size] for at in range(0, len(payload), size)]
    assert traffic.segments_received(*way, size, payload) == expected


ASIDE = {"out_not_ipv4", "bpf_out_not_ipv4", "bpf_in_foreign"}  # IPv6 on a new device, ARP on the uplink


def test_nothing_of_all_that_was_refused(overlay: Overlay) -> None:
    expected = {"out_sent", "out_bytes", "in_delivered", "in_bytes"}
    if overlay.out:  # but for UDP in super-packets
        expected |= {"bpf_out_sent", "bpf_out_bytes", "bpf_out_not_tcp_gso"}
    elif overlay.ours.runner == RUNNERS["bpf"]:
        expected |= {"bpf_out_plain_peer"}
    if overlay.back:
        expected |= {"bpf_in_received", "bpf_in_bytes"}
    if overlay.ours.runner == RUNNERS["bpf"]:
        expected |= {"bpf_in_checksummed"}
    counters = overlay.ours.counters()
    judged = ("out_", "in_", "bpf_")
    assert {name for name, value in counters.items() if name.startswith(judged) and value} - ASIDE == expected, counters


def test_the_kernel_carries_what_both_ends_said_it_does_and_nothing_else(overlay: Overlay) -> None:
    counters = overlay.ours.counters()
    for by_kernel, by_user, expected in (
        (counters.get("bpf_out_sent", 0), counters["out_sent"], overlay.out),
        (counters.get("bpf_in_received", 0), counters["in_delivered"], overlay.back),
    ):
        carried = by_kernel / (by_kernel + by_user)
        assert carried > 0.99 if expected else carried == 0, counters
