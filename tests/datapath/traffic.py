"""What is sent through the overlay by ordinary sockets, and the question whether it arrived as it left."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Iterable
from contextlib import closing

from tests.lab.netns import inside
from tests.lab.world import Host

PATIENCE_S = 20.0
UDP_SEGMENT = 103  # linux/udp.h
ICMP, ICMP_ECHO, ICMP_ECHO_REPLY = 1, 8, 0
IP_RECVOPTS = 6  # linux/in.h
MIB = 1 << 20


def udp_socket(host: Host, address: str = "") -> socket.socket:
    """Inside `host`, bound to `address` and a free port."""
    made = inside(host.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)  # what is lost must not be lost here
    made.bind((address, 0))
    made.settimeout(PATIENCE_S)
    return made


def wrong_pings(host: Host, address: str, sizes: Iterable[int], *, options: bytes = b"") -> list[int]:
    """Sizes of the ICMP echo requests that were not answered with what they held."""
    wrong = []
    with closing(inside(host.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, ICMP))) as raw:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        raw.settimeout(PATIENCE_S)
        for sequence, size in enumerate(sizes):
            request = echo_request(sequence, os.urandom(size))
            raw.sendto(request, (address, 0))
            answer = b""
            while answer[4:8] != request[4:8] or answer[0] != ICMP_ECHO_REPLY:
                packet = raw.recv(65535)
                answer = packet[(packet[0] & 0x0F) * 4 :]
            if answer[8:] != request[8:]:
                wrong.append(size)
    return wrong


def answered_pings(host: Host, address: str, count: int, *, patience_s: float) -> int:
    """How many of `count` pings, one after the other, were answered within `patience_s` each."""
    answered = 0
    with closing(inside(host.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, ICMP))) as raw:
        raw.settimeout(patience_s)
        for sequence in range(count):
            request = echo_request(sequence, b"ping")
            raw.sendto(request, (address, 0))
            try:
                while raw.recv(65535)[24:28] != request[4:8]:
                    pass
            except TimeoutError:
                continue
            answered += 1
    return answered


def echo_request(sequence: int, data: bytes) -> bytes:
    """RFC 792."""
    request = struct.pack(">BBHHH", ICMP_ECHO, 0, 0, os.getpid() & 0xFFFF, sequence & 0xFFFF) + data
    return request[:2] + (~summed(request) & 0xFFFF).to_bytes(2, "big") + request[4:]


def summed(data: bytes) -> int:
    """The Internet checksum before it is inverted (RFC 1071)."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


def digests_of_a_transfer(sender: Host, receiver: Host, address: str, mebibytes: int) -> tuple[str, str]:
    """SHA-256 of what `sender` gave to a TCP connection to `address`, and of what `receiver` got."""
    listening = inside(receiver.netns, lambda: socket.create_server((address, 0)))
    listening.settimeout(PATIENCE_S)
    source = inside(sender.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    source.settimeout(PATIENCE_S)
    left = hashlib.sha256()

    def send() -> None:
        with closing(source):
            for _ in range(mebibytes):
                block = os.urandom(MIB)
                left.update(block)
                source.sendall(block)

    with closing(listening):
        source.connect(listening.getsockname())
        arriving, _ = listening.accept()
    thread = threading.Thread(target=send)
    thread.start()
    arrived = hashlib.sha256()
    with closing(arriving):
        arriving.settimeout(PATIENCE_S)
        while block := arriving.recv(MIB):
            arrived.update(block)
    thread.join()
    return left.hexdigest(), arrived.hexdigest()


def wrong_echoes(client: Host, server: Host, address: str, sizes: Iterable[int]) -> list[int]:
    """Sizes of the datagrams that did not come back from `address` at `server` as they were sent."""
    wrong = []
    with closing(udp_socket(client)) as asking, closing(udp_socket(server, address)) as answering:
        for size in sizes:
            sent = os.urandom(size)
            asking.sendto(sent, answering.getsockname())
            got, sender = answering.recvfrom(65535)
            answering.sendto(got, sender)
            if got != sent or asking.recv(65535) != sent:
                wrong.append(size)
    return wrong


def segments_received(sender: Host, receiver: Host, address: str, size: int, payload: bytes) -> list[bytes]:
    """The datagrams that `receiver` gets when `sender` gives `payload` to the kernel as one send with UDP_SEGMENT."""
    with closing(udp_socket(sender)) as source, closing(udp_socket(receiver, address)) as sink:
        source.setsockopt(socket.SOL_UDP, UDP_SEGMENT, size)
        source.sendto(payload, sink.getsockname())
        return [sink.recv(65535) for _ in range(0, len(payload), size)]


def options_received(sender: Host, receiver: Host, address: str, options: bytes) -> tuple[bytes, bytes]:
    """Payload and IP options of a datagram that was sent with `options`, as `receiver` gets them."""
    with closing(udp_socket(sender)) as source, closing(udp_socket(receiver, address)) as sink:
        source.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        sink.setsockopt(socket.IPPROTO_IP, IP_RECVOPTS, 1)
        source.sendto(b"with options", sink.getsockname())
        payload, control, _, _ = sink.recvmsg(100, 100)
        return payload, b"".join(value for level, kind, value in control if (level, kind) == (0, IP_RECVOPTS))
