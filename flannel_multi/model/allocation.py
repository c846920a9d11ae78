"""Which subnet a host takes: a pure choice over the leases that exist (spec §3.5).

The store makes the choice stick with a create-if-absent transaction; when it loses the race it lists and chooses
again. Randomness is passed in, so a test can name the pick.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import NoSubnetLeft
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import Subnet, format_ip

ROUNDS = 10  # listings before a contended acquire gives up, as flannel
CANDIDATES = 100  # free subnets collected from the bottom before one is picked at random, as flannel


@dataclass(frozen=True)
class Reuse:
    """The host has a lease that fits: keep it. `stale` are its other leases that do not fit."""

    record: LeaseRecord
    stale: tuple[LeaseRecord, ...] = ()


@dataclass(frozen=True)
class Take:
    """Create a lease on `subnet`. `stale` are leases of this host that no longer fit: delete them."""

    subnet: Subnet
    stale: tuple[LeaseRecord, ...] = ()


def fits(config: NetworkConfig, subnet: Subnet) -> bool:
    """True when `subnet` is one the config could hand out."""
    return subnet.length == config.subnet_len and config.subnet_min <= subnet.base <= config.subnet_max


def choose(
    config: NetworkConfig,
    leases: Iterable[LeaseRecord],
    *,
    public_ip: int,
    prefer: Subnet | None,
    rng: random.Random,
) -> Reuse | Take:
    """The own lease when one fits, else `prefer` when it fits and is free, else a free subnet at random.

    `prefer` is the subnet of the last run (the env file). Raises NoSubnetLeft when every subnet overlaps a lease.
    """
    records = sorted(leases, key=lambda record: record.subnet)
    mine = [record for record in records if record.attrs.public_ip == public_ip]
    good = next((record for record in mine if fits(config, record.subnet)), None)
    stale = tuple(record for record in mine if not fits(config, record.subnet))
    if good is not None:
        return Reuse(good, stale)
    taken = _Taken(record.subnet for record in records)
    if prefer is not None and fits(config, prefer) and not taken.overlaps(prefer):
        return Take(prefer, stale)
    free = free_subnets(config, taken, limit=CANDIDATES)
    if not free:
        raise NoSubnetLeft(
            f"out of subnets: every /{config.subnet_len} from {format_ip(config.subnet_min)} to "
            f"{format_ip(config.subnet_max)} of {config.network} overlaps one of {len(records)} leases; "
            "remove leases of hosts that are gone, or widen the network"
        )
    return Take(rng.choice(free), stale)


def free_subnets(config: NetworkConfig, taken: _Taken, *, limit: int) -> list[Subnet]:
    """The lowest `limit` subnets of the config's range that overlap nothing in `taken`.

    Leaps over a taken range in one step: a foreign /12 lease over a network of /30s must not cost 2^18 looks.
    """
    step = 1 << (32 - config.subnet_len)
    base = config.subnet_min
    free: list[Subnet] = []
    while base <= config.subnet_max and len(free) < limit:
        blocked_until = taken.end_of_overlap(Subnet(base, config.subnet_len))
        if blocked_until is None:
            free.append(Subnet(base, config.subnet_len))
            base += step
        else:
            base = (blocked_until // step + 1) * step  # the next boundary above it
    return free


class _Taken:
    """Leased ranges, sorted, touching ones merged: overlap tests in log time, and a full block is one leap."""

    def __init__(self, subnets: Iterable[Subnet]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for subnet in sorted(subnets):
            if self._ends and subnet.base <= self._ends[-1] + 1:
                self._ends[-1] = max(self._ends[-1], subnet.last)
            else:
                self._starts.append(subnet.base)
                self._ends.append(subnet.last)

    def end_of_overlap(self, subnet: Subnet) -> int | None:
        """The last address of the taken range that `subnet` touches, or None."""
        at = bisect_right(self._starts, subnet.last) - 1
        if at >= 0 and self._ends[at] >= subnet.base:
            return self._ends[at]
        return None

    def overlaps(self, subnet: Subnet) -> bool:
        return self.end_of_overlap(subnet) is not None
