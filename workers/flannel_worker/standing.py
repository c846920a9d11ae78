"""Where a network stands, said once to the parent for each change."""

from __future__ import annotations

from typing import NamedTuple

from flannel_multi.model.errors import (
    ConfigError,
    Conflict,
    FlannelError,
    InterfaceMissing,
    NotBuiltYet,
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


def held_up(error: FlannelError) -> Standing:
    """The phase of a network that holds no lease yet, by what keeps it from one."""
    match error:
        case InterfaceMissing():
            return Standing(Phase.WAITING_FOR_INTERFACE, brief(error.message))
        case ConfigError() | NotBuiltYet():
            return Standing(Phase.QUARANTINED, brief(error.message))
        case Conflict():
            return Standing(Phase.CONFLICT, brief(error.message))
        case _:
            return Standing(Phase.WAITING_FOR_LEASE, brief(error.message), retry=True)


def serving(faults: list[str], remarks: list[str]) -> Standing:
    """Ready, with remarks; degraded as soon as there is one fault."""
    if faults:
        return Standing(Phase.DEGRADED, brief("; ".join(dict.fromkeys(faults))), serving=True, retry=True)
    return Standing(Phase.READY, "; ".join(remarks), serving=True)
