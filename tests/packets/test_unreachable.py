"""ICMP net unreachable, by the rules of flannel, and quoting no more than there is."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import ICMP, IP, raw

from tests.packets import flows, vnet
from tests.packets.driver import Driver
from tests.packets.flows import Flow

OWN = 0x0A064F00  # 10.6.79.0


def test_the_answer_is_what_flannel_was_seen_to_send(driver: Driver) -> None:
    offender = bytes.fromhex("4500 003c 2d09 4000 4006 aabb 0a06 4f00 0a06 0909") + bytes.fromhex("b26e 0050 f07f b2a2")
    answer = driver.unreachable(OWN, offender + bytes(32))
    observed = bytes.fromhex("4500 0038 0000 0000 0801 00ba 0a06 4f00 0a06 4f00")
    assert answer[:20] == observed
    assert answer[20:22] == bytes((3, 0))
    assert answer[24:] == bytes(4) + offender
    assert vnet.summed(answer[20:]) == 0xFFFF


@given(flows.flows(options=flows.ip_options), st.binary(max_size=100))
def test_the_header_and_eight_bytes_are_quoted(driver: Driver, flow: Flow, payload: bytes) -> None:
    offender = flow.packet(payload)
    answer = driver.unreachable(OWN, offender)
    if len(flow.ip_options) == 40:
        assert answer == b""
        return
    quote = offender[: 20 + len(flow.ip_options) + 8]
    assert answer == raw(
        IP(src="10.6.79.0", dst=socket.inet_ntoa(offender[12:16]), ttl=8, id=0) / ICMP(type=3, code=0) / quote
    )


@given(st.integers(0, 10))
def test_no_more_is_quoted_than_there_is(driver: Driver, rest: int) -> None:
    offender = vnet.patched(Flow().packet(b"")[: 20 + rest], 2, 20 + rest)
    answer = driver.unreachable(OWN, offender)
    assert answer[28:] == offender[: 20 + min(rest, 8)]
    assert int.from_bytes(answer[2:4], "big") == len(answer)
    assert vnet.summed(answer[20:]) == 0xFFFF


@pytest.mark.parametrize(("frag", "answered"), [(0x2000, True), (0x2001, False), (0x1FFF, False), (0x4000, True)])
def test_only_the_first_fragment_is_answered(driver: Driver, frag: int, answered: bool) -> None:
    assert bool(driver.unreachable(OWN, replace(Flow(), frag=frag).packet(bytes(20)))) == answered


def test_icmp_is_never_answered(driver: Driver) -> None:
    packet = Flow().packet(bytes(20))
    assert driver.unreachable(OWN, packet[:9] + b"\1" + packet[10:]) == b""
