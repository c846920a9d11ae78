"""The phase of a network, by what keeps it from being ready."""

from __future__ import annotations

import pytest

from flannel_multi.model.errors import (
    ConfigError,
    Conflict,
    FlannelError,
    InterfaceMissing,
    KernelRefused,
    NoSubnetLeft,
    NotBuiltYet,
    Occupied,
    StoreRefused,
    StoreUnavailable,
)
from flannel_multi.model.messages import Phase, Said, decode, encode
from flannel_worker.standing import Waiting, arrived, held_up

PHASES = [
    (InterfaceMissing, Phase.WAITING_FOR_INTERFACE, False),
    (ConfigError, Phase.QUARANTINED, False),
    (NotBuiltYet, Phase.QUARANTINED, False),
    (Conflict, Phase.CONFLICT, False),
    (Occupied, Phase.CONFLICT, True),
    (StoreUnavailable, Phase.WAITING_FOR_LEASE, True),
    (StoreRefused, Phase.WAITING_FOR_LEASE, True),
    (NoSubnetLeft, Phase.WAITING_FOR_LEASE, True),
    (KernelRefused, Phase.WAITING_FOR_LEASE, True),
]


@pytest.mark.parametrize(("error", "phase", "retry"), PHASES)
def test_who_must_act_decides_the_phase(error: type[FlannelError], phase: Phase, retry: bool) -> None:
    standing = held_up(error("why"))
    assert (standing.phase, standing.reason, standing.serving, standing.retry) == (phase, "why", False, retry)


def test_whatever_a_serving_network_meets_makes_it_degraded_and_no_more() -> None:
    for error in (InterfaceMissing, ConfigError, Conflict, KernelRefused, NoSubnetLeft):
        assert held_up(error("why"), serving=True)[:3] == (Phase.DEGRADED, "why", True)
    assert held_up(Waiting(Phase.STARTING, "on its way"), serving=True).phase is Phase.STARTING


def test_faults_make_it_degraded_once_each_and_remarks_do_not() -> None:
    assert arrived(["a", "b", "a"], ["config gone"], serving=True).reason == "a; b"
    assert arrived(["no env file"], [], serving=False)[:3] == (Phase.DEGRADED, "no env file", False)
    assert arrived([], ["config gone"], serving=True)[:3] == (Phase.READY, "config gone", True)


@pytest.mark.parametrize("text", ["x" * 1_000_000, "\U0001f40d" * 100_000])
def test_a_reason_of_any_length_fits_a_message(text: str) -> None:
    for standing in (held_up(Conflict(text)), held_up(StoreRefused(text)), arrived([text, "b"], [], serving=True)):
        said = Said(standing.phase.value, standing.reason, standing.serving)
        assert decode(encode(said)) == said
