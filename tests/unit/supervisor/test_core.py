"""The life of a worker as its supervisor sees it, told as stories."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.messages import WORKER_PHASES, Phase
from flannel_multi.supervisor.core import (
    ALIVE,
    Abort,
    Action,
    Beaten,
    Due,
    Event,
    Exited,
    Kill,
    Rules,
    SaidSo,
    SendStop,
    Spawn,
    Spawned,
    SpawnFailed,
    StopWanted,
    SupervisorBug,
    Tell,
    Worker,
    next_wake_s,
    step,
)

RULES = Rules()


def ready(at_s: float) -> SaidSo:
    return SaidSo(at_s, Phase.READY, "", serving=True)


def story(worker: Worker, *scenes: tuple[Event, list[Action]], rules: Rules = RULES) -> Worker:
    for event, expected in scenes:
        worker, actions = step(worker, event, rules)
        assert actions == expected, event
    return worker


def test_the_defaults_are_those_of_the_manual() -> None:
    assert (RULES.settled_s, RULES.floor_s, RULES.cap_s, RULES.liveness_timeout_s) == (5.0, 0.5, 60.0, 10.0)


def test_a_settled_worker_starts_at_once_after_a_kill_and_waits_after_the_next() -> None:
    story(
        Worker("blue", Phase.READY, failures=3, serving_since_s=0.0),
        (Exited(40.0, "SIGKILL", 0.0), [Tell("blue", "SIGKILL; next start in 0.0 s", True)]),
        (Due(40.0), [Spawn("blue")]),
        (Spawned(40.0), []),
        (ready(40.1), [Tell("blue", "ready")]),
        (Exited(40.2, "SIGKILL", 0.0), [Tell("blue", "SIGKILL; next start in 0.5 s", True)]),
    )


def test_backoff_grows_to_its_cap_and_never_gives_up() -> None:
    worker, waits = Worker("blue"), []
    for _ in range(12):
        worker, _ = step(worker, Due(worker.wake_at_s or 0.0), RULES)
        worker, _ = step(worker, Spawned(0.0), RULES)
        worker, _ = step(worker, Exited(0.0, "exit status 70", 0.999999), RULES)
        waits.append(round(worker.wake_at_s or 0.0))
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_a_hung_worker_shows_its_stacks_and_is_then_killed() -> None:
    hung = "hung: no progress for 10 s; asking for its stacks by SIGABRT"
    story(
        Worker("blue"),
        (Due(0.0), [Spawn("blue")]),
        (Spawned(0.0), []),
        (Beaten(1.0, 1), []),
        (Beaten(9.0, 1), []),
        (Due(10.9), []),
        (Due(11.0), [Tell("blue", hung, True), Abort("blue")]),
        (Due(13.0), [Tell("blue", "did not end by SIGABRT: killing it", True), Kill("blue")]),
        (Exited(13.1, "SIGKILL", 0.0), [Tell("blue", "SIGKILL; next start in 0.0 s", True)]),
    )


def test_a_worker_that_does_not_stop_is_killed_and_one_in_backoff_is_not_started() -> None:
    story(
        Worker("blue", Phase.READY, serving_since_s=0.0),
        (StopWanted(1.0), [SendStop("blue")]),
        (Due(11.0), [Tell("blue", "did not stop in time: killing it", True), Kill("blue")]),
        (Exited(11.1, "SIGKILL", 0.0), [Tell("blue", "stopped")]),
    )
    waiting = Worker("red", Phase.BACKOFF, wake_at_s=5.0)
    assert story(waiting, (StopWanted(1.0), [Tell("red", "stopped")]), (Due(6.0), [])).phase is Phase.STOPPED


ONE_OF_EACH: tuple[Event, ...] = (
    Due(99.0), Spawned(99.0), SpawnFailed(99.0, "EAGAIN", 0.0), ready(99.0), Beaten(99.0, 7),
    Exited(99.0, "SIGKILL", 0.0), StopWanted(99.0),
)  # fmt: skip
ALIVE_NAMES = frozenset(ALIVE)
BUG = "bug"
TABLE: dict[type[Event], dict[str, Phase | str | None]] = {  # None: the phase stays
    Due: {"backoff": None, "alive": None, "stopping": None, "stopped": None},
    Spawned: {"backoff": Phase.STARTING, "alive": BUG, "stopping": BUG, "stopped": BUG},
    SpawnFailed: {"backoff": Phase.BACKOFF, "alive": BUG, "stopping": BUG, "stopped": BUG},
    SaidSo: {"backoff": None, "alive": Phase.READY, "stopping": None, "stopped": None},
    Beaten: {"backoff": None, "alive": None, "stopping": None, "stopped": None},
    Exited: {"backoff": BUG, "alive": Phase.BACKOFF, "stopping": Phase.STOPPED, "stopped": BUG},
    StopWanted: {
        "backoff": Phase.STOPPED, "alive": Phase.STOPPING, "stopping": Phase.STOPPING, "stopped": Phase.STOPPED,
    },
}  # fmt: skip
ACTIONS: dict[tuple[type[Event], str], tuple[type[Action], ...]] = {
    (Due, "backoff"): (Spawn,),
    (Due, "alive"): (Tell, Abort),
    (Due, "stopping"): (Tell, Kill),
    (SpawnFailed, "backoff"): (Tell,),
    (Exited, "alive"): (Tell,),
    (Exited, "stopping"): (Tell,),
    (StopWanted, "backoff"): (Tell,),
    (StopWanted, "alive"): (SendStop,),
    (StopWanted, "stopping"): (Kill,),
}
BUGS = {
    (phase, event)
    for event, row in TABLE.items()
    for phase in Phase
    if row["alive" if phase in ALIVE_NAMES else phase.value] == BUG
}


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, ONE_OF_EACH)))
def test_every_phase_has_the_tables_answer_to_every_event(phase: Phase, event: Event) -> None:
    worker = Worker("blue", phase, wake_at_s=None if phase is Phase.STOPPED else 1.0)
    row = "alive" if phase in ALIVE_NAMES else phase.value
    want = TABLE[type(event)][row]
    if want == BUG:
        with pytest.raises(SupervisorBug):
            step(worker, event, RULES)
        return
    after, actions = step(worker, event, RULES)
    assert after.phase is (want or phase)
    if not (isinstance(event, SaidSo) and row == "alive"):  # it tells what is new, so not "ready" twice
        assert tuple(map(type, actions)) == ACTIONS.get((type(event), row), ())


@given(st.lists(st.tuples(st.sampled_from(ONE_OF_EACH), st.sampled_from(sorted(WORKER_PHASES, key=str))), max_size=40))
def test_a_wanted_network_always_has_a_process_or_a_next_start(steps: list[tuple[Event, Phase]]) -> None:
    worker = Worker("blue")
    spawning = False
    for event, said in steps:
        fact = SaidSo(99.0, said, "why", serving=False) if isinstance(event, SaidSo) else event
        if (worker.phase, type(fact)) in BUGS or (isinstance(fact, Spawned | SpawnFailed) and not spawning):
            continue
        worker, actions = step(worker, fact, RULES)
        spawning = any(isinstance(action, Spawn) for action in actions) or (
            spawning and worker.phase is Phase.BACKOFF and worker.wake_at_s is None
        )
        if worker.phase not in (Phase.STOPPING, Phase.STOPPED):
            assert worker.phase in ALIVE or spawning or next_wake_s([worker]) is not None
