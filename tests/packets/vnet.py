"""struct virtio_net_hdr, and the slow twin of segmentation and checksums: what the kernel would make of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

VNET_BYTES = 10
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_UDP_L4, GSO_ECN = 0, 1, 5, 0x80
TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
CHECK = {TCP: 16, UDP: 6}
"""Where the checksum stands in the header."""


class Vnet(NamedTuple):
    """linux/virtio_net.h"""

    flags: int = 0
    gso_type: int = GSO_NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    def pack(self) -> bytes:
        return struct.pack("=BBHHHH", *self)

    @classmethod
    def unpack(cls, data: bytes) -> Vnet:
        return cls(*struct.unpack("=BBHHHH", data))


def summed(data: bytes) -> int:
    """The one's complement sum of RFC 1071, not inverted. 2**16 is 1 modulo 65535, so it is a remainder."""
    number = int.from_bytes(data + bytes(len(data) % 2), "big")
    return number % 0xFFFF or (0xFFFF if number else 0)


def ip_header_bytes(packet: bytes) -> int:
    return (packet[0] & 0x0F) * 4


def pseudo(packet: bytes) -> bytes:
    """Of a whole packet: addresses, protocol, length (RFC 793)."""
    return packet[12:20] + struct.pack(">HH", packet[9], len(packet) - ip_header_bytes(packet))


def patched(data: bytes, at: int, value: int) -> bytes:
    """`data` with the 16 bits at `at` replaced."""
    return data[:at] + struct.pack(">H", value) + data[at + 2 :]


def with_ip_checksum(packet: bytes) -> bytes:
    header = ip_header_bytes(packet)
    return patched(packet, 10, ~summed(patched(packet[:header], 10, 0)) & 0xFFFF)


def with_checksum(packet: bytes) -> bytes:
    """The packet with a complete TCP or UDP checksum."""
    header = ip_header_bytes(packet)
    at = header + CHECK[packet[9]]
    blank = patched(packet, at, 0)
    value = ~summed(pseudo(blank) + blank[header:]) & 0xFFFF
    return patched(blank, at, 0xFFFF if value == 0 and packet[9] == UDP else value)


def with_partial_checksum(packet: bytes) -> bytes:
    """The packet as the kernel leaves it to a network card: only the pseudo header is summed."""
    return patched(packet, ip_header_bytes(packet) + CHECK[packet[9]], summed(pseudo(packet)))


def aged(packet: bytes) -> bytes:
    """One TTL less, IP checksum mended (RFC 1624)."""
    check = int.from_bytes(packet[10:12], "big") + 0x0100
    return patched(packet[:8] + bytes((packet[8] - 1,)) + packet[9:], 10, (check & 0xFFFF) + (check >> 16))


def split(offload: Vnet, packet: bytes) -> Iterator[bytes]:
    """What goes over a wire for one packet of the kernel: the packets that a card with all offloads would make."""
    if offload.gso_type == GSO_NONE:
        yield with_checksum(packet) if offload.flags & NEEDS_CSUM else packet
        return
    start = ip_header_bytes(packet)
    tcp = offload.gso_type & ~GSO_ECN == GSO_TCPV4
    headers = start + ((packet[start + 12] >> 4) * 4 if tcp else 8)
    payload = packet[headers:]
    for index, at in enumerate(range(0, len(payload), offload.gso_size)):
        piece = payload[at : at + offload.gso_size]
        head = patched(packet[:headers], 2, headers + len(piece))
        head = patched(head, 4, (int.from_bytes(head[4:6], "big") + index) & 0xFFFF)
        if tcp:
            last = at + len(piece) == len(payload)
            flags = head[start + 13] & (0xFF if last else ~(FIN | PSH)) & (0xFF if index == 0 else ~CWR)
            sequence = (int.from_bytes(head[start + 4 : start + 8], "big") + at) & 0xFFFFFFFF
            head = head[: start + 4] + struct.pack(">I", sequence) + head[start + 8 :]
            head = head[: start + 13] + bytes((flags,)) + head[start + 14 :]
        else:
            head = patched(head, start + 4, 8 + len(piece))
        yield with_ip_checksum(with_checksum(head + piece))
