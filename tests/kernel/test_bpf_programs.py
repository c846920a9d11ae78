"""The kernel programs against a slow twin in Python: same packets, same verdict, same bytes."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from flannel_multi.model.subnet import parse_ip
from flannel_worker.datapath import bpfobject, libbpf
from flannel_worker.datapath.bpf import LOSSES
from flannel_worker.datapath.bpflayout import MARK_SIZE, NUMBER, ONLY, VERSION, Config, peer_key, peer_value
from flannel_worker.datapath.xdp import read_counters

US, THEM, PLAIN = (parse_ip(f"192.0.2.{number}") for number in (1, 2, 3))
PORT = 8285
IPV4 = bytes(12) + b"\x08\x00"
REDIRECT, UNSPEC, SHOT, XDP_PASS = 7, -1, 2, 2
BEHIND = {parse_ip("10.9.2.0"): (THEM, True), parse_ip("10.9.3.0"): (PLAIN, False)}  # all are /24
VERDICTS = Path(__file__).parent.parent.parent / "workers/datapath/bpf"
INNER = [parse_ip(text) for text in ("10.9.1.5", "10.9.2.5", "10.9.3.5", "10.9.4.5", "8.8.8.8")]


class Seen(NamedTuple):
    verdict: str
    action: int
    packet: bytes


def checksum(header: bytes) -> int:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: int, target: int, body: bytes, *, ttl: int = 64, protocol: int = 253, **odd: int) -> bytes:
    """`odd`: first byte, total length or fragment bits other than they should be."""
    first, length = odd.get("first", 0x45), odd.get("length", 20 + len(body))
    head = struct.pack("!BBHHHBBHII", first, 0, length, 0, odd.get("bits", 0), ttl, protocol, 0, source, target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def one_hop_less(packet: bytes) -> bytes:
    (check,) = struct.unpack_from("!H", packet, 10)
    check += 0x0100  # RFC 1624, as the spec has it
    check = (check & 0xFFFF) + (check >> 16)
    return packet[:8] + bytes([packet[8] - 1]) + packet[9:10] + struct.pack("!H", check & 0xFFFF) + packet[12:]


def wrapped(inner: bytes, source: int, target: int, **odd: int) -> bytes:
    """A datagram as a peer's programs send it, unless `odd`: then with other lengths, ports or fragment bits."""
    length = odd.get("udp_length", 8 + len(inner))
    udp = struct.pack("!HHHH", PORT, odd.get("port", PORT), length, odd.get("check", 0))
    outer = {"length": odd.get("ip_length", 28 + len(inner)), "bits": odd.get("bits", 0x4000)}
    return ipv4(source, target, udp + inner, protocol=odd.get("protocol", 17), first=odd.get("first", 0x45), **outer)


def is_whole(packet: bytes) -> bool:
    return packet[0] >> 4 == 4 and 20 <= (packet[0] & 15) * 4 <= struct.unpack_from("!H", packet, 2)[0]


def leaving(packet: bytes) -> Seen:
    """What tun_egress should make of an Ethernet frame with `packet`."""
    left = IPV4 + packet
    (length,) = struct.unpack_from("!H", packet, 2)
    if not is_whole(packet) or length != len(packet):
        return Seen("bpf_out_odd", UNSPEC, left)
    address, fast = BEHIND.get(struct.unpack_from("!I", packet, 16)[0] & 0xFFFFFF00, (0, False))
    if not address:
        return Seen("bpf_out_no_peer", UNSPEC, left)
    if not fast:
        return Seen("bpf_out_plain_peer", UNSPEC, left)
    if packet[8] <= 1:
        return Seen("bpf_out_ttl", SHOT, left)
    return Seen("bpf_out_sent", REDIRECT, IPV4 + wrapped(one_hop_less(packet), US, address))


def arriving(outer: bytes, *, verify: bool) -> Seen:
    """What uplink_ingress should make of it."""
    left, inner = IPV4 + outer, outer[28:]
    ip_length, bits, protocol = *struct.unpack_from("!H2xH", outer, 2), outer[9]
    source, target, _, port, udp_length, check = struct.unpack_from("!IIHHHH", outer, 12)
    if len(inner) < 20 or protocol != 17 or target != US or outer[0] != 0x45:
        return Seen("bpf_in_foreign", UNSPEC, left)
    if bits & 0x3FFF:
        return Seen("bpf_in_fragment", UNSPEC, left)
    if port != PORT:
        return Seen("bpf_in_foreign", UNSPEC, left)
    if check:
        return Seen("bpf_in_checksummed", UNSPEC, left)
    (length,) = struct.unpack_from("!H", inner, 2)
    fits = length >= 20 and udp_length == length + 8 and ip_length == length + 28 and len(inner) >= length
    if not fits or not is_whole(inner):
        return Seen("bpf_in_odd", UNSPEC, left)
    if inner[8] <= 1:
        return Seen("bpf_in_ttl", SHOT, IPV4 + inner)
    sender, _ = BEHIND.get(struct.unpack_from("!I", inner, 12)[0] & 0xFFFFFF00, (0, False))
    if verify and sender != source:
        return Seen("bpf_in_stranger", SHOT, IPV4 + inner)
    return Seen("bpf_in_received", REDIRECT, IPV4 + one_hop_less(inner))


