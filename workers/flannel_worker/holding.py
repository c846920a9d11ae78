"""Getting, keeping and regaining the own lease: the conversation with the store that `tenure` decides on."""

from __future__ import annotations

import asyncio
import random

from flannel_multi import log
from flannel_multi.model.allocation import fits
from flannel_multi.model.backoff import next_backoff_s
from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import Conflict, LeaseLost, StoreRefused, StoreUnavailable
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.shown import show
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.store.protocol import Lease, LeaseStore, Snapshot
from flannel_worker.mirror import Mirror
from flannel_worker.tenure import Claim, Rivalry, Tenure, judge

RETRY_FLOOR_S = 1.0  # between renewals that failed; there are hours left, see `renew_at_s`
RETRY_CAP_S = 60.0


class Holding:
    """The own lease against the store. Every method either succeeds or leaves what was held."""

    def __init__(self, store: LeaseStore, network: str, mirror: Mirror, *, margin_s: float, timeout_s: float) -> None:
        self._store = store
        self._network = network
        self._mirror = mirror
        self._timeout_s = timeout_s
        self._lost: Claim | None = None  # GONE or FOREIGN
        self._failures = 0
        self._published: LeaseAttrs | None = None  # what we last wrote into the own key
        self._rivalry = Rivalry()
        self.tenure = Tenure(margin_s=margin_s)

    @property
    def holds(self) -> bool:
        """True while what we hold, or remember to have held, has no other holder as far as we know."""
        return self.tenure.lease is not None and self._lost is not Claim.FOREIGN

    @property
    def subnet(self) -> Subnet | None:
        """The subnet we hold, or remember to have held."""
        return self.tenure.lease.record.subnet if self.tenure.lease else None

    async def keep(self, config: NetworkConfig, attrs: LeaseAttrs, *, prefer: Subnet | None) -> None:
        """Makes the own lease true in the store: confirms, renews, rewrites or acquires it, as the store shows it.

        Raises StoreUnavailable, StoreRefused, NoSubnetLeft, Conflict.
        """
        lease = self.tenure.lease
        if lease is None:
            await self._acquire(config, attrs, prefer=prefer)
            return
        held = lease.record
        if self._lost is None and self.tenure.confirmed and self._mirror.is_ahead(held):
            return  # the watch has yet to show it
        claim = judge(held, self._seen(held.subnet), attrs)
        if self._lost is None:
            try:
                await self._settle(lease, claim, attrs)
            except LeaseLost as lost:
                log.warning(f"lease {held.subnet} lost: {lost.message}")
                self._lose(claim)
        else:
            self._lose(claim)
        if self._lost is not None:
            await self._acquire(config, attrs, prefer=held.subnet)

    def unsettle(self, config: NetworkConfig) -> None:
        """Another config is in force: a lease that does not fit it is no lease of ours any more."""
        lease = self.tenure.lease
        if lease is not None and not fits(config, lease.record.subnet):
            self.tenure.lease, self._lost = None, None

    async def release(self) -> None:
        """Gives the lease back, for a network that must give way before it was ready."""
        if self.tenure.lease is not None:
            try:
                await self._store.release(self._network, self.tenure.lease, timeout_s=self._timeout_s)
            except (StoreUnavailable, StoreRefused) as error:
                log.warning(f"lease {self.subnet} not released, it ends by itself: {error.message}")
            self.tenure.lease = None
            self._lost = None

    def _seen(self, subnet: Subnet) -> LeaseRecord | None:
        """The store's record of `subnet`, None when it has none (one that is only remembered is none)."""
        return None if self._mirror.is_missing(subnet) else self._mirror.leases.get(subnet)

    def _lose(self, claim: Claim) -> None:
        self._lost = claim if claim is Claim.FOREIGN else Claim.GONE
        self.tenure.lose()

    async def _settle(self, lease: Lease, claim: Claim, attrs: LeaseAttrs) -> None:
        seen = self._mirror.leases.get(lease.record.subnet)
        match claim:
            case Claim.GONE:
                log.warning(f"lease {lease.record.subnet} is gone from the store (revoked or expired)")
                self._lose(claim)
            case Claim.FOREIGN:
                assert seen is not None
                holder = format_ip(seen.attrs.public_ip)
                log.warning(f"lease {lease.record.subnet} now belongs to {holder}: taking another subnet")
                self._lose(claim)
            case Claim.STALE:
                assert seen is not None
                self._check_rival(seen.attrs, attrs)
                self.tenure.follow(seen)
                self._hold(await self._store.publish(
                    self._network, Lease(seen, lease.ttl_s), attrs, timeout_s=self._timeout_s
                ))  # fmt: skip
                log.info(f"lease {lease.record.subnet}: attributes brought up to date")
                await self._renew()
            case Claim.MOVED | Claim.OURS:
                assert seen is not None
                if claim is Claim.MOVED:
                    self.tenure.follow(seen)
                if not self.tenure.confirmed or self.tenure.due():
                    await self._renew()

    def _check_rival(self, seen: LeaseAttrs, attrs: LeaseAttrs) -> None:
        """Raises Conflict while the value of another host with our public IP is to stand."""
        if self._published != attrs:
            return  # it is ours that is new
        rivalry = self._rivalry.meets(asyncio.get_running_loop().time(), jitter=random.random())
        text = (
            f"lease {self.subnet}: another host publishes our public IP {format_ip(attrs.public_ip)} as "
            f"{show(seen.backend_data)}, we as {show(attrs.backend_data)}: give one of them another --public-ip"
        )
        if rivalry is None:
            raise Conflict(text)
        log.warning(text)
        self._rivalry = rivalry

    async def _renew(self) -> None:
        lease = self.tenure.lease
        assert lease is not None
        if lease.record.permanent:
            self.tenure.hold(lease._replace(ttl_s=None))
            return
        try:
            self._hold(await self._store.renew(self._network, lease, timeout_s=self._timeout_s))
        except (StoreUnavailable, StoreRefused):
            self._failures += 1
            self.tenure.later(
                next_backoff_s(self._failures, floor_s=RETRY_FLOOR_S, cap_s=RETRY_CAP_S, jitter=random.random())
            )
            raise
        self._failures = 0

    async def _acquire(self, config: NetworkConfig, attrs: LeaseAttrs, *, prefer: Subnet | None) -> None:
        first = None
        if self._mirror.revision is not None and self._mirror.answered:
            first = Snapshot(self._mirror.revision, self._mirror.config, self._mirror.leases)
        lease = await self._store.acquire(
            self._network, config, attrs, prefer=prefer, first=first, timeout_s=self._timeout_s
        )
        self._lost = None
        self._hold(lease)
        kind = "reservation" if lease.record.permanent else "lease"
        log.info(f"{kind} acquired: {lease.record.subnet}")

    def _hold(self, lease: Lease) -> None:
        self.tenure.hold(lease)
        self._published = lease.record.attrs
        self._mirror.wrote(lease.record)
