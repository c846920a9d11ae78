"""One udp network's kernel state and tunnel, without a worker around them, in the namespace of `place.furnish`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping

from flannel_multi.model.config import parse_config
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.protocol import Backend
from flannel_worker.backends.uplink import choose_uplink
from flannel_worker.dataplane import Dataplane
from flannel_worker.keeper import Keeper
from flannel_worker.kernel.reconcile import Reconciler
from flannel_worker.tunnel import Tunnel
from tests.kernel.place import LOCAL, NETWORK, keeper, reconciler, subnet

OWN, PEER = subnet(1), subnet(2)
FAR = parse_ip("192.168.77.2")
LEASES = {
    OWN: LeaseRecord(OWN, LeaseAttrs(LOCAL), 7, 5),
    PEER: LeaseRecord(PEER, LeaseAttrs(FAR, "vxlan", {"VNI": 1}), 8, 6),
}
ROLES = ("tun", "udp", "flight")


def udp(**keys: str) -> Backend:
    """The backend with these keys of its config."""
    backend = "".join(f',"{key}":"{value}"' for key, value in keys.items())
    return backend_for(parse_config(f'{{"Network":"{NETWORK}","Backend":{{"Type":"udp"{backend}}}}}'.encode()))


BACKEND = udp()


def peers(*hosts: str) -> dict[Subnet, LeaseRecord]:
    """The own lease, and those of hosts "2" or "2+bpf": 10.5.2.0/24 at 192.168.77.2, which runs bpf or does not."""
    leases = {OWN: LEASES[OWN]}
    for host in hosts:
        number, _, path = host.partition("+")
        attrs = LeaseAttrs(FAR - 2 + int(number), "", {"DataPath": path} if path else None)
        leases[subnet(int(number))] = LeaseRecord(subnet(int(number)), attrs, 8, 6)
    return leases


class Bench:
    """Network blue."""

    def __init__(self, opened: Reconciler, kept: Keeper, backend: Backend) -> None:
        self.reconciler, self.keeper, self.backend = opened, kept, backend
        self.tunnel = Tunnel(opened, kept, network="blue")
        self.plane = Dataplane(opened, "blue", self.tunnel)

    async def step(
        self, leases: Mapping[Subnet, LeaseRecord] = LEASES, *, whole: bool = True, remembered: bool = False
    ) -> str:
        """What a converge step does; the device's name."""
        uplink = choose_uplink(await self.reconciler.host())
        place = await self.plane.device(self.backend, uplink, b"")
        outcome = await self.plane.apply(
            self.backend, NETWORK, OWN, leases, leases.keys(), whole=whole, add_only=remembered
        )
        assert outcome.refused == ()
        assert place.link is not None
        return place.link.name

    def published(self) -> object:
        """BackendData of the own lease."""
        assert self.plane.place is not None
        return self.backend.attrs(self.plane.place).backend_data


def on_bench(
    story: Callable[[Bench], Awaitable[None]], inherited: Mapping[str, int] | None = None, backend: Backend = BACKEND
) -> dict[str, int]:
    """Tells `story`; the descriptors that a supervisor holds then, as duplicates of the caller's. Then the tunnel is
    closed."""

    async def told() -> dict[str, int]:
        async with reconciler() as opened:
            bench = Bench(opened, keeper(inherited), backend)
            try:
                await story(bench)
            finally:
                kept = {role: os.dup(fd) for role in ROLES if (fd := bench.keeper.held(role)) is not None}
                bench.tunnel.close()
            return kept

    return asyncio.run(told())


def end(kept: Mapping[str, int]) -> None:
    """The supervisor ends."""
    for fd in kept.values():
        os.close(fd)
