"""What this host does for its own subnet: kernel state and env file, in this order, and how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from flannel_multi.model.errors import KernelRefused
from flannel_multi.model.subnet import Subnet
from flannel_worker.backends.protocol import Place
from flannel_worker.dataplane import Dataplane
from flannel_worker.mirror import Mirror
from flannel_worker.paper import Paper
from flannel_worker.running import InForce


class Service:
    """`subnet` is the one that kernel and env file stand for; None while they stand for none."""

    def __init__(self, dataplane: Dataplane, paper: Paper, mirror: Mirror) -> None:
        self._dataplane = dataplane
        self._paper = paper
        self._mirror = mirror
        self._touched: set[Subnet] = set()  # leases that changed since the kernel was told
        self._doubts = 1  # counted, not flagged: one that comes while the kernel is told is not lost
        self._settled = 0  # doubts up to here are settled: everything was compared with the kernel since
        self._postponed = False  # the last known state and the kernel differ: the store decides which is right
        self.subnet: Subnet | None = None

    def touch(self, leases: Iterable[Subnet]) -> None:
        """These leases came, went or changed."""
        self._touched.update(leases)

    def doubt(self) -> None:
        """Something may not be as we left it: compare everything the next time."""
        self._doubts += 1

    async def perform(
        self, now: InForce, place: Place, subnet: Subnet, bridged: Mapping[Subnet, str], save: Callable[[], None]
    ) -> list[str]:
        """Tells the kernel, then writes the env file; returns what went wrong. Raises KernelRefused.

        `save` is called in between when the state file has another subnet: a worker killed after the env file was
        written must not come back to the subnet before.
        """
        faults = await self._tell_kernel(now, subnet, bridged)
        if subnet != self._paper.saved:
            save()
        try:
            self._paper.write_env(now.config.network, subnet, mtu=now.backend.mtu(place))
            self.subnet = subnet
        except OSError as error:
            faults.append(f"cannot write {self._paper.env_file}: {error.strerror}")
        return faults

    async def stand_down(self, now: InForce) -> None:
        """Another host holds our subnet and we have no other: stop answering for it. The env file stays (§4.4).
        Raises KernelRefused."""
        await self._dataplane.stand_down(now.backend, now.config.network)
        self.subnet = None

    async def withdraw(self, before: InForce) -> None:
        """Takes away device and routes of a config. Raises KernelRefused."""
        await self._dataplane.withdraw(before.backend, before.config.network)
        self._doubts += 1
        self.subnet = None

    async def _tell_kernel(self, now: InForce, subnet: Subnet, bridged: Mapping[Subnet, str]) -> list[str]:
        touched, self._touched = self._touched, set()
        answered = self._mirror.answered
        doubts = self._doubts
        whole = doubts != self._settled or (answered and self._postponed)
        try:
            outcome = await self._dataplane.apply(
                now.backend, now.config.network, subnet, self._mirror.leases, touched,
                whole=whole, add_only=not answered, bridged=bridged,
            )  # fmt: skip
        except KernelRefused:
            self._touched |= touched
            self._doubts += 1
            raise
        self._postponed = outcome.postponed > 0 or (self._postponed and not answered)
        if not outcome.refused:
            self._settled = doubts
            return []
        self._doubts += 1
        more = len(outcome.refused) - 1
        return [outcome.refused[0].message + (f" (and {more} more)" if more else "")]
