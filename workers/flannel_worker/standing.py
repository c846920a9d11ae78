"""Where a network stands, said once to the parent for each change."""

from __future__ import annotations

from typing import NamedTuple

from flannel_multi.model.errors import (
    ConfigError,
    Conflict,
    FlannelError,
    InterfaceMissing,
    NotBuiltYet,
    Occupied,
)
from flannel_multi.model.messages import Phase

LONGEST = 1000  # characters of a reason: a host with thousands of foreign routes must still fit one message


class Waiting(FlannelError):
    """An answer decides what comes next: nothing is wrong yet. STARTING: it is on its way, not worth a word."""

    def __init__(self, phase: Phase, message: str) -> None:
        super().__init__(message)
        self.phase = phase


class Standing(NamedTuple):
    """A phase, one line why, and whether lease, kernel state and env file stand (in degraded too)."""

    phase: Phase
    reason: str = ""
    serving: bool = False
    retry: bool = False  # no event will end this: look again after a backoff


def brief(reason: str) -> str:
    """`reason`, cut when it is too long for people."""
    return reason if len(reason) <= LONGEST else reason[: LONGEST - 3] + "..."


def held_up(error: FlannelError, *, serving: bool = False, held: bool = False) -> Standing:
    """The phase of a network that could not take every step, by what it met. One that serves is degraded."""
    reason = brief(error.message)
    match error:
        case Waiting():
            return Standing(error.phase, reason, serving)
        case _ if serving:
            return Standing(Phase.DEGRADED, reason, serving=True, retry=True)
        case InterfaceMissing():
            return Standing(Phase.WAITING_FOR_INTERFACE, reason)
        case ConfigError() | NotBuiltYet():
            return Standing(Phase.QUARANTINED, reason)
        case Conflict():
            retry = held or isinstance(error, Occupied)
            return Standing(Phase.DEGRADED if held else Phase.CONFLICT, reason, retry=retry)
        case _:
            return Standing(Phase.WAITING_FOR_LEASE, reason, retry=True)


def arrived(faults: list[str], remarks: list[str], *, serving: bool) -> Standing:
    """The lease is held and the kernel was told: ready, with remarks; degraded as soon as there is one fault."""
    if faults:
        return Standing(Phase.DEGRADED, brief("; ".join(dict.fromkeys(faults))), serving, retry=True)
    return Standing(Phase.READY, brief("; ".join(remarks)), serving)
