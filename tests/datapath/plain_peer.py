"""Plain flannel udp, as short as it can be: the other end of every test of the wire format.

    plain_peer.py TUN_ADDRESS UPLINK_ADDRESS NETWORK SUBNET=UPLINK_ADDRESS...

One packet is one datagram; one read or recvfrom, one sendto or write. No offload, no batch, no table but a list. It
says "ready" when packets flow, and ends with its standard input.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network

PORT = 8285
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def open_tun(address: str, network: str) -> int:
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"flannel0", IFF_TUN | IFF_NO_PI))
    for command in ("link set flannel0 mtu 1472 up", f"addr add {address}/32 dev flannel0"):
        subprocess.run(["ip", *command.split()], check=True)
    subprocess.run(["ip", "route", "add", network, "dev", "flannel0"], check=True)
    return tun


def aged(packet: bytes) -> bytes | None:
    """The packet with one TTL less and its checksum mended (RFC 1624); None when it must be dropped."""
    if len(packet) < 20 or packet[8] <= 1:
        return None
    check = int.from_bytes(packet[10:12], "big") + 0x0100
    check = (check & 0xFFFF) + (check >> 16)
    return packet[:8] + bytes((packet[8] - 1, packet[9])) + check.to_bytes(2, "big") + packet[12:]


def main(address: str, uplink: str, network: str, *peers: str) -> None:
    table = [(IPv4Network(subnet), host) for subnet, host in (peer.split("=") for peer in peers)]
    tun = open_tun(address, network)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((uplink, PORT))
    poll = select.poll()
    for fd in (tun, udp.fileno(), sys.stdin.fileno()):
        poll.register(fd, select.POLLIN)
    print("ready", flush=True)
    while (readable := {fd for fd, _ in poll.poll()}).isdisjoint({sys.stdin.fileno()}):
        if tun in readable and (packet := aged(os.read(tun, 65535))):
            to = next((host for subnet, host in table if IPv4Address(packet[16:20]) in subnet), None)
            if to is not None:
                udp.sendto(packet, (to, PORT))
        if udp.fileno() in readable and (packet := aged(udp.recvfrom(65535)[0])):
            os.write(tun, packet)


main(*sys.argv[1:])
