"""A store in memory, a host that is a value, and one network between them: what the worker's tests stand on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

from flannel_multi.model.allocation import Reuse, choose
from flannel_multi.model.claims import Clash
from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import Compacted, KernelRefused, LeaseLost, NoSubnetLeft, StoreUnavailable
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord
from flannel_multi.model.messages import BlockerGone, ClaimAnswer, ClaimAsked, Up
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.options import NetworkOptions, Options, read_options
from flannel_multi.store.protocol import (
    Change,
    ConfigWritten,
    Known,
    Lease,
    LeaseGone,
    LeaseWritten,
    Revision,
    Snapshot,
)
from flannel_worker.claimant import Claimant
from flannel_worker.feed import Down, Fed
from flannel_worker.keeper import Keeper
from flannel_worker.kernel.host import HostAddress, HostLink, HostRoute, HostView
from flannel_worker.kernel.objects import KernelObject, Key, LinkState, Route, Scope, VxlanLink
from flannel_worker.kernel.reconcile import Outcome, Reconciler
from flannel_worker.kernel.wanted import Wanted
from flannel_worker.life import Life
from flannel_worker.paper import Paper
from flannel_worker.standing import Standing

VXLAN = b'{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
ALLOC = b'{"Network":"10.5.0.0/16","Backend":{"Type":"alloc"}}'
HOST_GW = b'{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}'
KEY = "/coreos.com/network/blue/config"


def subnet(text: str) -> Subnet:
    return Subnet.parse(text)


def peer(cidr: str, ip: str = "192.0.2.2", lease_id: int = 7, revision: int = 5) -> LeaseRecord:
    data = {"VNI": 1, "VtepMAC": f"02:00:00:00:00:{parse_ip(ip) & 255:02x}"}
    return LeaseRecord(Subnet.parse(cidr), LeaseAttrs(parse_ip(ip), "vxlan", data), lease_id, revision)


class MemoryStore:
    """A LeaseStore that keeps everything in one place; `down` is why it gives no answer, "" while it does."""

    def __init__(self) -> None:
        self.cluster, self.revision = "c1", 10
        self.config: bytes | None = None
        self.leases: dict[Subnet, LeaseRecord] = {}
        self.down = ""
        self.restored = False
        self.compacted = False
        self.full = False
        self.calls: list[str] = []
        self.changes: asyncio.Queue[Change | Exception] = asyncio.Queue()

    def configure(self, raw: bytes | None) -> None:
        self.revision += 1
        self.config = raw
        self.changes.put_nowait(ConfigWritten(raw, self.revision))

    def put(self, record: LeaseRecord) -> LeaseRecord:
        self.revision += 1
        written = record._replace(revision=self.revision)
        self.leases[record.subnet] = written
        self.changes.put_nowait(LeaseWritten(written))
        return written

    def delete(self, gone: Subnet) -> None:
        self.revision += 1
        del self.leases[gone]
        self.changes.put_nowait(LeaseGone(gone, self.revision))

    def _answer(self, call: str) -> None:
        self.calls.append(call)
        if self.down:
            raise StoreUnavailable(self.down)

    async def snapshot(self, network: str, *, known: Known | None = None, timeout_s: float = 5.0) -> Snapshot:
        self._answer("snapshot")
        now = Revision(self.cluster, self.revision)
        return Snapshot(now, self.config, dict(self.leases), restored=self.restored)

    async def watch(self, network: str, *, after: Revision) -> AsyncIterator[Change]:
        self._answer("watch")
        if self.compacted:
            self.compacted = False
            raise Compacted("compacted")
        while True:
            change = await self.changes.get()
            if isinstance(change, Exception):
                raise change
            yield change

    async def acquire(
        self,
        network: str,
        config: NetworkConfig,
        attrs: LeaseAttrs,
        *,
        prefer: Subnet | None,
        first: Snapshot | None = None,
        timeout_s: float = 5.0,
    ) -> Lease:
        self._answer("acquire")
        if self.full:
            raise NoSubnetLeft("out of subnets")
        chosen = choose(config, self.leases.values(), public_ip=attrs.public_ip, prefer=prefer, rng=random.Random(1))
        for stale in chosen.stale:
            self.delete(stale.subnet)
        if isinstance(chosen, Reuse):
            record = self.put(chosen.record._replace(attrs=attrs))
        else:
            record = self.put(LeaseRecord(chosen.subnet, attrs, 1000 + self.revision))
        return Lease(record, None if record.permanent else LEASE_TTL_S)

    async def renew(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> Lease:
        self._answer("renew")
        seen = self.leases.get(lease.record.subnet)
        if seen is None or seen.lease_id != lease.record.lease_id:
            raise LeaseLost(f"{lease.record.subnet} is not ours")
        return Lease(seen, LEASE_TTL_S)

    async def publish(self, network: str, lease: Lease, attrs: LeaseAttrs, *, timeout_s: float = 5.0) -> Lease:
        self._answer("publish")
        seen = self.leases.get(lease.record.subnet)
        if seen is None or seen.revision != lease.record.revision:
            raise LeaseLost(f"{lease.record.subnet} is not ours")
        return Lease(self.put(seen._replace(attrs=attrs)), lease.ttl_s)

    async def release(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> None:
        self._answer("release")
        self.delete(lease.record.subnet)

    async def close(self) -> None:
        self.calls.append("close")


ETH0 = HostLink(2, "eth0", 1500, True)
DEFAULT = HostRoute(0, 0, 2, parse_ip("192.0.2.254"), 3, 1, 0)


def view(address: str = "192.0.2.1", *, link: HostLink = ETH0, more: tuple[HostRoute, ...] = ()) -> HostView:
    """A host with one interface, its address of 24 bits and a default route."""
    own = parse_ip(address)
    connected = HostRoute(own & 0xFFFFFF00, 24, link.ifindex, 0, 2, 1, 0, own)
    default = DEFAULT._replace(link=link.ifindex)
    return HostView((link,), (HostAddress(link.ifindex, own, 24),), (default, connected, *more))


NOWHERE = HostView((), (), ())


class PlainHost:
    """A kernel that does what it is asked, and remembers it. `refuses` is what it says no to."""

    def __init__(self) -> None:
        self.view = view()
        self.devices: dict[str, LinkState] = {}
        self.objects: dict[Key, KernelObject] = {}
        self.refuses: tuple[KernelRefused, ...] = ()
        self.no_device: KernelRefused | None = None
        self.refuses_removal: KernelRefused | None = None
        self.meanwhile: Callable[[], None] = lambda: None  # what happens while the kernel is told
        self.calls: list[str] = []
        self.specs: list[VxlanLink] = []

    async def host(self) -> HostView:
        return self.view

    async def link(self, name: str) -> LinkState | None:
        return self.devices.get(name)

    async def ensure_link(self, spec: VxlanLink) -> LinkState:
        self.specs.append(spec)
        if self.no_device is not None:
            raise self.no_device
        there = self.devices.get(spec.name)
        if there is None:
            self.calls.append(f"create {spec.name}")
            there = LinkState(40 + len(self.devices), spec.name, spec.mac, spec.mtu, True, "vxlan", spec.alias)
            self.devices[spec.name] = there
        return there

    async def remove_link(self, name: str) -> None:
        if self.refuses_removal is not None:
            raise self.refuses_removal
        self.calls.append(f"remove {name}")
        self.devices.pop(name, None)

    async def nexthops_supported(self) -> bool:
        return True

    async def ensure(self, wanted: Wanted, scope: Scope, *, add_only: bool = False) -> Outcome:
        self.calls.append("ensure")
        await asyncio.sleep(0)
        want = dict(wanted.objects())
        before, self.objects = self.objects, {**want, **self.objects} if add_only else want
        self.meanwhile()
        return Outcome(len(want.items() - before.items()), self.refuses, int(self.objects != want))

    async def update(self, wanted: Wanted, keys: set[Key]) -> Outcome:
        self.calls.append("update")
        for key in keys:
            if (item := wanted.objects().get(key)) is not None:
                self.objects[key] = item
            else:
                self.objects.pop(key, None)
        return Outcome(len(keys), self.refuses)

    def routes(self) -> set[str]:
        """Destinations that have a route, as text."""
        return {str(Subnet(item.dst, item.length)) for item in self.objects.values() if isinstance(item, Route)}


def options(folder: Path, *words: str) -> NetworkOptions:
    told = read_options(
        ["--networks=blue", f"--run-dir={folder}/run", f"--state-dir={folder}/state", *words], {}, lambda path: None
    )
    assert isinstance(told, Options), told
    return told.networks[0]


def keeper() -> Keeper:
    """One whose supervisor takes whatever it is given."""
    return Keeper(lambda message, fd: None, "blue", {})


class Blue:
    """One network on that host, on that store, and a parent that answers its claims with `clashes`."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.options = options(folder, *words)
        self.store, self.host = MemoryStore(), PlainHost()
        self.clashes: tuple[Clash, ...] = ()
        self.sent: list[Up] = []
        self.env = Path(self.options.env_file)

    def start(self, daemon: str = "d1") -> None:
        """A worker process begins."""
        self.life = Life(
            self.options, self.store, cast(Reconciler, cast(Any, self.host)), Claimant(self.sent.append),
            Paper(self.options, daemon=daemon),
            keeper=keeper(), config_key=KEY, timeout_s=1.0,
        )  # fmt: skip
        self.life.remember()

    def end(self) -> None:
        """It saves what it knows, and is gone."""
        self.life.save()

    async def hear(self) -> Standing:
        """The store is listed once, then the network settles."""
        try:
            found = await self.store.snapshot("blue", known=self.life.mirror.known())
        except StoreUnavailable as error:
            self.life.fed(Down(error.message))
        else:
            self.life.fed(Fed(self.life.mirror.listed(found, now_s=0.0)))
        return await self.settle()

    async def settle(self) -> Standing:
        """Converges until no claim waits for an answer."""
        while True:
            asked = len(self.sent)
            standing = await self.life.converge()
            news = [one for one in self.sent[asked:] if isinstance(one, ClaimAsked)]
            if not news:
                return standing
            self.life.heard(ClaimAnswer(news[-1].serial, self.clashes))

    async def blocker_gone(self) -> Standing:
        self.clashes = ()
        self.life.heard(BlockerGone())
        return await self.settle()

    @property
    def leased(self) -> Subnet:
        """The subnet in the env file."""
        line = next(line for line in self.env.read_text().splitlines() if line.startswith("FLANNEL_SUBNET="))
        return Subnet.parse(line.partition("=")[2])
