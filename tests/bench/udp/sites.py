"""Where `make bench-udp` measures: for each path two hosts of their own, joined by one veth.

    store              etcd, on the world's bridge; flanneld's only way to it
    h1 u0 === u0 h2    198.18.0.1 and .2, MTU 1500: the link that is measured, one for each path
    c1 - h1   h2 - c2  containers behind a bridge, when asked for

A path has its hosts to itself because what it does to its link (XDP, filters) must not touch the others. All stand
side by side for the whole run: the idle ones cost nothing, and turns can be short.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from flannel_worker.udpsocket import RECEIVE_BYTES
from tests.bench.udp.programs import running
from tests.lab.etcd import Etcd
from tests.lab.flanneld import Flanneld
from tests.lab.overlay import vxlan
from tests.lab.storehosts import PREFIX
from tests.lab.world import Host, LabError, World, batch, run

STEM = "flbudp"
LINK, PORT = "u0", "8285"
ADDRESSES = ("198.18.0.1", "198.18.0.2")  # the range for benchmarks (RFC 2544)
RAW_MTU, PLAIN_MTU = 1500, 1472
READY_S = 20.0

# What NIC-like hardware does not do: build frames out of larger packets. Checksums it does fill in.
_NIC_LACKS = re.compile(r"tx-\S+-segmentation|tx-gso-list|tx-gso-partial")


@dataclass(frozen=True)
class Kind:
    """One kind of underlay, and whether containers or the hosts themselves speak over it. `without`: paths that are not
    measured on it (with XDP a veth passes no super-packet)."""

    name: str
    title: str
    nic: bool
    containers: bool = False
    without: tuple[str, ...] = ()


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "ideal", "Ideal link: a veth with all offloads, super-packets cross it whole", nic=False, without=("xdp",)
        ),
        Kind("nic", "NIC-like link: no TSO, USO or tunnel segmentation, GRO on; frames cross at MTU size", nic=True),
        Kind("containers", "Container to container, over the NIC-like link", nic=True, containers=True),
    )
}

BACKENDS: Mapping[str, Mapping[str, Any]] = {
    "vxlan": vxlan("10.71.0.0/16", 71),
    "user": {"Network": "10.72.0.0/16", "Backend": {"Type": "udp"}},
    "bpf": {"Network": "10.73.0.0/16", "Backend": {"Type": "udp", "DataPath": "bpf"}},
    "xdp": {"Network": "10.74.0.0/16", "Backend": {"Type": "udp", "DataPath": "bpf", "XDP": True}},
}
PATHS = ("raw", "vxlan", "plain", "user", "bpf", "xdp")
BUFFERED = "buffered"  # the plain loop with flanneld's socket buffer; measured when asked for


@dataclass(frozen=True)
class End:
    """One end of an overlay: the host, its first address in the overlay and its subnet's gateway address."""

    host: Host
    address: str
    gateway: ipaddress.IPv4Interface
    mtu: int


@dataclass(frozen=True)
class Site:
    """A path that is up: `client` speaks to `server` at `target`, over the link between `near` and `far`."""

    path: str
    near: Host
    far: Host
    client: Host
    server: Host
    target: str


class Sites:
    """All paths over one kind of link. A context manager: leaving it ends and removes everything."""

    def __init__(self, kind: Kind, paths: Sequence[str], plain: Path, folder: Path) -> None:
        self.kind, self.sites = kind, list[Site]()
        self._plain, self._folder = plain, folder / kind.name
        self._folder.mkdir()
        with ExitStack() as stack:
            self.world = stack.enter_context(World(STEM, hosts=2 * len(paths), extra=("store",)))
            if BACKENDS.keys() & set(paths):
                store = self.world["store"]
                self._etcd = stack.enter_context(Etcd(host=store.address, netns=store.netns, folder=self._folder))
            self._daemons = {path: self._launch(path, self._pair(paths, path), stack) for path in paths}
            for path in paths:
                self.sites.append(self._site(path, self._pair(paths, path), stack))
            self._stack = stack.pop_all()

    def __enter__(self) -> Sites:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _pair(self, paths: Sequence[str], path: str) -> tuple[Host, Host]:
        number = 2 * paths.index(path)
        return self.world.hosts[number], self.world.hosts[number + 1]

    def _launch(self, path: str, pair: tuple[Host, Host], stack: ExitStack) -> list[Flanneld]:
        """Joins the two hosts, and starts their daemons if the path has some; they come up all at once."""
        join(*pair, nic=self.kind.nic)
        if path not in BACKENDS:
            return []
        self._etcd.put(f"{PREFIX}/{path}/config", json.dumps(BACKENDS[path]))
        daemons = []
        for host in pair:
            flags, store = [f"--iface={LINK}"], [f"--etcd-endpoints={self._etcd.url}"]
            daemon = Flanneld(host, self._folder, networks=[path], store=store, flags=flags)
            stack.callback(daemon.close)
            daemons.append(daemon.start())
        return daemons

    def _site(self, path: str, pair: tuple[Host, Host], stack: ExitStack) -> Site:
        daemons = self._daemons[path]
        if daemons:
            near, far = (managed(daemon, path) for daemon in daemons)
        else:
            near, far = (self._end(path, host, number, stack) for number, host in enumerate(pair))
        client, server, target = near.host, far.host, far.address
        if self.kind.containers:
            client, server = (container(self.world, end) for end in (near, far))
            target = server.address
        client.run("ping", "-n", "-q", "-c1", "-i0.05", f"-w{READY_S:.0f}", target)
        return Site(path, *pair, client, server, target)

    def _end(self, path: str, host: Host, number: int, stack: ExitStack) -> End:
        """No daemon: the link itself, or the C loop, whose only peer is the other host."""
        if path == "raw":
            return raw(host, number)
        local, peer = ADDRESSES[number], ADDRESSES[1 - number]
        buffer = (str(RECEIVE_BYTES),) if path == BUFFERED else ()
        stack.enter_context(running(host, str(self._plain), "plain0", local, peer, PORT, *buffer, until="ready"))
        return behind_tun(host, number)


