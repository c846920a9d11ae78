"""The life of one network: facts come in, and one converge step after another brings the host to what they ask for.

Two rules hold here. First, there is one path: start, restart, a peer's event, drift and a changed uplink all
end in `converge`, which looks at every fact and sends only what is missing. Second, a network that serves goes on
serving: once a lease is held (or remembered from the last run), whatever fails becomes a fault in the `degraded`
line, and nothing is torn down until the store names another holder.
"""

from __future__ import annotations

import asyncio
import time

from flannel_multi import log
from flannel_multi.model.errors import (
    ConfigError,
    Conflict,
    FlannelError,
    InterfaceMissing,
    KernelRefused,
    NoSubnetLeft,
    NotBuiltYet,
    StoreRefused,
    StoreUnavailable,
)
from flannel_multi.model.messages import BlockerGone, ClaimAnswer, Facts, GiveWay, Phase
from flannel_multi.model.messages import Down as FromParent
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.options import NetworkOptions
from flannel_multi.store.protocol import LeaseStore, Revision
from flannel_worker.backends.clashes import host_clashes
from flannel_worker.backends.protocol import Backend, Place
from flannel_worker.backends.uplink import Uplink, choose_uplink
from flannel_worker.claimant import Claimant, explain, needs
from flannel_worker.dataplane import Dataplane
from flannel_worker.feed import Down, Fed
from flannel_worker.holding import Holding
from flannel_worker.kernel.host import HostView
from flannel_worker.kernel.reconcile import Reconciler
from flannel_worker.mirror import Mirror
from flannel_worker.paper import Paper
from flannel_worker.running import Running
from flannel_worker.standing import Standing, Waiting, held_up, serving


