"""One network as its supervisor sees it: a state machine over values. No clock, no fork, no log in here.

The loop stamps time and jitter on each event and carries out the actions. The one wish so far, to stop, is a phase
too: nothing leads out of `stopping` but the end.

| phase     | Due        | Spawned  | SpawnFailed | SaidSo     | Beaten | Exited  | StopWanted      |
|-----------|------------|----------|-------------|------------|--------|---------|-----------------|
| backoff   | spawn      | starting | backoff     | -          | -      | bug     | stopped         |
| alive (1) | hung: (2)  | bug      | bug         | that phase | alive  | backoff | stopping (3)    |
| stopping  | kill       | bug      | bug         | -          | -      | stopped | kill            |
| stopped   | -          | bug      | bug         | -          | -      | bug     | -               |

(1) starting, and whatever the worker says of itself. (2) SIGABRT, and SIGKILL after a grace. (3) stop goes down the
socketpair; SIGKILL when `stop_timeout_s` is over. A restart waits 0 s the first time and after a settled run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from flannel_multi.model.backoff import next_backoff_s
from flannel_multi.model.messages import WORKER_PHASES, Phase

ABORT_GRACE_S = 2.0  # between SIGABRT, whose handler dumps every stack, and SIGKILL
ALIVE = WORKER_PHASES | {Phase.STARTING}
BAD_NEWS = frozenset((Phase.CONFLICT, Phase.DEGRADED, Phase.QUARANTINED))


class SupervisorBug(Exception):
    """An event that cannot happen in this phase did."""


@dataclass(frozen=True)
class Rules:
    """The operator's numbers, all in seconds."""

    settled_s: float = 5.0
    floor_s: float = 0.5
    cap_s: float = 60.0
    liveness_timeout_s: float = 10.0
    stop_timeout_s: float = 10.0


@dataclass(frozen=True)
class Worker:
    """One network. `wake_at_s` is the next moment at which time alone changes something."""

    name: str
    phase: Phase = Phase.BACKOFF
    reason: str = ""
    since_s: float = 0.0
    incarnation: int = 0
    failures: int = 0
    serving_since_s: float | None = None
    progress: int = -1
    aborted: bool = False
    wake_at_s: float | None = 0.0


@dataclass(frozen=True)
class Due:
    at_s: float


@dataclass(frozen=True)
class Spawned:
    at_s: float


@dataclass(frozen=True)
class SpawnFailed:
    at_s: float
    cause: str
    jitter: float


@dataclass(frozen=True)
class SaidSo:
    """The worker said where it stands."""

    at_s: float
    phase: Phase
    reason: str
    serving: bool


@dataclass(frozen=True)
class Beaten:
    at_s: float
    progress: int


@dataclass(frozen=True)
class Exited:
    """The pidfd said so; `cause` for people. `jitter` in [0, 1)."""

    at_s: float
    cause: str
    jitter: float


@dataclass(frozen=True)
class StopWanted:
    at_s: float


Event = Due | Spawned | SpawnFailed | SaidSo | Beaten | Exited | StopWanted


@dataclass(frozen=True)
class Spawn:
    name: str


@dataclass(frozen=True)
class Abort:
    """SIGABRT, and SIGCONT so that a stopped worker gets it."""

    name: str


@dataclass(frozen=True)
class Kill:
    name: str


@dataclass(frozen=True)
class SendStop:
    name: str


@dataclass(frozen=True)
class Tell:
    """A line for the log; `alarming` when somebody should look."""

    name: str
    text: str
    alarming: bool = False


Action = Spawn | Abort | Kill | SendStop | Tell


def step(worker: Worker, event: Event, rules: Rules) -> tuple[Worker, list[Action]]:
    """What `event` makes of `worker`, and what is to be done. Raises SupervisorBug."""
    match event:
        case Due(at_s):
            return _due(worker, at_s, rules)
        case Spawned(at_s) if worker.phase is Phase.BACKOFF:
            return replace(
                worker, phase=Phase.STARTING, reason="", since_s=at_s, incarnation=worker.incarnation + 1,
                serving_since_s=None, progress=-1, aborted=False, wake_at_s=at_s + rules.liveness_timeout_s,
            ), []  # fmt: skip
        case SpawnFailed(at_s, cause, jitter) if worker.phase is Phase.BACKOFF:
            return _back_off(worker, at_s, f"cannot start a worker: {cause}", jitter, rules, at_once=False)
        case SaidSo():
            return _said(worker, event)
        case Beaten(at_s, progress) if worker.phase in ALIVE:
            if progress == worker.progress or worker.aborted:
                return worker, []  # the same number twice is no progress
            return replace(worker, progress=progress, wake_at_s=at_s + rules.liveness_timeout_s), []
        case Beaten() if worker.phase in (Phase.STOPPING, Phase.STOPPED, Phase.BACKOFF):
            return worker, []
        case Exited(at_s, cause, jitter):
            return _exited(worker, at_s, cause, jitter, rules)
        case StopWanted(at_s):
            return _stop(worker, at_s, rules)
        case _:
            raise SupervisorBug(f"{worker.name}: {type(event).__name__} while {worker.phase.value}")


