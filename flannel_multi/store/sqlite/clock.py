"""When leases end: on the wall clock, since a lease outlives a reboot, but not at the mercy of its jumps.

A wall clock that is set while the machine runs (NTP after a boot without a battery clock, an operator) would end every
lease at once, or none for years. CLOCK_BOOTTIME never jumps: so each write notes how far the wall is ahead of it, and
whoever finds another distance moves every end by the difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

JUMP_S = 5.0  # less is a clock that is slewed, and a lease that lives some seconds longer


class Reading(NamedTuple):
    """The clocks at one moment. `boot` names the count that `ahead_s` was taken against; `ahead_s`: the wall clock less
    the seconds since that boot; `wall_s`: Unix time."""

    boot: str
    ahead_s: float
    wall_s: float


@dataclass(frozen=True)
class Clock:
    """What tells the time, for tests to replace."""

    boot: str
    wall_s: Callable[[], float] = time.time
    since_boot_s: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)

    def read(self) -> Reading:
        wall_s = self.wall_s()
        return Reading(self.boot, wall_s - self.since_boot_s(), wall_s)


def host_clock() -> Clock:
    """This machine's. A process in another time namespace counts from another boot."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        boot += " " + str(Path("/proc/self/ns/time").readlink())
    except OSError:  # kernels before 5.6 have no time namespaces
        pass
    return Clock(boot)


def jump_s(before: Reading, now: Reading) -> float:
    """By how much the wall clock was set between the two, 0.0 when it was not, as far as one can know.

    Over a reboot nobody counted: only a clock that went back is known to be wrong, and the time between is then taken
    for nothing. A lease so lives too long rather than too short.
    """
    moved_s = now.ahead_s - before.ahead_s if now.boot == before.boot else min(0.0, now.wall_s - before.wall_s)
    return moved_s if abs(moved_s) > JUMP_S else 0.0
