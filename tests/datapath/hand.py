"""One end served by the path, the other by hand: whole packets go in and out as bytes, on both sides of the path.

host a's kernel -> into_tun -> [the path] -> from_wire
from_tun <- [the path] <- onto_wire
"""

from __future__ import annotations

import socket
from types import TracebackType

from tests.datapath.site import PORT, End, Site, open_udp
from tests.lab.netns import inside
from tests.packets import vnet
from tests.packets.vnet import VNET_BYTES, Vnet

PATIENCE_S = 5.0
SOL_PACKET, PACKET_VNET_HDR, PACKET_OUTGOING = 263, 15, 4  # linux/socket.h, linux/if_packet.h
ETH_P_IP = 0x0800
ICMP, UNREACHABLE = b"\1", b"\3"


class Hand:
    """Host a with the path, host b's socket in our hands."""

    def __init__(self, site: Site, end: End) -> None:
        self._wire = open_udp(site.b)
        self._wire.settimeout(PATIENCE_S)
        self._there = (site.a.address, PORT)
        self._raw = inside(site.a.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
        self._tap = inside(site.a.netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self._tap.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._tap.bind(("flannel0", ETH_P_IP))
        self._tap.settimeout(PATIENCE_S)
        self.end = end

    def into_tun(self, packet: bytes) -> None:
        """Host a sends `packet`, to whatever destination stands in it. The kernel sets its IP checksum."""
        self._raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def from_wire(self) -> bytes:
        """The next datagram that host b got. (But not what host a's kernel says of packets that nobody waited for.)"""
        while True:
            packet = self._wire.recv(65535)
            if packet[9:10] != ICMP or packet[20:21] != UNREACHABLE:
                return packet

    def onto_wire(self, payload: bytes) -> None:
        """Host b sends a datagram."""
        self._wire.sendto(payload, self._there)

    def from_tun(self) -> bytes:
        """The next packet that host a's kernel got from the device."""
        (packet,) = self.packets_from_tun()
        return packet

    def packets_from_tun(self) -> list[bytes]:
        """The same, taken apart as a network card would, when it is a super-packet."""
        while True:
            data, sender = self._tap.recvfrom(65535 + VNET_BYTES)
            if sender[2] != PACKET_OUTGOING:
                return list(vnet.split(Vnet.unpack(data[:VNET_BYTES]), data[VNET_BYTES:]))

    def __enter__(self) -> Hand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._wire, self._raw, self._tap):
            each.close()
