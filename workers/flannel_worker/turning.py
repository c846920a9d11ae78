"""When one network looks at its facts again, and what it says of the outcome: the pace of a worker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from flannel_multi.model.backoff import next_backoff_s
from flannel_multi.model.messages import Down as FromParent
from flannel_multi.model.messages import Facts, Phase, Said, Up
from flannel_worker.feed import Down, Fed
from flannel_worker.kernel.reconcile import Drift, Reconciler
from flannel_worker.life import Life
from flannel_worker.paper import Paper
from flannel_worker.standing import Standing

STEPS_LIMIT = 4  # calls to the store one step may wait for, each within its deadline; one that takes longer is stuck
HOST_SETTLE_S = 0.3  # a host that brings up fifty networks changes in bursts: look once it is quiet
DRIFT_SETTLE_S = 0.2  # between two repairs: a fight with another program must not spin


class Turning:
    """Sleeps until there is news or something is due, lets the life converge, says where it stands."""

    def __init__(self, life: Life, paper: Paper, send: Callable[[Up], None], *, store_timeout_s: float) -> None:
        self._life = life
        self._paper = paper
        self._send = send
        self._limit_s = STEPS_LIMIT * store_timeout_s
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._look_at_s: float | None = None  # loop time of the next converge; None: nothing to look at
        self._looking_since_s: float | None = None
        self._failures = 0
        self._said: Said | None = None
        self._facts = Facts()

    async def run(self) -> None:
        self.look()
        while True:
            if self._is_due(self._look_at_s):
                self._look_at_s = None
                self._looking_since_s = self._loop.time()
                standing = await self._life.converge()
                self._looking_since_s = None
                self._say(standing)
            if self._paper.is_due(self._loop.time()):
                self._life.save()
            await self._sleep()

    def look(self, after_s: float = 0.0) -> None:
        """Converges in `after_s` seconds, or sooner if that was asked for before."""
        at_s = self._loop.time() + after_s
        if self._look_at_s is None or at_s < self._look_at_s:
            self._look_at_s = at_s
        self._news.set()

    def fed(self, news: Fed | Down) -> None:
        """News from the store."""
        self._life.fed(news)
        self.look()

    def heard(self, message: FromParent) -> None:
        """A word of the parent about claims."""
        self._life.heard(message)
        self.look()

    def look_at_clocks(self, *, grace_s: float) -> None:
        """Looks at what no event tells: the lease's end, a restored store's grace, an env file that was removed."""
        if self._life.clocks(self._loop.time(), grace_s=grace_s):
            self.look()

    def is_stuck(self) -> bool:
        """True when one step has taken longer than all deadlines within it together."""
        return self._looking_since_s is not None and self._loop.time() - self._looking_since_s > self._limit_s

    def _is_due(self, at_s: float | None) -> bool:
        return at_s is not None and self._loop.time() >= at_s

    async def _sleep(self) -> None:
        self._news.clear()
        due = [at_s for at_s in (self._look_at_s, self._paper.save_at_s) if at_s is not None]
        alarm = self._loop.call_at(min(due), self._news.set) if due else None
        await self._news.wait()
        if alarm is not None:
            alarm.cancel()

    def _say(self, standing: Standing) -> None:
        """Tells the parent what changed, and when to look again by itself if something failed."""
        if standing.phase is not Phase.STARTING:
            said = Said(standing.phase.value, standing.reason, standing.serving)
            if said != self._said:
                self._said = said
                self._send(said)
        facts = self._life.facts()
        if facts != self._facts:
            self._facts = facts
            self._send(facts)
        if not standing.retry:
            self._failures = 0
            return
        self._failures += 1
        self.look(next_backoff_s(self._failures, floor_s=0.2, cap_s=30.0, jitter=random.random()))


async def watch_kernel(reconciler: Reconciler, life: Life, look: Callable[[float], None]) -> None:
    """Hears of drift and of changes on the host for the life of the worker."""
    while True:
        event = await reconciler.next_event()
        if isinstance(event, Drift):
            life.drifted(event.text)
            look(0.0)
            await asyncio.sleep(DRIFT_SETTLE_S)
        else:
            life.host_changed()
            look(HOST_SETTLE_S if life.serving else 0.0)