def next_wake_s(workers: Iterable[Worker]) -> float | None:
    """When the loop must look again if nothing happens, None for never."""
    return min((worker.wake_at_s for worker in workers if worker.wake_at_s is not None), default=None)


def due(workers: Iterable[Worker], now_s: float) -> list[str]:
    """The names of those for which time alone changes something now."""
    return [worker.name for worker in workers if worker.wake_at_s is not None and worker.wake_at_s <= now_s]


def _due(worker: Worker, at_s: float, rules: Rules) -> tuple[Worker, list[Action]]:
    if worker.wake_at_s is None or at_s < worker.wake_at_s:
        return worker, []
    name = worker.name
    if worker.phase is Phase.BACKOFF:
        return replace(worker, wake_at_s=None), [Spawn(name)]
    if worker.phase is Phase.STOPPING:
        return replace(worker, wake_at_s=None), [Tell(name, "did not stop in time: killing it", True), Kill(name)]
    if worker.aborted:
        return replace(worker, wake_at_s=None), [Tell(name, "did not end by SIGABRT: killing it", True), Kill(name)]
    hung = f"hung: no progress for {rules.liveness_timeout_s:g} s; asking for its stacks by SIGABRT"
    told = Tell(name, hung, True)
    return replace(worker, aborted=True, wake_at_s=at_s + ABORT_GRACE_S), [told, Abort(name)]


def _said(worker: Worker, said: SaidSo) -> tuple[Worker, list[Action]]:
    if worker.phase not in ALIVE:
        return worker, []  # speech from before its end
    if said.phase not in WORKER_PHASES:
        raise SupervisorBug(f"{worker.name} says of itself {said.phase.value}")
    since_s = worker.serving_since_s if worker.serving_since_s is not None else said.at_s
    fresh = replace(
        worker, phase=said.phase, reason=said.reason, serving_since_s=since_s if said.serving else None,
        since_s=said.at_s if said.phase is not worker.phase else worker.since_s,
    )  # fmt: skip
    if (worker.phase, worker.reason) == (said.phase, said.reason):
        return fresh, []
    # a worker that has just started is degraded until its store has answered: that is how it should be
    alarming = said.phase in BAD_NEWS and not (worker.phase is Phase.STARTING and said.serving)
    return fresh, [Tell(worker.name, said.phase.value + (f": {said.reason}" if said.reason else ""), alarming)]


def _exited(worker: Worker, at_s: float, cause: str, jitter: float, rules: Rules) -> tuple[Worker, list[Action]]:
    if worker.phase is Phase.STOPPING:
        return _stopped(worker, at_s, cause)
    if worker.phase not in ALIVE:
        raise SupervisorBug(f"{worker.name}: exit while {worker.phase.value}")
    settled = worker.serving_since_s is not None and at_s - worker.serving_since_s >= rules.settled_s
    before = replace(worker, failures=0) if settled else worker
    return _back_off(before, at_s, cause, jitter, rules, at_once=before.failures == 0)


def _back_off(
    worker: Worker, at_s: float, cause: str, jitter: float, rules: Rules, *, at_once: bool
) -> tuple[Worker, list[Action]]:
    failures = worker.failures + 1
    wait_s = 0.0
    if not at_once:
        wait_s = next_backoff_s(max(failures - 1, 1), floor_s=rules.floor_s, cap_s=rules.cap_s, jitter=jitter)
    fresh = replace(
        worker, phase=Phase.BACKOFF, reason=cause, since_s=at_s, failures=failures, serving_since_s=None,
        aborted=False, wake_at_s=at_s + wait_s,
    )  # fmt: skip
    return fresh, [Tell(worker.name, f"{cause}; next start in {wait_s:.1f} s", True)]


def _stop(worker: Worker, at_s: float, rules: Rules) -> tuple[Worker, list[Action]]:
    if worker.phase is Phase.STOPPED:
        return worker, []
    if worker.phase is Phase.BACKOFF:
        return _stopped(worker, at_s, "was not running")
    if worker.phase is Phase.STOPPING:
        return replace(worker, wake_at_s=None), [Kill(worker.name)]
    fresh = replace(worker, phase=Phase.STOPPING, since_s=at_s, wake_at_s=at_s + rules.stop_timeout_s)
    return fresh, [SendStop(worker.name)]


def _stopped(worker: Worker, at_s: float, cause: str) -> tuple[Worker, list[Action]]:
    fresh = replace(worker, phase=Phase.STOPPED, reason=cause, since_s=at_s, serving_since_s=None, wake_at_s=None)
    return fresh, [Tell(worker.name, "stopped")]