def join(near: Host, far: Host, *, nic: bool) -> None:
    """One veth between two hosts, of one kind of link."""
    batch(near.netns, f"link add {LINK} mtu {RAW_MTU} type veth peer name {LINK} mtu {RAW_MTU} netns {far.netns}")
    for host, address in zip((near, far), ADDRESSES, strict=True):
        batch(host.netns, f"addr add {address}/24 dev {LINK}", f"link set {LINK} up")
    if nic:
        for host in (near, far):
            make_nic_like(host)


def make_nic_like(host: Host) -> None:
    """Takes from the link what a plain NIC lacks and gives it NAPI with GRO, which a veth has only if asked for (and
    only while the other end has no TSO at all). Raises LabError when the kernel keeps a feature."""
    off = sorted(name for name, on in features(host).items() if on and _NIC_LACKS.fullmatch(name))
    host.run("ethtool", "-K", LINK, "gro", "on", *(word for name in off for word in (name, "off")))
    after = features(host)
    if kept := [name for name in off if after[name]]:
        raise LabError(f"{host.name}: ethtool cannot switch off {', '.join(kept)}")
    if not after["generic-receive-offload"]:
        raise LabError(f"{host.name}: ethtool cannot switch on GRO")


def features(host: Host) -> dict[str, bool]:
    """The link's offloads by name, and whether they are on."""
    lines = (line.split() for line in host.run("ethtool", "-k", LINK).splitlines()[1:])
    return {words[0].rstrip(":"): words[1] == "on" for words in lines}


def raw(host: Host, number: int) -> End:
    """No overlay: the link itself, and a route to the containers behind the other end."""
    batch(host.netns, f"route add 10.70.{2 - number}.0/24 via {ADDRESSES[1 - number]}")
    return End(host, ADDRESSES[number], ipaddress.IPv4Interface(f"10.70.{1 + number}.1/24"), RAW_MTU)


def behind_tun(host: Host, number: int) -> End:
    """Address and route for the plain loop's TUN, as flanneld gives them to its own."""
    gateway = ipaddress.IPv4Interface(f"10.74.{1 + number}.1/24")
    address = str(gateway.network.network_address)
    batch(
        host.netns,
        f"link set plain0 mtu {PLAIN_MTU} up",
        f"addr add {address}/32 dev plain0",
        "route add 10.74.0.0/16 dev plain0",
    )
    return End(host, address, gateway, PLAIN_MTU)


def managed(daemon: Flanneld, network: str) -> End:
    """What flanneld made of a host, once it is ready."""
    daemon.wait_ready(network, timeout_s=READY_S)
    env = daemon.env(network)
    gateway = ipaddress.IPv4Interface(env["FLANNEL_SUBNET"])
    return End(daemon.host, str(gateway.network.network_address), gateway, int(env["FLANNEL_MTU"]))


def container(world: World, end: End) -> Host:
    """A container behind a bridge on a host, with the overlay's MTU, as Docker would make it."""
    name = end.host.name.replace("h", "c")
    netns, address = world.stem + name, str(end.gateway.ip + 1)
    run("ip", "netns", "add", netns)
    batch(
        end.host.netns,
        f"link add ct0 mtu {end.mtu} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        f"link add {name} mtu {end.mtu} type veth peer name eth0 mtu {end.mtu} netns {netns}",
        f"link set {name} master ct0 up",
        f"addr add {end.gateway} dev ct0",
        "link set ct0 up",
    )
    batch(
        netns,
        "link set lo up",
        f"addr add {address}/{end.gateway.network.prefixlen} dev eth0",
        "link set eth0 up",
        f"route add default via {end.gateway.ip}",
    )
    return Host(name, netns, address)
