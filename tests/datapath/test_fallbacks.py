"""Without an offload, whoever refuses it, everything still arrives."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.datapath import traffic
from tests.datapath.site import MTU, End, Site

TO_A, TO_B = {"10.77.1.0/24": "192.168.77.1"}, {"10.77.2.0/24": "192.168.77.2"}
SO_NO_CHECK = 11  # asm-generic/socket.h


@pytest.fixture(params=[True, False], ids=["offloads on", "offloads off"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with Site(offloads=request.param) as site:
        yield site


def assert_all_arrives(a: End, b: End) -> None:
    for sender, receiver in ((a, b), (b, a)):
        left, arrived = traffic.digests_of_a_transfer(sender.host, receiver.host, receiver.overlay, 10)
        assert left == arrived
        sizes = [0, 1, 2, 3, 100, MTU - 29, MTU - 28, 3000, 9000]
        assert traffic.wrong_echoes(sender.host, receiver.host, receiver.overlay, sizes) == []
        payload = os.urandom(10_500)
        pieces = [payload[at : at + 1000] for at in range(0, len(payload), 1000)]
        assert traffic.segments_received(sender.host, receiver.host, receiver.overlay, 1000, payload) == pieces


@pytest.mark.parametrize("vnet", [True, False], ids=["vnet header", "bare TUN"])
@pytest.mark.parametrize("options", [[], ["plain"]], ids=["offload", "plain"])
def test_with_every_kind_of_tun_and_setting(site: Site, vnet: bool, options: list[str]) -> None:
    with ExitStack() as stack:
        a = stack.enter_context(End(site.a, TO_B, vnet=vnet)).start(*options)
        b = stack.enter_context(End(site.b, TO_A)).start()
        assert_all_arrives(a, b)
        features = set() if options else {"UDP_SEGMENT", "UDP_GRO"}
        features |= {"tcp segmentation", "udp segmentation"} if vnet and not options else set()
        assert set(a.ask("features")) == features


def test_a_socket_that_refuses_udp_segment_gets_single_datagrams(site: Site) -> None:
    with ExitStack() as stack:
        a = stack.enter_context(End(site.a, TO_B))
        b = stack.enter_context(End(site.b, TO_A)).start()
        a.udp.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)  # the kernel refuses UDP_SEGMENT without checksums (EINVAL)
        a.start()
        assert "UDP_SEGMENT" in a.ask("features")
        assert_all_arrives(a, b)
        counters = a.counters()  # one peer's path is no verdict on the others': the feature stays on
        assert (counters["out_failed"], counters["out_too_big"]) == (0, 0)


def test_offloads_that_are_switched_off_leave_what_was_queued_with_them(site: Site) -> None:
    with ExitStack() as stack:
        a = stack.enter_context(End(site.a, TO_B)).start()
        b = stack.enter_context(End(site.b, TO_A)).start()
        a.kill()
        payload = os.urandom(10_500)
        sending = stack.enter_context(traffic.udp_socket(site.a))
        receiving = stack.enter_context(traffic.udp_socket(site.b, b.overlay))
        sending.setsockopt(socket.SOL_UDP, traffic.UDP_SEGMENT, 1000)
        sending.sendto(payload, receiving.getsockname())  # one super-packet, in the TUN's queue
        a.start("plain")
        assert b"".join(receiving.recv(2000) for _ in range(11)) == payload
