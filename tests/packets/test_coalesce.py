"""Packets into super-packets: what the kernel makes of our writes is what came off the wire, in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.packets import flows, vnet
from tests.packets.driver import Driver
from tests.packets.flows import DF, MTU, Flow
from tests.packets.test_segment import valid_for_scapy
from tests.packets.vnet import ACK, FIN, PSH, RST, SYN, TCP, UDP, URG, Vnet

Key = tuple[bytes, ...]


def canonical(packet: bytes) -> bytes:
    """The packet without what may differ: the id of one that is never fragmented (RFC 6864), and which of the two
    zeros of one's complement stands for zero."""
    check, start = packet[10:12], vnet.ip_header_bytes(packet)
    packet = vnet.patched(packet, 10, vnet.summed(packet[:start]))
    if packet[6] & 0x40:
        packet = vnet.patched(packet, 4, 0)
        check = b""
    at = start + vnet.CHECK[TCP]
    if packet[9] == TCP and packet[at : at + 2] == b"\xff\xff":
        packet = vnet.patched(packet, at, 0)
    return packet + (b"\0\0" if check == b"\xff\xff" else check)


def fragment(packet: bytes) -> bool:
    return bool(int.from_bytes(packet[6:8], "big") & 0x3FFF)


def is_partial(packet: bytes) -> bool:
    """Is the checksum that of the pseudo header alone?"""
    start = vnet.ip_header_bytes(packet)
    if packet[9] not in vnet.CHECK or fragment(packet) or len(packet) < start + (20 if packet[9] == TCP else 8):
        return False
    at = start + vnet.CHECK[packet[9]]
    return int.from_bytes(packet[at : at + 2], "big") == vnet.summed(vnet.pseudo(packet))


def expected(packet: bytes) -> list[bytes]:
    """What the kernel must see of one packet from the wire: itself, aged; finished, if its sender left that to a card,
    and cut to the MTU then."""
    older = vnet.aged(packet)
    if not is_partial(packet):
        return [older]
    start = vnet.ip_header_bytes(packet)
    if packet[9] == TCP and len(packet) > MTU:
        headers = start + (packet[start + 12] >> 4) * 4
        return list(vnet.split(Vnet(vnet.NEEDS_CSUM, vnet.GSO_TCPV4, gso_size=MTU - headers), older))
    return [vnet.with_checksum(older)]


def flow_of(packet: bytes) -> Key | None:
    """None: no ports, may belong to any flow between its hosts."""
    start = vnet.ip_header_bytes(packet)
    return None if fragment(packet) else (packet[9:10], packet[12:20], packet[start : start + 4])


def in_flow(packets: list[bytes], key: Key) -> list[bytes]:
    """The packets of a flow, and the fragments that may be of it."""
    return [canonical(packet) for packet in packets
            if flow_of(packet) == key or (fragment(packet) and (packet[9:10], packet[12:20]) == key[:2])]  # fmt: skip


@settings(max_examples=300)
@given(flows.traffic())
def test_the_kernel_sees_what_came_off_the_wire_in_each_flow_in_order(driver: Driver, batch: list[bytes]) -> None:
    deliveries = driver.coalesced(batch)
    seen = [packet for each in deliveries for packet in vnet.split(each.offload, each.content)]
    right = [packet for each in batch for packet in expected(each)]
    assert Counter(map(canonical, seen)) == Counter(map(canonical, right))
    for key in {key for packet in batch if (key := flow_of(packet)) is not None}:
        assert in_flow(seen, key) == in_flow(right, key)
    assert sum(each.packets for each in deliveries) == len(batch)
    assert sum(each.bytes for each in deliveries) == sum(map(len, batch))


