"""Packets as hosts send them, for hypothesis: flows cut into segments, and whatever happens to them on the way."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from tests.packets import vnet
from tests.packets.vnet import ACK, FIN, PSH, RST, SYN, TCP, UDP, URG, Vnet

MTU = 1472
DF, MF = 0x4000, 0x2000
TIMESTAMPS = bytes((1, 1, 8, 10)) + struct.pack(">II", 12345, 678)
SACK = bytes((1, 1, 5, 10)) + struct.pack(">II", 100, 200)


@dataclass(frozen=True)
class Flow:
    """One TCP or UDP flow: what all its packets have in common, and where it stands."""

    protocol: int = TCP
    source: bytes = bytes((10, 77, 2, 5))
    target: bytes = bytes((10, 77, 1, 5))
    ports: tuple[int, int] = (1000, 2000)
    tos: int = 0
    ttl: int = 64
    frag: int = DF
    ident: int = 0
    ip_options: bytes = b""
    sequence: int = 1
    ack: int = 1
    flags: int = ACK
    window: int = 500
    urgent: int = 0
    tcp_options: bytes = b""

    def packet(self, payload: bytes) -> bytes:
        """One IPv4 packet with complete checksums."""
        return vnet.with_ip_checksum(vnet.with_checksum(self.unfinished(payload)))

    def unfinished(self, payload: bytes) -> bytes:
        """The same without any checksum."""
        if self.protocol == TCP:
            words = 5 + len(self.tcp_options) // 4
            head = struct.pack(">HHIIBBHHH", *self.ports, self.sequence, self.ack, words << 4, self.flags,
                               self.window, 0, self.urgent) + self.tcp_options  # fmt: skip
        else:
            head = struct.pack(">HHHH", *self.ports, 8 + len(payload), 0)
        words = 5 + len(self.ip_options) // 4
        total = words * 4 + len(head) + len(payload)
        ip = struct.pack(">BBHHHBBH", 0x40 | words, self.tos, total, self.ident, self.frag, self.ttl, self.protocol, 0)
        return ip + self.source + self.target + self.ip_options + head + payload

    @property
    def headers(self) -> int:
        return 20 + len(self.ip_options) + (20 + len(self.tcp_options) if self.protocol == TCP else 8)

    def super_packet(self, payload: bytes, size: int) -> tuple[Vnet, bytes]:
        """What the kernel hands over a TUN with offloads: one packet, to be cut into payloads of `size` bytes."""
        kind = vnet.GSO_TCPV4 if self.protocol == TCP else vnet.GSO_UDP_L4
        start = 20 + len(self.ip_options)
        offload = Vnet(vnet.NEEDS_CSUM, kind, self.headers, size, start, vnet.CHECK[self.protocol])
        return offload, vnet.with_ip_checksum(vnet.with_partial_checksum(self.unfinished(payload)))


idents = st.one_of(st.integers(0, 0xFFFF), st.integers(0xFFF0, 0xFFFF))
sequences = st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(0xFFFFF000, 0xFFFFFFFF))
no_options = st.just(b"")
ip_options = st.sampled_from([b"", b"", bytes((7, 11, 4)) + bytes(8) + b"\1", b"\1" * 40])
tcp_options = st.sampled_from([b"", TIMESTAMPS, SACK, TIMESTAMPS + SACK, b"\1" * 40])


@st.composite
def flows(draw: st.DrawFn, *, options: st.SearchStrategy[bytes] = no_options) -> Flow:
    protocol = draw(st.sampled_from((TCP, TCP, UDP)))
    return Flow(
        protocol=protocol,
        source=bytes((10, 77, 2, draw(st.integers(1, 3)))),
        ports=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        tos=draw(st.sampled_from((0, 2, 0xB8))),
        ttl=draw(st.integers(2, 255)),
        frag=draw(st.sampled_from((DF, 0))),
        ident=draw(idents),
        ip_options=draw(options),
        sequence=draw(sequences),
        ack=draw(st.integers(0, 3)),
        window=draw(st.integers(0, 0xFFFF)),
        tcp_options=draw(tcp_options) if protocol == TCP else b"",
    )


def payload_of(seed: int, size: int) -> bytes:
    """`size` bytes that differ from seed to seed, without drawing each from hypothesis."""
    return b"".join(((seed + i) * 2654435761 % 2**32).to_bytes(4, "big") for i in range(size // 4 + 1))[:size]


payloads = st.builds(payload_of, st.integers(0, 2**32), st.integers(1, 65000))


@st.composite
def segments(draw: st.DrawFn) -> list[bytes]:
    """A run of packets of one flow, as they leave a host that segments: equal sizes, a shorter last, ids going on."""
    flow = draw(flows())
    size = draw(st.one_of(st.sampled_from((1, 2, 64, 1400)), st.integers(1, MTU - flow.headers)))
    payload = payload_of(draw(st.integers(0, 9)), draw(st.integers(1, min(70 * size, 65535 - flow.headers))))
    push = draw(st.booleans())
    offload, packet = flow.super_packet(payload, size)
    if push and flow.protocol == TCP:
        offload, packet = replace(flow, flags=ACK | PSH).super_packet(payload, size)
    return list(vnet.split(offload, packet))


ODDITIES = ("flags", "options", "first", "later", "sum", "check", "none", "partial", "big", "short", "long", "icmp")


@st.composite
def oddities(draw: st.DrawFn) -> bytes:
    """One packet that must travel alone."""
    flow = draw(flows())
    kind = draw(st.sampled_from(ODDITIES))
    payload = payload_of(draw(st.integers(0, 9)), draw(st.integers(0, 600)))
    match kind:
        case "flags":
            flags = draw(st.sampled_from((SYN, FIN | ACK, RST, ACK | URG, ACK | 0x40, ACK | 0x80, 0, PSH)))
            return replace(flow, flags=flags, urgent=1).packet(payload)
        case "options":
            return replace(flow, ip_options=draw(ip_options)).packet(payload)
        case "first":
            return replace(flow, frag=MF).packet(payload)
        case "later":
            return replace(flow, frag=100).packet(payload)
        case "sum":
            packet = flow.packet(payload)
            return vnet.patched(packet, 10, int.from_bytes(packet[10:12], "big") ^ 0x0101)
        case "check":
            packet = flow.packet(payload)
            return vnet.patched(packet, 20 + vnet.CHECK[flow.protocol], draw(st.integers(0, 0xFFFF)))
        case "none":
            return vnet.patched(replace(flow, protocol=UDP, tcp_options=b"").packet(payload), 26, 0)
        case "partial":
            return vnet.with_ip_checksum(vnet.with_partial_checksum(flow.unfinished(payload)))
        case "big":
            large = payload_of(7, draw(st.integers(MTU, 65000)))
            return vnet.with_ip_checksum(vnet.with_partial_checksum(flow.unfinished(large)))
        case "short":
            return vnet.with_ip_checksum(vnet.patched(flow.packet(b"")[:27], 2, 27))
        case "long":
            udp = replace(flow, protocol=UDP, tcp_options=b"").unfinished(payload)
            return vnet.with_ip_checksum(vnet.with_checksum(vnet.patched(udp, 24, 8 + len(payload) + 1)))
        case _:
            return vnet.with_ip_checksum(flow.packet(payload)[:9] + b"\1" + flow.packet(payload)[10:])


@st.composite
def traffic(draw: st.DrawFn) -> list[bytes]:
    """A batch as it comes off the wire: flows interleaved, with losses, repetitions and oddities among them."""
    queues = draw(st.lists(segments(), min_size=1, max_size=10))
    queues += [[odd] for odd in draw(st.lists(oddities(), max_size=6))]
    batch: list[bytes] = []
    while queues and len(batch) < 400:
        queue = draw(st.sampled_from(queues))
        taken = draw(st.integers(1, len(queue)))
        batch += queue[:taken]
        del queue[:taken]
        queues = [each for each in queues if each]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(batch) - 1))
        if draw(st.booleans()):
            batch.insert(draw(st.integers(0, len(batch))), batch[at])
        elif len(batch) > 1:
            del batch[at]
    return batch
