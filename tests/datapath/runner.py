"""A process that is nothing but a data path between two descriptors it inherits: what a worker is to its packets.

    runner.py PATH TUN UDP FLIGHT ADDRESS OPTION...   (descriptors by number, -1: none)

Options: plain, verify, threads=N (no more than N threads in all, the process's first included).

PATH is "user", or "bpf" for the kernel's own path with the user path beneath it, as a tunnel puts them together. Lines
in, one line of JSON out for each: `swap SUBNET=UPLINK[+bpf]...`, `counters`, `peers`, `features`, `failed`, and
`ended`, which waits until the path has ended by itself; `threads N`. A table that is not taken is answered with the
system's word for why. It stops with its standard input. runner.c speaks most of this too, for the user path.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import sys
from ipaddress import IPv4Address

from flannel_multi.model.subnet import Subnet
from flannel_worker.backends.protocol import Hop, TunnelSpec
from flannel_worker.datapath.protocol import Peer
from flannel_worker.datapath.user import UserPath
from flannel_worker.kernelpath import KernelPath

PORT = 8285
DEVICE, UPLINK = "flannel0", "u0"


def peer(text: str) -> tuple[Subnet, Hop]:
    subnet, host = text.split("=")
    address, _, more = host.partition("+")
    return Subnet.parse(subnet), Hop(int(IPv4Address(address)), runs_bpf=more == "bpf")


def kernel_path(address: str, *, verify_source: bool) -> KernelPath:
    """`address` is the host's own on the uplink."""
    uplink, device = socket.if_nametoindex(UPLINK), socket.if_nametoindex(DEVICE)
    path = KernelPath("blue")
    path.choose(TunnelSpec(uplink, int(IPv4Address(address)), PORT, True, verify_source, "bpf"), device)
    return path


def limit_threads(most: str) -> None:
    """As a user of our own, who has no other process: root knows no such limit."""
    user = 54321
    if os.getuid() != user:
        os.setresuid(user, user, user)
    resource.setrlimit(resource.RLIMIT_NPROC, (int(most), 100))


def main(kind: str, tun: str, udp: str, flight: str, address: str, *options: str) -> None:
    verify_source = "verify" in options
    for option in options:
        if option.startswith("threads="):
            limit_threads(option.partition("=")[2])
    user = UserPath.start(
        int(tun),
        int(udp),
        port=PORT,
        address=int(IPv4Address(address)),
        offload="plain" not in options,
        verify_source=verify_source,
        flight=int(flight),
    )
    sock = socket.socket(fileno=int(udp))
    kernel = kernel_path(sock.getsockname()[0], verify_source=verify_source) if kind == "bpf" else None

    def swap(*words: str) -> str | None:
        peers = dict(map(peer, words))
        try:
            user.swap(Peer(subnet.base, subnet.length, hop.address) for subnet, hop in peers.items())
        except OSError as error:
            return error.strerror
        if kernel is not None:
            kernel.serve(peers, remembered=False)
            if kernel.fault:
                sys.exit(kernel.fault)
        return None

    asked = {
        "swap": swap,
        "threads": limit_threads,
        "counters": lambda: user.counters() | (kernel.counters() if kernel is not None else {}),
        "peers": user.peer_counters,
        "features": user.features,
        "failed": user.failed,
        "ended": lambda: select.select([user.event_fd()], [], []) and user.failed(),
    }
    for line in sys.stdin:
        word, *rest = line.split()
        print(json.dumps(asked[word](*rest)), flush=True)
    user.close()
    sock.detach()


main(*sys.argv[1:])
