"""What can go wrong at the uplink: counted under its name, never the end, and traffic comes back by itself."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.datapath import traffic
from tests.datapath.site import MTU, End, Site

TO_A, TO_B = {"10.77.1.0/24": "192.168.77.1"}, {"10.77.2.0/24": "192.168.77.2"}
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # linux/in.h


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    with ExitStack() as stack:
        site = stack.enter_context(Site())
        yield stack.enter_context(End(site.a, TO_B)).start(), stack.enter_context(End(site.b, TO_A)).start()


def assert_traffic_flows(a: End, b: End) -> None:
    for sender, receiver in ((a, b), (b, a)):
        left, arrived = traffic.digests_of_a_transfer(sender.host, receiver.host, receiver.overlay, 5)
        assert left == arrived
        assert traffic.wrong_echoes(sender.host, receiver.host, receiver.overlay, [0, 100, MTU - 28, 3000]) == []


def assert_counted(end: End, name: str, value: int) -> None:
    """The counter reaches `value`: what counts is behind the test by a few microseconds."""
    deadline = time.monotonic() + 5.0
    while end.counters()[name] < value and time.monotonic() < deadline:
        pass
    assert end.counters()[name] == value


def flood(end: End, address: str, *, size: int = MTU - 28, count: int = 100) -> None:
    with traffic.udp_socket(end.host) as sending:
        for _ in range(count):
            sending.sendto(bytes(size), (address, 9))


def test_a_peer_that_does_not_listen_is_no_error_and_is_served_when_it_does() -> None:
    with ExitStack() as stack:
        site = stack.enter_context(Site())
        a = stack.enter_context(End(site.a, TO_B)).start()
        flood(a, "10.77.2.0")  # answered by ICMP port unreachable
        assert traffic.answered_pings(site.a, "10.77.2.0", 3, patience_s=0.05) == 0
        b = stack.enter_context(End(site.b, TO_A)).start()
        assert_traffic_flows(a, b)
        assert a.ask("failed") == 0


def test_a_smaller_path_mtu_is_fragmented_by_the_kernel(ends: tuple[End, End]) -> None:
    a, b = ends
    a.host.ip("route", "add", b.host.address, "dev", "u0", "mtu", "lock", "1300")
    assert_traffic_flows(a, b)
    a.host.ip("route", "del", b.host.address)
    assert_traffic_flows(a, b)
    counters = a.counters()
    assert (counters["out_too_big"], counters["out_failed"], a.ask("failed")) == (0, 0, 0)
    assert "UDP_SEGMENT" in a.ask("features")


def test_a_datagram_that_the_path_does_not_take_is_counted_as_too_big(ends: tuple[End, End]) -> None:
    a, b = ends
    a.udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    a.host.ip("route", "add", b.host.address, "dev", "u0", "mtu", "1300")
    flood(a, b.overlay)
    assert traffic.wrong_echoes(a.host, b.host, b.overlay, [0, 100, 1200]) == []
    assert_counted(a, "out_too_big", 100)
    a.host.ip("route", "del", b.host.address)
    assert_traffic_flows(a, b)
    assert a.counters()["out_too_big"] == 100


def test_an_uplink_that_is_down_costs_packets_only(ends: tuple[End, End]) -> None:
    a, b = ends
    a.host.ip("link", "set", "u0", "down")
    flood(a, b.overlay)
    assert traffic.answered_pings(a.host, b.overlay, 3, patience_s=0.05) == 0
    assert_counted(a, "out_failed", 103)
    a.host.ip("link", "set", "u0", "up")
    assert_traffic_flows(a, b)
    assert (a.counters()["out_failed"], a.ask("failed")) == (103, 0)


def test_a_slow_uplink_is_waited_for(ends: tuple[End, End]) -> None:
    a, b = ends
    a.udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's least: a few datagrams
    a.host.run("tc", "qdisc", "add", "dev", "u0", "root", "tbf", "rate", "50mbit", "burst", "3000", "limit", "10mb")
    assert_traffic_flows(a, b)
    counters = a.counters()
    assert counters["send_waits"] > 0
    assert (counters["out_no_buffers"], counters["out_failed"]) == (0, 0)


def test_an_uplink_that_stands_still_holds_up_nothing_that_comes_in(ends: tuple[End, End]) -> None:
    a, b = ends
    a.udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    a.host.run("tc", "qdisc", "add", "dev", "u0", "root", "tbf", "rate", "1kbit", "burst", "1600", "limit", "10mb")
    with traffic.udp_socket(a.host, a.overlay) as receiving, traffic.udp_socket(b.host) as sending:
        for size in range(1000, 1100):  # ever larger: no two of them are sent at once
            flood(a, b.overlay, size=size, count=1)
        receiving.settimeout(1.0)
        for number in range(10):
            sending.sendto(bytes((number,)), receiving.getsockname())
            assert receiving.recv(10) == bytes((number,))
    assert a.counters()["out_no_buffers"] > 50
    a.host.run("tc", "qdisc", "del", "dev", "u0", "root")
    assert_traffic_flows(a, b)


def test_a_tun_that_is_down_is_counted_and_comes_back(ends: tuple[End, End]) -> None:
    a, b = ends
    a.host.ip("link", "set", "flannel0", "down")
    flood(b, a.overlay, count=10)
    assert_counted(a, "in_refused", 10)
    a.host.ip("link", "set", "flannel0", "up")
    a.host.ip("route", "replace", "10.77.0.0/16", "dev", "flannel0")
    assert_traffic_flows(a, b)
    assert a.counters()["in_refused"] == 10


def test_a_tun_that_is_gone_ends_the_path_and_says_so(ends: tuple[End, End]) -> None:
    a, _ = ends
    a.host.ip("link", "del", "flannel0")
    assert a.ask("ended") == errno.EBADFD
