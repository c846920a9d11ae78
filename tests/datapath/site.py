"""Two hosts joined by one veth, and what stands at each end: the path under test, or a plain peer.

    a  u0 192.168.77.1, overlay 10.77.1.0          b  u0 192.168.77.2, overlay 10.77.2.0

The test process holds TUN, socket and flight memory as the supervisor does; the path runs in a process of its own.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from flannel_worker.datapath.user import FLIGHT_BYTES
from tests.lab.netns import inside
from tests.lab.world import Host, batch, end_all, names_with, run

PORT = 8285
NETWORK = "10.77.0.0/16"
MTU = 1472  # of the overlay: the veth's 1500 less outer IP and UDP header
TUNSETIFF, IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0001, 0x1000, 0x4000
RECEIVE_BUFFER = 4 << 20
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OFFLOADS = ("tx", "rx", "tso", "gso", "gro", "tx-udp-segmentation")
_serials = itertools.count(1)

RUNNERS: dict[str, Sequence[str]] = {path: (sys.executable, str(HERE / "runner.py"), path) for path in ("user", "bpf")}
"""How the process of a path under test is started, by the path's name: every test of the wire runs with each."""


class Site:
    """Hosts `a` and `b`. `offloads` False: every super-packet and unfinished checksum is undone before the wire."""

    def __init__(self, *, offloads: bool = True) -> None:
        self.stem = f"dpath-{os.getpid()}-{next(_serials)}-"
        self.a, self.b = (Host(n, self.stem + n, f"192.168.77.{i}") for i, n in enumerate("ab", 1))
        try:
            for host in (self.a, self.b):
                run("ip", "netns", "add", host.netns)
            batch(self.a.netns, f"link add u0 type veth peer name u0 netns {self.b.netns}")
            for host in (self.a, self.b):
                batch(host.netns, "link set lo up", f"addr add {host.address}/24 dev u0", "link set u0 up")
                sysctl(host, "net/ipv4/conf/all/rp_filter", "0")
                if not offloads:
                    host.run("ethtool", "-K", "u0", *(word for name in OFFLOADS for word in (name, "off")))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what runs inside, removes the namespaces."""
        for name in names_with(self.stem):
            end_all(name)
            run("ip", "netns", "del", name)


def sysctl(host: Host, key: str, value: str) -> None:
    host.run("tee", f"/proc/sys/{key}", stdin=value)


def open_tun(host: Host, *, vnet: bool = True) -> int:
    """The device flannel0 as the udp backend makes it. The descriptor is the caller's."""
    number = int(host.address.rsplit(".", 1)[1])

    def make() -> int:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        flags = IFF_TUN | IFF_NO_PI | (IFF_VNET_HDR if vnet else 0)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"flannel0", flags))
        return tun

    tun = inside(host.netns, make)
    batch(
        host.netns,
        f"link set flannel0 mtu {MTU} txqueuelen 2000 up",
        f"addr add 10.77.{number}.0/32 dev flannel0",
        f"route add {NETWORK} dev flannel0",
    )
    sysctl(host, "net/ipv4/conf/flannel0/accept_local", "1")
    return tun


def open_udp(host: Host) -> socket.socket:
    """The socket as the udp backend makes it."""
    udp = inside(host.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    udp.bind((host.address, PORT))
    return udp


def pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Its standard input and output, which were asked for."""
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


class End:
    """A host's end of the overlay, served by the path `runner`. `peers`: {subnet: uplink address}, with "+bpf" behind
    the address of a peer whose lease says that its kernel takes part."""

    def __init__(
        self, host: Host, peers: dict[str, str], *, runner: Sequence[str] = RUNNERS["user"], vnet: bool = True
    ) -> None:
        self.host = host
        self.peers = peers
        self.overlay = host.address.replace("192.168.77.", "10.77.") + ".0"
        self.tun = open_tun(host, vnet=vnet)
        self.udp = open_udp(host)
        self.flight = os.memfd_create("flight")
        os.truncate(self.flight, FLIGHT_BYTES)
        self.runner = runner
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, environ: dict[str, str] | None = None) -> End:
        """Starts the process and gives it its peers; packets flow when this returns."""
        kept = (self.tun, self.udp.fileno(), self.flight)
        self.process = self.host.spawn(
            *self.runner,
            *map(str, kept),
            self.overlay,
            *options,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=kept,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'workers'}", **(environ or {})},
        )
        self.swap(self.peers)
        return self

    def dies(self, *options: str, environ: dict[str, str]) -> int:
        """The exit status of a process that is started to die by itself."""
        try:
            self.start(*options, environ=environ)
        except AssertionError:
            pass  # gone before it could say that it has its peers
        assert self.process is not None
        self.process.wait(20)
        return self._reap()

    def idle(self) -> None:
        """Waits until the path's thread sleeps: it does so only where it waits for packets."""
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        (stat,) = (task / "stat" for task in tasks if (task / "comm").read_text() == "datapath\n")
        while stat.read_text().rsplit(")", 1)[1].split()[0] != "S":
            pass

    def ask(self, line: str) -> Any:
        """The answer of the process. Raises AssertionError when it has died."""
        assert self.process is not None
        ask, answers = pipes(self.process)
        try:
            ask.write(f"{line}\n".encode())
            ask.flush()
            answer = answers.readline()
        except BrokenPipeError:
            answer = b""
        assert answer, f"the path at {self.host.name} is gone: {self.process.wait(5)}"
        return json.loads(answer)

    def swap(self, peers: dict[str, str]) -> None:
        self.ask(" ".join(("swap", *(f"{subnet}={uplink}" for subnet, uplink in peers.items()))))

    def counters(self) -> dict[str, int]:
        answer: dict[str, int] = self.ask("counters")
        return answer

    def kill(self) -> None:
        """SIGKILL; the descriptors stay with us."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        ask, answers = pipes(self.process)
        answers.close()
        try:
            ask.close()
        except BrokenPipeError:
            pass
        status = self.process.wait(10)
        self.process = None
        return status

    def stop(self) -> int:
        """The process's exit status, after it was asked to end."""
        return self._reap()

    def close(self) -> None:
        if self.process is not None:
            self.kill()
        os.close(self.tun)
        os.close(self.flight)
        self.udp.close()

    def __enter__(self) -> End:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PlainPeer:
    """A host's end of the overlay, served by plain_peer.py."""

    def __init__(self, host: Host, peers: dict[str, str]) -> None:
        self.host = host
        self.overlay = host.address.replace("192.168.77.", "10.77.") + ".0"
        table = [f"{subnet}={uplink}" for subnet, uplink in peers.items()]
        self._process = host.spawn(
            sys.executable,
            str(HERE / "plain_peer.py"),
            self.overlay,
            host.address,
            NETWORK,
            *table,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._pipes = pipes(self._process)
        assert self._pipes[1].readline() == b"ready\n"

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        assert self._process.wait(5) == 0

    def __enter__(self) -> PlainPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
