"""Two hosts joined by one cable, each with a TUN, the user path beneath, and the kernel programs where asked for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from flannel_multi.model.subnet import parse_ip
from flannel_worker.datapath.bpf import BpfPath
from flannel_worker.datapath.bpfplace import BpfSpec, Receiving
from flannel_worker.datapath.protocol import Peer
from flannel_worker.datapath.user import UserPath
from flannel_worker.kernel import tun
from tests.kernel.place import run
from tests.lab.netns import inside

T = TypeVar("T")
PORT = 8285
MTU = 1472
UDP_SEGMENT, SOL_UDP = 103, 17
# What a network card without these does to a packet: it crosses the wire in frames of the MTU.
NIC_LIKE = (
    "tso off gso off tx-udp-segmentation off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off "
    "tx-gre-segmentation off tx-gre-csum-segmentation off tx-ipxip4-segmentation off tx-ipxip6-segmentation off gro on"
)
CABLES = {"ideal": "", "nic": NIC_LIKE, "xdp": NIC_LIKE, "nothing": "tx off tso off gso off"}  # xdp: asked for, too


@dataclass
class Network:
    """One network on one host: its TUN, socket and paths."""

    host: Host
    name: str
    port: int
    device: str
    inner: str  # the host's own address in it: the base of its subnet
    tun_fd: int
    udp: socket.socket
    user: UserPath | None = None
    bpf: BpfPath | None = None
    asked: dict[str, object] = field(default_factory=dict)  # of the spec, at the last start

    def index(self) -> int:
        return self.host.within(lambda: socket.if_nametoindex(self.device))

    def spec(self, **other: object) -> BpfSpec:
        uplink = self.host.within(lambda: socket.if_nametoindex("eth0"))
        spec = BpfSpec(self.name, self.index(), uplink, parse_ip(self.host.address), self.port)
        self.asked = {"receiving": self.host.receiving} | self.asked | other
        return spec._replace(**self.asked)  # type: ignore[arg-type]

    def start_user(self, *peers: Peer) -> None:
        def go() -> UserPath:
            options = {"port": self.port, "address": parse_ip(self.inner), "offload": True, "verify_source": False}
            return UserPath.start(self.tun_fd, self.udp.fileno(), **options)  # type: ignore[arg-type]

        self.user = self.host.within(go)
        self.user.swap(peers)

    def start_bpf(self, *peers: Peer, fast: bool = True, **other: object) -> BpfPath:
        """`fast`: the peers run the programs too."""
        quick = {peer.address for peer in peers} if fast else set()
        self.bpf = self.host.within(lambda: BpfPath.start(self.spec(**other), peers, quick))
        return self.bpf

    def kill(self) -> None:
        """What is left is what a killed process leaves."""
        if self.user:
            self.user.close()
        if self.bpf:
            self.bpf.close()
        self.user = self.bpf = None
        os.close(self.tun_fd)
        self.tun_fd = -1
        self.udp.close()

    def counted(self) -> dict[str, int]:
        """Of both paths, what is not 0."""
        rows = (self.user.counters() if self.user else {}) | (self.bpf.counters() if self.bpf else {})
        return {name: count for name, count in rows.items() if count}

    def user_packets(self) -> int:
        """How many went through user space, but for what IPv6 says on any new device."""
        counted = self.counted()
        return counted.get("out_sent", 0) + counted.get("in_delivered", 0)

    def close(self) -> None:
        if self.user:
            self.user.close()
        if self.bpf:
            self.host.within(self.bpf.remove)
        if self.tun_fd >= 0:
            os.close(self.tun_fd)
        self.udp.close()


@dataclass
class Host:
    """A network namespace with an uplink eth0."""

    netns: str
    address: str
    receiving: Receiving = "auto"
    networks: list[Network] = field(default_factory=list)

    def within(self, call: Callable[[], T]) -> T:
        return inside(self.netns, call)

    def pins(self) -> Path:
        """Where its networks pin their maps."""
        return Path("/sys/fs/bpf/flannel", str(self.within(lambda: Path("/proc/thread-self/ns/net").stat().st_ino)))

    def run(self, command: str) -> str:
        return self.within(lambda: run(command))

    def join(self, name: str, inner: str, *, port: int = PORT) -> Network:
        """A TUN with `inner` and a route to its /16, and the network's socket."""
        fd, udp = self.within(lambda: tun.create("")), self.within(lambda: _bound(self.address, port))
        tun.persist(fd)
        device = tun.attached(fd)
        assert device is not None
        network = Network(self, name, port, device.name, inner, fd, udp)
        self.networks.append(network)
        self.run(f"ip address add {inner}/32 dev {device.name}")
        self.run(f"sysctl -qw net.ipv4.conf.{device.name}.accept_local=1")
        self.run(f"ip link set {device.name} mtu {MTU} up")
        self.run(f"ip route add {'.'.join(inner.split('.')[:2])}.0.0/16 dev {device.name}")
        return network


