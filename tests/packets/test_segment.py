"""Super-packets into packets, and the checksums that the kernel leaves to us."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st
from scapy.all import IP, TCP, UDP, raw

from tests.packets import flows, vnet
from tests.packets.driver import Driver
from tests.packets.flows import Flow
from tests.packets.vnet import ACK, CWR, FIN, PSH, Vnet

flags = st.builds(lambda *bits: ACK | sum(bits), *(st.sampled_from((0, bit)) for bit in (FIN, PSH, CWR, vnet.ECE)))


def valid_for_scapy(packet: bytes) -> bool:
    """Are length and checksums what scapy makes of the packet when it may choose them?"""
    parsed = IP(packet)
    again = parsed.copy()
    del again.chksum, again.len
    if (transport := again.getlayer(TCP) or again.getlayer(UDP)) is not None and not parsed.frag:
        del transport.chksum
        if isinstance(transport, UDP):
            del transport.len
    return bool(raw(again) == packet)


@given(flows.flows(options=flows.ip_options), st.data())
def test_segments_are_what_a_network_card_would_make(driver: Driver, flow: Flow, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 3000))
    length = data.draw(st.integers(1, min(65535 - flow.headers, 200 * size)))
    kinds = flow if flow.protocol == vnet.UDP else replace(flow, flags=data.draw(flags))
    payload = flows.payload_of(data.draw(st.integers(0, 9)), length)
    offload, packet = kinds.super_packet(payload, size)
    segments = driver.segments(offload, packet)
    assert segments == list(vnet.split(offload, packet))
    assert b"".join(segment[flow.headers :] for segment in segments) == payload
    assert all(valid_for_scapy(segment) for segment in segments[:3] + segments[-2:])


@given(flows.flows(options=flows.ip_options), st.binary(max_size=400))
def test_a_checksum_that_the_kernel_left_to_us_is_completed(driver: Driver, flow: Flow, payload: bytes) -> None:
    start = 20 + len(flow.ip_options)
    packet = vnet.with_ip_checksum(vnet.with_partial_checksum(flow.unfinished(payload)))
    offload = Vnet(vnet.NEEDS_CSUM, csum_start=start, csum_offset=vnet.CHECK[flow.protocol])
    completed = driver.completed(offload, packet)
    at = start + vnet.CHECK[flow.protocol]
    if completed is not None and completed[at : at + 2] == b"\xff\xff" and flow.protocol == vnet.TCP:
        completed = vnet.patched(completed, at, 0)  # the other zero of one's complement
    assert completed == vnet.with_checksum(packet)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
@example(20, 25)  # a packet of 47 bytes: the last place that fits, the first that does not
@example(20, 26)
@example(19, 16)
@example(0xFFFF, 0xFFFF)
def test_a_checksum_outside_of_the_payload_is_refused(driver: Driver, start: int, offset: int) -> None:
    packet = Flow().packet(b"payload")
    completed = driver.completed(Vnet(vnet.NEEDS_CSUM, csum_start=start, csum_offset=offset), packet)
    assert (completed is not None) == (start >= 20 and start + offset + 2 <= len(packet))


@given(
    flows.flows(options=flows.ip_options),
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 80),
)
@example(Flow(), vnet.GSO_TCPV4, 0, 0, 0)
@example(Flow(), vnet.GSO_TCPV4, 1, 0, 0)
@example(Flow(protocol=vnet.UDP), vnet.GSO_UDP_L4, 0, 0, 0)
@example(Flow(), vnet.GSO_TCPV4, 1, 0, 10)
def test_whatever_the_kernel_says_only_super_packets_are_taken_apart(
    driver: Driver, flow: Flow, kind: int, size: int, frag: int, cut: int
) -> None:
    whole = flow.packet(b"some bytes")
    short = whole[: max(len(whole) - cut, 20 + len(flow.ip_options))]
    packet = vnet.patched(vnet.patched(short, 2, len(short)), 6, frag)
    wanted = {vnet.TCP: vnet.GSO_TCPV4, vnet.UDP: vnet.GSO_UDP_L4}[flow.protocol]
    possible = kind & 0x7F == wanted and size > 0 and not frag & 0x3FFF and len(packet) > flow.headers
    assert (driver.segments(Vnet(gso_type=kind, gso_size=size), packet) is not None) == possible


@given(st.binary(max_size=300))
@example(b"")
@example(b"\xff" * 65535)
@example(b"\x00" * 9 + b"\x01")
def test_the_fast_sum_is_the_slow_sum(driver: Driver, data: bytes) -> None:
    assert driver.checksum(data) == vnet.summed(data)
