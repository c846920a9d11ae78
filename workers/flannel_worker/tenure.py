"""Holding the own lease: is it still ours, when is it renewed, who takes it back. Decisions are pure functions."""

from __future__ import annotations

import enum
import time
from typing import NamedTuple

from flannel_multi.model.backoff import next_backoff_s
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.store.protocol import Lease

RIVAL_FLOOR_S, RIVAL_CAP_S = 1.0, 60.0
CALM_S = 300.0  # without a rewrite: whoever did it has been told apart


class Claim(enum.Enum):
    """What the store's own key says of our lease."""

    OURS = "ours"
    MOVED = "ours, on another etcd lease or revision"
    STALE = "ours, with other attributes than we publish"
    GONE = "absent"
    FOREIGN = "names another holder"


def judge(held: LeaseRecord, seen: LeaseRecord | None, attrs: LeaseAttrs) -> Claim:
    """Whether `seen`, the store's record of our subnet, is still the lease we `held`, and up to date with `attrs`.

    An etcd lease id is drawn at random, so a key on ours was written by us (or by the daemon before us) whatever
    public IP it names: an uplink that changed its address is no loss. The same goes for a reservation that still says
    what we last wrote. Any other key is ours only if it names our public IP as it is now: our former one may be
    another host's by now.
    """
    if seen is None:
        return Claim.GONE
    same_hold = seen.lease_id == held.lease_id and (held.lease_id != 0 or seen.attrs == held.attrs)
    if not same_hold and seen.attrs.public_ip != attrs.public_ip:
        return Claim.FOREIGN
    if seen.attrs != attrs:
        return Claim.STALE
    return Claim.OURS if seen == held else Claim.MOVED


def renew_at_s(granted_at_s: float, ttl_s: float, *, margin_s: float) -> float:
    """Time of the renewal: `margin_s` before the end, never before half of `ttl_s` (a margin longer than the lease
    must not spin), on the clock of `granted_at_s`."""
    return granted_at_s + max(ttl_s - margin_s, ttl_s / 2)


def boot_s() -> float:
    """Seconds since boot, sleep included: a lease runs out while its host is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Tenure:
    """The lease we hold and when to renew it. `confirmed` once the store has shown it to be ours in this run."""

    def __init__(self, *, margin_s: float) -> None:
        self._margin_s = margin_s
        self.lease: Lease | None = None
        self.confirmed = False
        self.renew_at_s: float | None = None
        self.expires_at = 0  # Unix seconds at which it ends if nobody renews it; 0: a reservation, or not known

    def remember(self, record: LeaseRecord, *, expires_at: int = 0) -> None:
        """The lease of the last run and its end as recorded: served at once, confirmed by the store later."""
        self.lease = Lease(record, None if record.permanent else 0)
        self.expires_at = expires_at
        self.confirmed = False
        self.renew_at_s = None

    def hold(self, lease: Lease) -> None:
        """The store has just granted or prolonged `lease`."""
        self.lease = lease
        self.confirmed = True
        self.expires_at = 0 if lease.ttl_s is None else int(time.time()) + lease.ttl_s
        self.renew_at_s = None if lease.ttl_s is None else renew_at_s(boot_s(), lease.ttl_s, margin_s=self._margin_s)

    def follow(self, record: LeaseRecord) -> None:
        """The key was rewritten and is still ours (a PUT, a reservation made of it): keep that record."""
        assert self.lease is not None
        ttl_s = None if record.permanent else self.lease.ttl_s
        self.lease = Lease(record, ttl_s)
        if record.permanent:
            self.renew_at_s, self.expires_at = None, 0
        elif self.renew_at_s is None:
            self.renew_at_s = boot_s()

    def later(self, wait_s: float) -> None:
        """The renewal failed for want of a store: try again in `wait_s` seconds."""
        self.renew_at_s = boot_s() + wait_s

    def due(self) -> bool:
        return self.renew_at_s is not None and boot_s() >= self.renew_at_s

    def lose(self) -> None:
        """The store says that it is not ours any more; the record stays, as the subnet to prefer."""
        self.confirmed = False
        self.renew_at_s = None


class Rivalry(NamedTuple):
    """Another host that publishes our public IP rewrites our lease's value. Two that set it right at once would write
    for ever, so each time waits longer; after a calm it is a first time again. Pure; times on one clock."""

    times: int = 0
    until_s: float = 0.0

    def meets(self, now_s: float, *, jitter: float) -> Rivalry | None:
        """The value was rewritten: None to let it stand for now, else set it right and be this from now on."""
        if now_s < self.until_s:
            return None
        times = 1 if now_s > self.until_s + CALM_S else self.times + 1
        return Rivalry(times, now_s + next_backoff_s(times, floor_s=RIVAL_FLOOR_S, cap_s=RIVAL_CAP_S, jitter=jitter))
