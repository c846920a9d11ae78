"""A worker's life under chance: whatever happens in whatever order, what the operator relies on holds.

The machine is the world: it owns the clock and the one process there may be, and carries out what the core asks.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flannel_multi.model.messages import WORKER_PHASES, Phase
from flannel_multi.supervisor.core import (
    ABORT_GRACE_S,
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
    Tell,
    Worker,
    next_wake_s,
    step,
)

RULES = Rules(settled_s=5.0, floor_s=0.5, cap_s=60.0, liveness_timeout_s=10.0, stop_timeout_s=10.0)
JITTER = st.floats(0, 1, exclude_max=True)
SERVING = {Phase.READY, Phase.DEGRADED}


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.worker = Worker("blue")
        self.spawning = False  # the core asked for a process and has no answer yet
        self.running = False  # there is one
        self.killed = False  # and it was sent SIGKILL
        self.said: Phase | None = None  # its own last word
        self.serving_since_s: float | None = None
        self.progress = 0
        self.heard_at_s = 0.0  # last progress that the core was told of
        self.aborted_at_s: float | None = None
        self.stopped_at_s: float | None = None  # when the operator asked for the end

    def happens(self, event: Event) -> list[Action]:
        self.worker, actions = step(self.worker, event, RULES)
        for action in actions:
            match action:
                case Spawn():
                    assert not self.running, "two workers for one network"
                    assert not self.spawning, "two forks at once"
                    assert self.stopped_at_s is None, "a start after the stop"
                    self.spawning = True
                case Abort():
                    assert self.running
                    self.aborted_at_s = self.now_s
                case Kill():
                    assert self.running
                    self.killed = True
                case SendStop():
                    assert self.running
                case Tell(_, text):
                    assert text.isprintable()
        return actions

    @rule(wait_s=st.floats(0, 200))
    def time_passes(self, wait_s: float) -> None:
        """Until the next moment the core asked for, or for a while if that is sooner."""
        wake_s = next_wake_s([self.worker])
        self.now_s = self.now_s + wait_s if wake_s is None else max(self.now_s, min(wake_s, self.now_s + wait_s))
        self.happens(Due(self.now_s))

    @precondition(lambda self: self.spawning)
    @rule()
    def fork_works(self) -> None:
        if self.worker.phase is Phase.STOPPED:  # stopped between wish and fork: the loop forks no more
            self.spawning = False
            return
        self.spawning, self.running, self.killed = False, True, False
        self.said, self.serving_since_s, self.progress, self.aborted_at_s = None, None, -1, None
        self.heard_at_s = self.now_s
        before = self.worker.incarnation
        self.happens(Spawned(self.now_s))
        assert self.worker.incarnation == before + 1

    @precondition(lambda self: self.spawning)
    @rule(jitter=JITTER)
    def fork_is_refused(self, jitter: float) -> None:
        self.spawning = False
        if self.worker.phase is not Phase.STOPPED:
            self.happens(SpawnFailed(self.now_s, "EAGAIN", jitter))
            wait_s = (self.worker.wake_at_s or 0.0) - self.now_s
            assert RULES.floor_s - 1e-9 <= wait_s <= RULES.cap_s

    @precondition(lambda self: self.running and not self.killed)
    @rule(phase=st.sampled_from(sorted(WORKER_PHASES, key=lambda phase: phase.value)))
    def it_says_where_it_stands(self, phase: Phase) -> None:
        serving = phase in SERVING
        self.happens(SaidSo(self.now_s, phase, "why", serving))
        self.said = phase
        if not serving:
            self.serving_since_s = None
        elif self.serving_since_s is None:
            self.serving_since_s = self.now_s

    @precondition(lambda self: self.running and not self.killed)
    @rule(moves=st.booleans())
    def it_beats(self, moves: bool) -> None:
        self.progress += moves
        self.happens(Beaten(self.now_s, self.progress))
        if moves:
            self.heard_at_s = self.now_s

    @precondition(lambda self: self.running)
    @rule(jitter=JITTER)
    def it_dies(self, jitter: float) -> None:
        failures, since_s = self.worker.failures, self.serving_since_s
        stopping = self.worker.phase is Phase.STOPPING
        self.running = False
        self.happens(Exited(self.now_s, "killed by SIGKILL", jitter))
        if stopping:
            assert self.worker.phase is Phase.STOPPED
            return
        settled = since_s is not None and self.now_s - since_s >= RULES.settled_s
        wait_s = (self.worker.wake_at_s or 0.0) - self.now_s
        if settled or failures == 0:
            assert wait_s == 0.0, "a settled worker starts at once"
        else:
            assert RULES.floor_s - 1e-9 <= wait_s <= RULES.cap_s

    @rule()
    def stop_is_wanted(self) -> None:
        self.happens(StopWanted(self.now_s))
        if self.stopped_at_s is None:
            self.stopped_at_s = self.now_s

    @invariant()
    def a_phase_of_a_worker_is_its_own_word(self) -> None:
        if self.worker.phase in WORKER_PHASES:
            assert self.running
            assert self.worker.phase is self.said
        if self.worker.phase in (Phase.BACKOFF, Phase.STOPPED):
            assert not self.running

    @invariant()
    def a_wanted_network_has_a_process_or_a_next_start(self) -> None:
        if self.stopped_at_s is None:
            assert self.running or self.spawning or next_wake_s([self.worker]) is not None
        else:
            assert self.worker.phase in (Phase.STOPPING, Phase.STOPPED)

    @invariant()
    def nobody_waits_for_a_process_that_does_not_end(self) -> None:
        """A process that is not being killed yet has a moment at which something is done about it."""
        if self.running and not self.killed:
            wake_s = next_wake_s([self.worker])
            assert wake_s is not None
            if self.stopped_at_s is not None:
                assert wake_s <= self.stopped_at_s + RULES.stop_timeout_s
            elif self.worker.phase in ALIVE and self.aborted_at_s is None:
                assert wake_s <= self.heard_at_s + RULES.liveness_timeout_s
            elif self.aborted_at_s is not None:
                assert wake_s <= self.aborted_at_s + ABORT_GRACE_S

    def teardown(self) -> None:
        """However it stands: stopped on request, within the stop timeout, killed if it must be."""
        if self.stopped_at_s is None:
            self.stop_is_wanted()
        assert self.stopped_at_s is not None
        limit_s = max(self.now_s, self.stopped_at_s + RULES.stop_timeout_s)
        while self.running and not self.killed:
            wake_s = next_wake_s([self.worker])
            assert wake_s is not None
            self.now_s = max(self.now_s, wake_s)
            assert self.now_s <= limit_s
            self.happens(Due(self.now_s))
        if self.running:
            self.it_dies(jitter=0.5)
        assert self.worker.phase is Phase.STOPPED
        assert next_wake_s([self.worker]) is None


TestALifeUnderChance = World.TestCase
TestALifeUnderChance.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
