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
    NoSubnetLeft,
    NotBuiltYet,
    StoreRefused,
    StoreUnavailable,
)
from flannel_multi.model.messages import BlockerGone, ClaimAnswer, Facts, GiveWay, Phase
from flannel_multi.model.messages import Down as FromParent
from flannel_multi.model.subnet import format_ip
from flannel_multi.options import NetworkOptions
from flannel_multi.store.protocol import LeaseStore, Revision
from flannel_worker.backends.clashes import host_clashes
from flannel_worker.backends.protocol import Place
from flannel_worker.backends.uplink import Uplink
from flannel_worker.claimant import Claimant, needs
from flannel_worker.dataplane import Dataplane
from flannel_worker.feed import Down, Fed
from flannel_worker.holding import Holding
from flannel_worker.keeper import Keeper
from flannel_worker.kernel.reconcile import Reconciler
from flannel_worker.mirror import Mirror
from flannel_worker.paper import Paper
from flannel_worker.running import InForce, Running
from flannel_worker.service import Service
from flannel_worker.standing import Standing, Waiting, arrived, held_up
from flannel_worker.surroundings import Surroundings
from flannel_worker.tunnel import Tunnel


class Life:
    """One network's facts, and the step that follows from them. `turning.py` calls it."""

    def __init__(
        self,
        options: NetworkOptions,
        store: LeaseStore,
        reconciler: Reconciler,
        claimant: Claimant,
        paper: Paper,
        *,
        keeper: Keeper,
        config_key: str,
        timeout_s: float,
    ) -> None:
        self.mirror = Mirror()
        self.holding = Holding(store, options.name, self.mirror, margin_s=options.renew_margin_s, timeout_s=timeout_s)
        self._claimant = claimant
        self._paper = paper
        self._surroundings = Surroundings(reconciler, options)
        name = options.name or "_"
        tunnel = Tunnel(reconciler, keeper, network=name)
        self._dataplane = Dataplane(reconciler, name, tunnel, self._surroundings.changed)
        self._running = Running(config_key)
        self._mac = b""
        self._store_down = ""
        self._service = Service(self._dataplane, paper, self.mirror)
        self._warned: set[str] = set()

    @property
    def serving(self) -> bool:
        """True while lease, kernel state and env file stand for one and the same subnet."""
        served = self._service.subnet
        return served is not None and self.holding.holds and served == self.holding.subnet

    # -- facts ---------------------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Takes up the last known state, so that the first step serves it before the store is asked."""
        known = self._paper.known()
        if known is None:
            return
        try:
            self._running.remember(known.config, confirmed=self._paper.confirmed(known))
        except (ConfigError, NotBuiltYet) as error:
            log.warning(f"the last known config is not accepted any more: {error.message}")
            return
        self._mac = known.mac
        if not known.lost:
            self.holding.tenure.remember(known.lease, expires_at=known.expires_at)
        peers = {record.subnet: record for record in (*known.peers, *(() if known.lost else (known.lease,)))}
        self.mirror.remember(peers, Revision(*known.revision))

    def fed(self, news: Fed | Down) -> None:
        """News from the store."""
        if isinstance(news, Down):
            if not self._store_down:
                since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                self._store_down = f"{news.reason} since {since}"
            return
        self._store_down = ""
        self._service.touch(news.delta.subnets)
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
        self._surroundings.changed()

    def drifted(self, text: str) -> None:
        """Something of ours was changed by somebody else."""
        log.info(f"looking again: {text}")
        self._surroundings.changed()
        self._service.doubt()

    def clocks(self, now_s: float, *, grace_s: float) -> bool:
        """True when a look is due without an event: a renewal (whose clock runs while the host sleeps), the end of a
        restored store's grace (on the clock of `now_s`), an env file that somebody removed."""
        self._dataplane.look()
        expired = self.mirror.expired(now_s=now_s, grace_s=grace_s)
        self._service.touch(expired.subnets)
        return bool(expired.subnets) or self.holding.tenure.due() or self._paper.env_is_gone()

    # -- the step ------------------------------------------------------------------------------------------------

    async def converge(self) -> Standing:
        """Looks at every fact, does what is missing, says where the network stands."""
        faults: list[str] = []
        remarks: list[str] = []
        try:
            await self._give_way()
            uplink = await self._look_around(faults)
            now = await self._choose_config(faults, remarks)
            uplink = await self._look_around(faults)  # again if a device went with the config before
            now.backend.check(uplink)
            faults += self._clear(now, uplink)
            place = await self._make_device(now, uplink)
            await self._keep_lease(now, place, faults)
            faults += await self._serve(now, place)
            faults += self._dataplane.faults
        except Waiting as waiting:
            return held_up(waiting, serving=self.serving)
        except FlannelError as error:
            if not self.serving:
                return held_up(error, held=self.holding.holds)
            faults.append(error.message)
        if self.serving:
            self._paper.save_soon(asyncio.get_running_loop().time())
        return arrived(faults, remarks, serving=self.serving)

    async def _give_way(self) -> None:
        """Lets go of what an earlier network of the list wants, unless this one is ready."""
        if not self._claimant.yielding:
            return
        if self.serving:
            self._claimant.stays()
            return
        if (now := self._running.now) is not None:
            await self._service.withdraw(now)
        await self.holding.release()
        self._paper.forget()
        self._claimant.drop()

    async def _look_around(self, faults: list[str]) -> Uplink:
        before = self._surroundings.uplink
        uplink = await self._surroundings.look(faults)
        if uplink != before:
            self._service.doubt()
        return uplink

    async def _choose_config(self, faults: list[str], remarks: list[str]) -> InForce:
        running, raw = self._running, self.mirror.config
        if self.mirror.answered and running.shown(raw) and raw is not None:
            try:
                for line in running.take(raw):
                    log.warning(line)
            except ConfigError as error:
                if not running.served:
                    raise
                faults.append(f"{error.message}; the last known config stays")
        if running.now is None:
            if self._store_down:
                raise Waiting(Phase.WAITING_FOR_CONFIG, self._store_down)
            if not self.mirror.answered:
                raise Waiting(Phase.STARTING, "asking the store")
            raise Waiting(Phase.WAITING_FOR_CONFIG, f"no config at {running.key}")
        await self._leave(running.before, running.now)
        if self.mirror.answered and (remark := running.remark(raw)):
            remarks.append(remark)
        return running.now

    async def _leave(self, before: InForce | None, now: InForce) -> None:
        """Takes away what the config before asked for and the one in force does not. Until it is done, it is tried
        again at every step: a lease of one config on the device of another is worse than none."""
        if before is None:
            return
        log.info("the config changed while this network did not run: taking the store's")
        if before.stands_on != now.stands_on:
            await self._service.withdraw(before)
        self.holding.unsettle(now.config)
        self._running.before = None
        self._service.doubt()

    def _clear(self, now: InForce, uplink: Uplink) -> list[str]:
        place = self._dataplane.place
        found = host_clashes(
            now.config,
            self._surroundings.view,
            uplink,
            device=self._dataplane.wants(now.backend, uplink),
            held=place.link.ifindex if place is not None and place.link is not None else 0,
            leased=self.mirror.leases,
            own_subnet=self.holding.subnet,
            former=self._paper.former_subnet,
        )
        for line in found.warnings:
            if line not in self._warned:
                self._warned.add(line)
                log.warning(line)
        return self._claimant.clear(
            needs(now.config, now.backend, self._paper.env_file), found, held=self.holding.holds
        )  # fmt: skip

    async def _make_device(self, now: InForce, uplink: Uplink) -> Place:
        place = await self._dataplane.device(now.backend, uplink, self._mac)
        self._mac = place.link.mac if place.link is not None else self._mac
        if self.holding.holds and (subnet := self.holding.subnet) is not None:
            await self._dataplane.carry(
                now.backend, subnet, self.mirror.leases,
                remembered=not self.mirror.answered, bridged=self._surroundings.bridged,
            )  # fmt: skip
        return place

    async def _keep_lease(self, now: InForce, place: Place, faults: list[str]) -> None:
        """The own lease in the store, as far as the store answers. A known one is served meanwhile."""
        if not self.mirror.answered:
            if not self.holding.holds:
                raise StoreUnavailable(self._store_down or "asking the store")
            faults.append(self._store_down or "serving the last known state; the store has not answered yet")
            return
        try:
            await self.holding.keep(now.config, now.backend.attrs(place), prefer=self._paper.previous_subnet())
        except (StoreUnavailable, StoreRefused, NoSubnetLeft, Conflict) as error:
            if not self.holding.holds:
                self.save()  # that the lease is lost: a worker that comes back must not serve it
                if self.holding.subnet is not None:
                    await self._service.stand_down(now)
                raise
            faults.append(error.message)
        if self._store_down:
            faults.append(self._store_down)

    async def _serve(self, now: InForce, place: Place) -> list[str]:
        subnet = self.holding.subnet
        assert subnet is not None, "no step leads here without a lease"
        faults = await self._service.perform(now, place, subnet, self._surroundings.bridged, self.save)
        self._running.served = self._running.served or self.serving
        return faults

    # -- what others ask -----------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        """What status shows; empty until there is a lease and a place for it."""
        now, lease, place = self._running.now, self.holding.tenure.lease, self._dataplane.place
        if now is None or lease is None or place is None:
            return Facts()
        return Facts(
            subnet=str(lease.record.subnet),
            network=str(now.config.network),
            backend=now.backend.kind,
            device=place.link.name if place.link is not None else "",
            public_ip=format_ip(place.uplink.public_ip),
            mtu=now.backend.mtu(place),
            peers=self._dataplane.peers,
            expires_at=self.holding.tenure.expires_at,
        )

    def save(self) -> None:
        """Writes the last known state now, if there is a lease to come back to."""
        lease, uplink, now = self.holding.tenure.lease, self._surroundings.uplink, self._running.now
        if lease is None or uplink is None or now is None or self._running.before is not None:
            return
        self._paper.save(
            config=now.raw,
            confirmed=self._running.confirmed,
            lost=not self.holding.holds,
            public_ip=uplink.public_ip,
            mac=self._mac,
            lease=lease.record,
            expires_at=self.holding.tenure.expires_at,
            revision=self.mirror.revision,
            peers=self.mirror.leases.values(),
        )