def opened(outer: bytes) -> Seen:
    """What uplink_xdp should make of it; the mark is left out."""
    inner = outer[28:]
    seen = arriving(outer, verify=False)
    if seen.verdict in ("bpf_in_received", "bpf_in_ttl"):
        return Seen("xdp_opened", XDP_PASS, IPV4 + inner)
    ours = seen.verdict in ("bpf_in_odd", "bpf_in_checksummed")
    return Seen("xdp_left" if ours else "xdp_foreign", XDP_PASS, IPV4 + outer)


bodies = st.binary(max_size=64)
headers = st.fixed_dictionaries(
    {"ttl": st.sampled_from([0, 1, 2, 64, 255]), "protocol": st.sampled_from([1, 6, 17, 47, 253])},
    optional={
        "first": st.sampled_from([0x45, 0x46, 0x4F, 0x41, 0x65, 0x05]),
        "length": st.integers(0, 0xFFFF),
        "bits": st.sampled_from([0x2000, 0x4000, 0x0010]),
    },
)
inners = st.builds(
    lambda source, target, body, header: ipv4(source, target, body, **header),
    st.sampled_from(INNER), st.sampled_from(INNER), bodies, headers,
)  # fmt: skip
oddities = st.fixed_dictionaries(
    {},
    optional={
        "udp_length": st.integers(0, 0xFFFF),
        "ip_length": st.integers(0, 0xFFFF),
        "port": st.sampled_from([PORT, PORT + 1]),
        "check": st.integers(0, 0xFFFF),
        "bits": st.sampled_from([0, 0x2000, 0x6000, 0x00FF]),
        "protocol": st.sampled_from([6, 17]),
        "first": st.sampled_from([0x45, 0x46, 0x65]),
    },
)
outers = st.builds(
    lambda inner, source, target, odd: wrapped(inner, source, target, **odd),
    inners, st.sampled_from([THEM, PLAIN]), st.sampled_from([US, US, US, PLAIN]), oddities,
)  # fmt: skip
GOOD = ipv4(INNER[1], INNER[0], b"payload")


def test_leaving_packets_fare_as_their_twin_says() -> None:
    with programs() as run:

        @given(inners)
        @example(ipv4(INNER[0], INNER[1], b"payload"))
        @example(ipv4(INNER[0], INNER[1], b"payload", length=20 + 7 + len(IPV4)))
        def check(packet: bytes) -> None:
            assert run("tun_egress", IPV4 + packet) == leaving(packet)

        check()


def test_arriving_packets_fare_as_their_twin_says() -> None:
    for verify in (False, True):
        with programs(verify=verify) as run:

            @given(outers)
            @example(wrapped(GOOD, THEM, US))
            @example(wrapped(GOOD, PLAIN, US))
            @example(wrapped(GOOD, THEM, US) + b"trailer of a card")
            @example(wrapped(GOOD, THEM, US)[:-1])
            def check(packet: bytes) -> None:
                assert run("uplink_ingress", IPV4 + packet) == arriving(packet, verify=verify)  # noqa: B023

            check()


def test_packets_are_opened_early_as_their_twin_says() -> None:
    with programs() as run:

        @given(outers)
        @example(wrapped(GOOD, THEM, US))
        @example(wrapped(GOOD, THEM, US)[:-1])
        def check(packet: bytes) -> None:
            seen = run("uplink_xdp", IPV4 + packet)
            if seen.verdict == "xdp_opened":
                seen = seen._replace(packet=seen.packet[MARK_SIZE:])
            assert seen == opened(packet)

        check()


def test_every_loss_that_is_told_of_is_a_verdict_of_the_programs_that_drops() -> None:
    texts = (VERDICTS / "verdicts.h").read_text()
    dropping = set(re.findall(r'V\(\w+, "(\w+)", "[^"]*: dropped"\)', texts))
    assert {name for name, _ in LOSSES} == dropping - {"bpf_out_ttl", "bpf_in_ttl"}, "a spent TTL is no fault"
    with programs() as run:
        assert dropping <= run.verdicts()


class Programs:
    def __init__(self, *, verify: bool) -> None:
        self._overlay, self._xdp = bpfobject.overlay(), bpfobject.xdp()
        config = Config(US, 1, 1, PORT, verify, mac=len(IPV4))
        self._overlay.maps["config"].update(ONLY, config.packed())
        for base, (address, fast) in BEHIND.items():
            self._overlay.maps["peers"].update(peer_key(base, 24), peer_value(base, 24, address, fast=fast))
        self._xdp.maps["endpoints"].update(config.endpoint(), NUMBER.pack(VERSION))

    def __call__(self, program: str, frame: bytes) -> Seen:
        loaded = self._xdp if program == "uplink_xdp" else self._overlay
        before = read_counters(loaded)
        action, packet = libbpf.run(loaded.program(program), frame, what=program)
        counted = [name for name, count in read_counters(loaded).items() if count != before[name]]
        assert len(counted) == 1
        return Seen(counted[0], action, packet)

    def verdicts(self) -> set[str]:
        return {*self._overlay.verdicts, *self._xdp.verdicts}

    def close(self) -> None:
        self._overlay.close()
        self._xdp.close()


@contextlib.contextmanager
def programs(*, verify: bool = False) -> Iterator[Programs]:
    loaded = Programs(verify=verify)
    try:
        yield loaded
    finally:
        loaded.close()