class Life:
    """One network's facts, and the step that follows from them. The loop in `main.py` calls it."""

    def __init__(
        self,
        options: NetworkOptions,
        store: LeaseStore,
        reconciler: Reconciler,
        claimant: Claimant,
        paper: Paper,
        *,
        config_key: str,
        timeout_s: float,
    ) -> None:
        self.mirror = Mirror()
        self.holding = Holding(store, options.name, self.mirror, margin_s=options.renew_margin_s, timeout_s=timeout_s)
        self.serving = False
        self._options = options
        self._reconciler = reconciler
        self._claimant = claimant
        self._paper = paper
        self._dataplane = Dataplane(reconciler, options.name or "_")
        self._running = Running(config_key)
        self._view: HostView | None = None
        self._uplink: Uplink | None = None
        self._mac = b""
        self._store_down = ""
        self._touched: set[Subnet] = set()
        self._whole = True  # compare everything with the kernel at the next step
        self._postponed = False  # the last known state and the kernel differ: the store decides which is right
        self._saved: Subnet | None = None  # the own subnet as the state file has it
        self._warned: set[str] = set()

    # -- facts ---------------------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Takes up the last known state, so that the first step serves it before the store is asked."""
        known = self._paper.known()
        if known is None:
            return
        try:
            self._running.remember(known.config, same_daemon=self._paper.wrote(known))
        except (ConfigError, NotBuiltYet) as error:
            log.warning(f"the last known config is not accepted any more: {error.message}")
            return
        self._mac = known.mac
        self.holding.tenure.remember(known.lease)
        self._saved = known.lease.subnet
        peers = {record.subnet: record for record in (*known.peers, known.lease)}
        self.mirror.remember(peers, Revision(*known.revision))

    def fed(self, news: Fed | Down) -> None:
        """News from the store."""
        if isinstance(news, Down):
            if not self._store_down:
                since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                self._store_down = f"{news.reason} since {since}"
            return
        self._store_down = ""
        self._touched |= news.delta.subnets
        for line in news.delta.lines:
            log.warning(line)

    def heard(self, message: FromParent) -> None:
        """A word of the parent about claims."""
        match message:
            case ClaimAnswer():
                self._claimant.heard(message)
            case GiveWay():
                self._claimant.give_way()
            case BlockerGone():
                self._claimant.ask_again()
            case _:
                pass

    def host_changed(self) -> None:
        """Links, addresses or foreign routes changed: look again."""
        self._view = None

    def drifted(self, text: str) -> None:
        """Something of ours was changed by somebody else."""
        log.info(f"repairing: {text}")
        self._view, self._whole = None, True

    def clocks(self, now_s: float, *, grace_s: float) -> bool:
        """True when time alone has made something due: a renewal, or the end of a restored store's grace."""
        expired = self.mirror.expired(now_s=now_s, grace_s=grace_s)
        self._touched |= expired.subnets
        return bool(expired.subnets) or self.holding.tenure.due()

    # -- the step ------------------------------------------------------------------------------------------------

    async def converge(self) -> Standing:
        """Looks at every fact, does what is missing, says where the network stands."""
        faults: list[str] = []
        remarks: list[str] = []
        try:
            await self._see_others()
            uplink = await self._see_uplink(faults)
            backend = await self._see_config(faults, remarks)
            backend.check(uplink)
            await self._see_claims(backend, uplink, faults)
            await self._join(backend, uplink, faults)
        except Waiting as waiting:
            return Standing(waiting.phase, waiting.message, self.serving)
        except FlannelError as error:
            if not (self._has_lease and self.serving):
                return held_up(error)
            faults.append(error.message)
        if not self.serving:
            return held_up(StoreUnavailable("; ".join(faults)))
        self._paper.save_soon(asyncio.get_running_loop().time())
        return serving(faults, remarks)

    @property
    def _has_lease(self) -> bool:
        return self.holding.tenure.lease is not None

    async def _see_others(self) -> None:
        """Lets go of what an earlier network of the list wants, unless this one is ready."""
        if not self._claimant.yielding:
            return
        if self.serving:
            self._claimant.stays()
            return
        if self._running.config is not None and self._running.backend is not None:
            await self._dataplane.withdraw(self._running.backend, self._running.config.network)
        await self.holding.release()
        self._claimant.drop()

    async def _see_uplink(self, faults: list[str]) -> Uplink:
        if self._view is not None and self._uplink is not None:
            return self._uplink
        self._view = await self._reconciler.host()
        wish = self._options
        try:
            uplink = choose_uplink(
                self._view,
                iface=wish.iface,
                iface_regex=wish.iface_regex,
                iface_can_reach=wish.iface_can_reach,
                public_ip=wish.public_ip,
            )
        except InterfaceMissing as missing:
            if self._uplink is None:
                raise
            faults.append(f"{missing.message}; staying with {self._uplink.name}")
            self._view = None
            return self._uplink
        if uplink != self._uplink:
            log.info(
                f"using interface {uplink.name} ({format_ip(uplink.address)}, MTU {uplink.mtu}), "
                f"public IP {format_ip(uplink.public_ip)}"
            )
            self._uplink, self._whole = uplink, True
        return uplink

    async def _see_config(self, faults: list[str], remarks: list[str]) -> Backend:
        running, raw = self._running, self.mirror.config
        if self.mirror.answered and running.wants(raw, leased=self._has_lease):
            assert raw is not None
            before, backend = running.config, running.backend
            try:
                warnings = running.take(raw)
            except (ConfigError, NotBuiltYet) as error:
                if not self._has_lease:
                    raise
                faults.append(f"{error.message}; the last known config stays")
            else:
                for line in warnings:
                    log.warning(line)
                if before is not None and backend is not None:
                    await self._change_over(before.network, backend)
        if running.config is None or running.backend is None:
            if self._store_down:
                raise Waiting(Phase.WAITING_FOR_CONFIG, self._store_down)
            if not self.mirror.answered:
                raise Waiting(Phase.STARTING, "asking the store")
            raise Waiting(Phase.WAITING_FOR_CONFIG, f"no config at {running.key}")
        if self.mirror.answered and (remark := running.remark(raw)):
            remarks.append(remark)
        return running.backend

    async def _change_over(self, old_network: Subnet, old: Backend) -> None:
        """A start of the daemon found another config than the last run served: what it no longer asks for goes."""
        config, backend = self._running.config, self._running.backend
        assert config is not None
        assert backend is not None
        log.info("the config changed while this network did not run: taking the store's")
        if (old_network, old.kind, old.device_name()) != (config.network, backend.kind, backend.device_name()):
            await self._dataplane.withdraw(old, old_network)
        self.holding.unsettle(config)
        self._whole = True

    async def _see_claims(self, backend: Backend, uplink: Uplink, faults: list[str]) -> None:
        config = self._running.config
        assert config is not None
        own = self.holding.subnet
        view = self._view or await self._reconciler.host()
        ours = frozenset(link.ifindex for link in view.links if link.name == backend.device_name())
        found = host_clashes(config, view, uplink, own_devices=ours, leased=self.mirror.leases, own_subnet=own)
        for line in found.warnings:
            self._warn_once(line)
        if found.blocking and not self._has_lease:
            self._claimant.drop()  # before asking: an answer makes the loop look again, and ask again
            raise Conflict("; ".join(found.blocking))
        self._claimant.ask(needs(config, backend, self._options.env_file), held=self._has_lease)
        if self._has_lease:
            faults.extend(found.blocking)
            if not self._claimant.answered:
                raise Waiting(Phase.STARTING, "asking the supervisor for shared resources")
            if self._claimant.device_taken:
                raise Waiting(Phase.DEGRADED, explain(self._claimant.clashes))
            if self._claimant.clashes:
                faults.append(explain(self._claimant.clashes))
            return
        if self._claimant.clashes:
            raise Conflict(explain(self._claimant.clashes))
        if not self._claimant.granted:
            raise Waiting(Phase.STARTING, "asking the supervisor for shared resources")

    async def _join(self, backend: Backend, uplink: Uplink, faults: list[str]) -> None:
        config = self._running.config
        assert config is not None
        place = await self._dataplane.device(backend, uplink, self._mac)
        self._mac = place.link.mac if place.link is not None else self._mac
        attrs = backend.attrs(place)
        if self.mirror.answered:
            try:
                await self.holding.keep(config, attrs, prefer=self._paper.previous_subnet())
            except (StoreUnavailable, StoreRefused, NoSubnetLeft) as error:
                if not self._has_lease:
                    raise
                faults.append(error.message)
        elif not self._has_lease:
            raise StoreUnavailable(self._store_down or "asking the store")
        if self._store_down:
            faults.append(self._store_down)
        elif not self.mirror.answered:
            faults.append("serving the last known state; the store has not answered yet")
        subnet = self.holding.subnet
        assert subnet is not None
        await self._serve(backend, place, subnet, faults)

    async def _serve(self, backend: Backend, place: Place, subnet: Subnet, faults: list[str]) -> None:
        config = self._running.config
        assert config is not None
        touched, self._touched = self._touched, set()
        whole = self._whole or (self.mirror.answered and self._postponed)
        self._whole = False
        try:
            outcome = await self._dataplane.apply(
                backend, config.network, subnet, self.mirror.leases, touched, whole=whole,
                add_only=not self.mirror.answered,
            )  # fmt: skip
        except KernelRefused:
            self._whole = True
            raise
        self._postponed = outcome.postponed > 0 or (self._postponed and not self.mirror.answered)
        if outcome.refused:
            self._whole = True
            first, more = outcome.refused[0].message, len(outcome.refused) - 1
            faults.append(first + (f" (and {more} more)" if more else ""))
        if subnet != self._saved:
            self.save()  # before the env file: a worker killed in between must not come back to the subnet before
        try:
            self._paper.write_env(config.network, subnet, mtu=backend.mtu(place))
            self.serving = True
        except OSError as error:
            self.serving = False
            faults.append(f"cannot write {self._options.env_file}: {error.strerror}")

    # -- what others ask -----------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        config, backend, lease = self._running.config, self._running.backend, self.holding.tenure.lease
        if config is None or backend is None or lease is None or self._dataplane.place is None:
            return Facts()
        return Facts(
            subnet=str(lease.record.subnet),
            network=str(config.network),
            backend=backend.kind,
            device=backend.device_name(),
            public_ip=format_ip(self._dataplane.place.uplink.public_ip),
            mtu=backend.mtu(self._dataplane.place),
            peers=self._dataplane.peers,
            expires_at=self.holding.tenure.expires_at,
        )

    def save(self) -> None:
        """Writes the last known state now."""
        lease, uplink = self.holding.tenure.lease, self._uplink
        if lease is None or uplink is None:
            return
        self._saved = lease.record.subnet
        self._paper.save(
            config=self._running.raw,
            public_ip=uplink.public_ip,
            mac=self._mac,
            lease=lease.record,
            expires_at=self.holding.tenure.expires_at,
            revision=self.mirror.revision,
            peers=self.mirror.leases.values(),
        )

    def _warn_once(self, line: str) -> None:
        if line not in self._warned:
            self._warned.add(line)
            log.warning(line)