@settings(max_examples=300)
@given(flows.traffic())
def test_every_write_fits_its_header(driver: Driver, batch: list[bytes]) -> None:
    for offload, content, packets, _ in driver.coalesced(batch):
        assert int.from_bytes(content[2:4], "big") == len(content)
        if packets == 1 and not offload.flags:
            assert offload == Vnet()
            continue
        start = vnet.ip_header_bytes(content)
        assert (offload.flags, offload.csum_start) == (vnet.NEEDS_CSUM, start)
        assert offload.csum_offset == vnet.CHECK[content[9]]
        assert is_partial(content)
        if packets > 1:
            assert offload.gso_type == (vnet.GSO_TCPV4 if content[9] == TCP else vnet.GSO_UDP_L4)
            assert -(-(len(content) - offload.hdr_len) // offload.gso_size) == packets


@given(flows.segments())
def test_one_flow_is_one_write_as_far_as_the_kernel_takes_it(driver: Driver, batch: list[bytes]) -> None:
    flow_bytes = sum(map(len, batch))
    writes = driver.coalesced(batch)
    assert len(writes) <= 1 + len(batch) // 64 + flow_bytes // 64000
    assert all(valid_for_scapy(packet) for each in writes for packet in list(vnet.split(*each[:2]))[:2])


@given(flows.flows(options=st.just(b"")), st.integers(1, 1400), st.integers(2, 60))
def test_segmenting_and_coalescing_gives_back_the_super_packet(
    driver: Driver, flow: Flow, size: int, count: int
) -> None:
    length = min(size * count, 65535 - flow.headers)
    offload, packet = flow.super_packet(flows.payload_of(3, length), size)
    segments = driver.segments(offload, packet)
    assert segments is not None
    if len(segments) == 1:
        offload, packet = Vnet(), segments[0]
    elif len(segments) > 64:
        return
    (write,) = driver.coalesced(segments)
    assert (write.offload, write.content[20:]) == (offload, packet[20:])
    assert canonical(write.content) == canonical(vnet.aged(packet))


def without_udp(batch: list[bytes]) -> list[bytes]:
    return [packet for packet in batch if packet[9] != UDP]


@given(flows.traffic())
def test_a_kernel_that_takes_no_super_packets_gets_none(driver: Driver, batch: list[bytes]) -> None:
    assert [each.offload for each in driver.coalesced(batch, tcp=False, udp=False)] == [Vnet()] * len(batch)
    only_tcp = driver.coalesced(batch, udp=False)
    assert not any(each.packets > 1 for each in only_tcp if each.content[9] == UDP)


def following(flow: Flow, payload: bytes, **changes: object) -> list[bytes]:
    """Two packets of one flow that go on from each other, but for `changes` in the second."""
    second = replace(flow, ident=flow.ident + 1, sequence=flow.sequence + len(payload))
    return [flow.packet(payload), replace(second, **changes).packet(payload)]  # type: ignore[arg-type]


STAY_APART = {
    "FIN": {"flags": FIN | ACK},
    "RST": {"flags": RST | ACK},
    "SYN": {"flags": SYN | ACK},
    "URG": {"flags": URG | ACK, "urgent": 1},
    "no ACK": {"flags": PSH},
    "ECE": {"flags": ACK | vnet.ECE},
    "CWR": {"flags": ACK | vnet.CWR},
    "another acknowledgement": {"ack": 2},
    "another window": {"window": 9},
    "other options": {"tcp_options": flows.TIMESTAMPS},
    "a gap": {"sequence": 1000},
    "a retransmission": {"sequence": 1},
    "another TTL": {"ttl": 63},
    "another TOS": {"tos": 4},
    "another DF": {"frag": 0},
    "IP options": {"ip_options": bytes(4)},
    "a first fragment": {"frag": 0x2000},
    "a later fragment": {"frag": 3},
}


@pytest.mark.parametrize("cause", STAY_APART)
def test_packets_of_one_flow_stay_apart_because_of(driver: Driver, cause: str) -> None:
    together, apart = following(Flow(), b"payload"), following(Flow(), b"payload", **STAY_APART[cause])
    assert len(driver.coalesced(together)) == 1
    assert [each.packets for each in driver.coalesced(apart)] == [1, 1]


def test_ids_go_on_where_a_packet_may_be_fragmented(driver: Driver) -> None:
    flow = Flow(frag=0, ident=0xFFFF)
    assert len(driver.coalesced(following(flow, b"payload", ident=0))) == 1
    assert len(driver.coalesced(following(flow, b"payload", ident=1))) == 2
    assert len(driver.coalesced(following(replace(flow, frag=DF), b"payload", ident=1))) == 1


def test_no_super_packet_is_longer_than_a_packet_can_be(driver: Driver) -> None:
    flow = Flow()
    run = [replace(flow, sequence=1 + 1400 * i, ident=i).packet(flows.payload_of(i, 1400)) for i in range(60)]
    writes = driver.coalesced(run)
    assert [len(each.content) <= 65535 for each in writes] == [True, True]
    assert b"".join(each.content[40:] for each in writes) == b"".join(packet[40:] for packet in run)


def test_a_push_ends_a_super_packet(driver: Driver) -> None:
    flow = Flow()
    run = [replace(flow, sequence=1 + 7 * i, ident=i, flags=ACK | (PSH if i == 1 else 0)).packet(b"payload")
           for i in range(4)]  # fmt: skip
    assert [(each.packets, each.content[33] & PSH) for each in driver.coalesced(run)] == [(2, PSH), (2, 0)]


def test_a_wrong_checksum_is_never_made_right(driver: Driver) -> None:
    first, second = following(Flow(), b"payload")
    broken = second[:-1] + b"!"
    alone = driver.coalesced([first, broken])
    assert [each.offload for each in alone] == [Vnet(), Vnet()]
    assert alone[1].content == vnet.aged(broken)


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_an_unfinished_checksum_is_left_to_the_kernel(driver: Driver, protocol: int) -> None:
    packet = vnet.with_ip_checksum(vnet.with_partial_checksum(Flow(protocol=protocol).unfinished(b"payload")))
    (write,) = driver.coalesced([packet])
    headers = 40 if protocol == TCP else 28
    assert write.offload == Vnet(vnet.NEEDS_CSUM, vnet.GSO_NONE, headers, 0, 20, vnet.CHECK[protocol])
    assert write.content == vnet.aged(packet)


@pytest.mark.parametrize("count", [1, 2])
def test_unfinished_packets_above_the_mtu_are_cut_to_it(driver: Driver, count: int) -> None:
    flow = Flow(tcp_options=flows.TIMESTAMPS)
    payload = flows.payload_of(1, 9000)
    packets = [
        vnet.with_ip_checksum(
            vnet.with_partial_checksum(replace(flow, sequence=1 + 9000 * i, ident=i).unfinished(payload))
        )
        for i in range(count)
    ]
    sizes = [(each.offload.gso_type, each.offload.gso_size) for each in driver.coalesced(packets)]
    assert sizes == [(vnet.GSO_TCPV4, MTU - flow.headers)] * count


def test_fragments_do_not_overtake_the_flow_that_they_may_belong_to(driver: Driver) -> None:
    flow = Flow(protocol=UDP, frag=0)
    later = replace(flow, frag=100, ident=9).packet(bytes(16))
    writes = driver.coalesced([flow.packet(b"first"), later, replace(flow, ident=2).packet(b"third")])
    assert [each.content[-5:] for each in writes] == [b"first", bytes(5), b"third"]