def _bound(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    return sock


@contextlib.contextmanager
def two_hosts(cable: str) -> Iterator[tuple[Host, Host]]:
    """192.0.2.1 and 192.0.2.2; `cable` is one of CABLES."""
    one, two = (
        Host(f"flb{os.getpid()}-{number}", f"192.0.2.{number}", "xdp" if cable == "xdp" else "auto")
        for number in (1, 2)
    )
    with contextlib.ExitStack() as stack:
        for host in (one, two):
            run(f"ip netns add {host.netns}")
            stack.callback(run, f"ip netns del {host.netns}")
            stack.callback(shutil.rmtree, host.pins(), ignore_errors=True)
        run(f"ip -n {one.netns} link add eth0 type veth peer name eth0 netns {two.netns}")
        for host in (one, two):
            host.run("ip link set lo up")
            host.run(f"ip address add {host.address}/24 dev eth0")
            host.run("ip link set eth0 up")
            if CABLES[cable]:
                host.run(f"ethtool -K eth0 {CABLES[cable]}")
            stack.callback(lambda host=host: [network.close() for network in host.networks])
        yield one, two


def peer(network: Network) -> Peer:
    """The row that others have for it."""
    return Peer(parse_ip(network.inner), 24, parse_ip(network.host.address))


@contextlib.contextmanager
def joined(cable: str, **other: object) -> Iterator[tuple[Network, Network]]:
    """Network blue, 10.9.0.0/16, on two hosts that both run the programs, with the user path beneath."""
    with two_hosts(cable) as (one, two):
        left, right = one.join("blue", "10.9.1.0"), two.join("blue", "10.9.2.0")
        for near, far in ((left, right), (right, left)):
            near.start_user(peer(far))
            near.start_bpf(peer(far), **other)  # type: ignore[arg-type]
        yield left, right


def udp(host: Host, address: str, port: int = 0) -> socket.socket:
    """A UDP socket of that host, which waits a second at most."""
    sock = host.within(lambda: _bound(address, port))
    sock.settimeout(1.0)
    return sock


class Stream:
    """Echo requests by UDP, `rate` a second, from one host's overlay address to another's, answered there."""

    def __init__(self, near: Network, far: Network, rate: int = 2000) -> None:
        self._near, self._far, self._rate = udp(near.host, near.inner), udp(far.host, far.inner), rate
        self._over = threading.Event()
        self._sent, self._back = 0, 0
        self._threads = [threading.Thread(target=call) for call in (self._send, self._answer, self._count)]

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._near.close()
        self._far.close()

    def lost(self) -> int:
        """Once the stream is over."""
        return self._sent - self._back

    @property
    def sent(self) -> int:
        return self._sent

    def reach(self, more: int) -> None:
        """Returns when so many more requests were sent."""
        until = self._sent + more
        while self._sent < until:
            self._over.wait(1 / self._rate)

    def _send(self) -> None:
        while not self._over.wait(1 / self._rate):
            self._near.sendto(self._sent.to_bytes(8, "big"), self._far.getsockname())
            self._sent += 1

    def _answer(self) -> None:
        with contextlib.suppress(TimeoutError):  # the last was a second ago
            while True:
                self._far.sendto(*self._far.recvfrom(100))

    def _count(self) -> None:
        with contextlib.suppress(TimeoutError):
            while self._near.recv(100):
                self._back += 1


def transfer(source: Host, target: Host, address: str, size: int) -> bool:
    """Sends `size` random bytes by TCP to `address` on host `target`; whether they arrived as they were."""
    data = os.urandom(size)
    server = target.within(lambda: socket.create_server((address, 0)))
    digests: list[bytes] = []

    def receive() -> None:
        with server, contextlib.suppress(TimeoutError):
            server.settimeout(10.0)
            stream, _ = server.accept()
            digest = hashlib.sha256()
            with stream:
                stream.settimeout(10.0)
                while piece := stream.recv(1 << 20):
                    digest.update(piece)
            digests.append(digest.digest())

    reader = threading.Thread(target=receive)
    reader.start()
    try:
        there = server.getsockname()
        with source.within(lambda: socket.create_connection(there, timeout=10.0)) as stream:
            stream.sendall(data)
    finally:
        reader.join()
    return digests == [hashlib.sha256(data).digest()]


def echoes(near: socket.socket, far: socket.socket, payload: bytes) -> bool:
    """Whether `payload` arrives as it is, there and back. Both sockets are bound."""
    near.sendto(payload, far.getsockname())
    there, sender = far.recvfrom(65536)
    far.sendto(there, sender)
    back, _ = near.recvfrom(65536)
    return payload == there == back
