"""Entry of a worker, after fork or exec: one loop, one task, and the few sources that wake it."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable
from typing import NamedTuple

from flannel_multi.model.backoff import next_backoff_s
from flannel_multi.model.errors import Conflict
from flannel_multi.model.messages import Beat, Facts, Phase, Said, Stop
from flannel_multi.model.messages import Down as FromParent
from flannel_multi.options import NetworkOptions
from flannel_multi.store.protocol import LeaseStore
from flannel_worker import files
from flannel_worker.channel import Channel
from flannel_worker.claimant import Claimant
from flannel_worker.feed import Down, Fed, feed
from flannel_worker.kernel.reconcile import Drift, Reconciler
from flannel_worker.life import Life
from flannel_worker.paper import Paper
from flannel_worker.standing import Standing

BEATS_PER_TIMEOUT = 5  # a host that swaps for a moment must not look like a hung worker
HOST_SETTLE_S = 0.3  # a host that brings up fifty networks changes in bursts: look once it is quiet
DRIFT_SETTLE_S = 0.2  # between two repairs: a fight with another program must not spin


class Job(NamedTuple):
    """All that a worker is told: its network, its store, its end of the socketpair."""

    options: NetworkOptions
    open_store: Callable[[], LeaseStore]
    config_key: str
    daemon: str
    channel: socket.socket


def work(job: Job) -> int:
    """Runs one network until told to stop, or until the parent is gone; returns the exit status."""
    asyncio.run(_Worker(job).run())
    return 0


class _Worker:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._beat_s = job.options.liveness_timeout_s / BEATS_PER_TIMEOUT
        self._beat_at_s = 0.0
        self._turns = 0
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()  # ends the feed's wait between attempts
        self._stopping = False
        self._crash: BaseException | None = None
        self._look_at_s: float | None = None  # loop time of the next converge; None: nothing to look at
        self._failures = 0
        self._said: Said | None = None
        self._facts = Facts()
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._task = asyncio.current_task()
        self._channel = Channel(self._job.channel, heard=self._heard, orphaned=self._end)
        try:
            lock = await self._take_lock()
            try:
                await self._live()
            finally:
                os.close(lock)
        except asyncio.CancelledError:
            if self._crash is not None:
                raise self._crash from None
            if not self._stopping:
                raise
        finally:
            self._channel.close()

    async def _live(self) -> None:
        job = self._job
        reconciler = Reconciler.open()
        store = job.open_store()
        claimant = Claimant(self._channel.send)
        self._paper = Paper(job.options, daemon=job.daemon)
        timeout_s = min(5.0, job.options.liveness_timeout_s / 2)
        self._life = Life(
            job.options, store, reconciler, claimant, self._paper, config_key=job.config_key, timeout_s=timeout_s
        )
        self._life.remember()
        helpers = [
            asyncio.create_task(
                feed(store, job.options.name, self._life.mirror, self._fed, timeout_s=timeout_s, wake=self._hurry)
            ),
            asyncio.create_task(self._watch_kernel(reconciler)),
        ]
        for helper in helpers:
            helper.add_done_callback(self._helper_ended)
        try:
            self._look()
            await self._loop()
        finally:
            self._life.save()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            reconciler.close()
            await store.close()

    async def _loop(self) -> None:
        """Sleeps until there is news or something is due; never polls."""
        while True:
            self._beat()
            if self._look_at_s is not None and self._clock() >= self._look_at_s:
                self._look_at_s = None
                self._after(await self._life.converge())
            if self._paper.save_at_s is not None and self._clock() >= self._paper.save_at_s:
                self._life.save()
            self._news.clear()
            due = [self._beat_at_s, self._look_at_s, self._paper.save_at_s]
            wait_s = min(at for at in due if at is not None) - self._clock()
            if wait_s > 0:
                try:
                    await asyncio.wait_for(self._news.wait(), wait_s)
                except TimeoutError:
                    pass

    def _beat(self) -> None:
        """Says that the loop turns, and looks at the clocks that run while the host sleeps."""
        now_s = self._clock()
        if self._turns == 0 or now_s >= self._beat_at_s:
            self._turns += 1
            self._beat_at_s = now_s + self._beat_s
            self._channel.send(Beat(self._turns))
            if self._turns > 1 and self._life.clocks(now_s, grace_s=self._job.options.restore_grace_s):
                self._look()

    def _after(self, standing: Standing) -> None:
        """Says where the network stands, and when to look again by itself if something failed."""
        said = Said(standing.phase.value, standing.reason, standing.serving)
        if said != self._said:
            self._said = said
            self._channel.send(said)
        facts = self._life.facts()
        if facts != self._facts:
            self._facts = facts
            self._channel.send(facts)
        if standing.phase is Phase.READY:
            self._failures = 0
        elif standing.retry:
            self._failures += 1
            wait_s = next_backoff_s(self._failures, floor_s=0.2, cap_s=30.0, jitter=random.random())
            self._look(wait_s)

    def _look(self, after_s: float = 0.0) -> None:
        at_s = self._clock() + after_s
        if self._look_at_s is None or at_s < self._look_at_s:
            self._look_at_s = at_s
        self._news.set()

    def _fed(self, news: Fed | Down) -> None:
        self._life.fed(news)
        self._look()

    def _heard(self, message: FromParent) -> None:
        if isinstance(message, Stop):
            self._end()
        else:
            self._life.heard(message)
            self._look()

    def _end(self) -> None:
        self._stopping = True
        if self._task is not None:
            self._task.cancel()

    async def _watch_kernel(self, reconciler: Reconciler) -> None:
        while True:
            event = await reconciler.next_event()
            if isinstance(event, Drift):
                self._life.drifted(event.text)
                self._look()
                await asyncio.sleep(DRIFT_SETTLE_S)
            else:
                self._life.host_changed()
                self._look(HOST_SETTLE_S if self._life.serving else 0.0)

    def _helper_ended(self, helper: asyncio.Task[None]) -> None:
        """A helper that dies takes the worker with it: a worker that hears nothing must not look alive."""
        if not helper.cancelled() and (error := helper.exception()) is not None and self._task is not None:
            self._crash = error
            self._task.cancel()

    async def _take_lock(self) -> int:
        failures = 0
        while True:
            try:
                return files.lock(self._job.options.lock_file)
            except Conflict as conflict:
                reason = conflict.message
            except OSError as error:
                reason = f"cannot take lock {self._job.options.lock_file}: {error.strerror}"
            failures += 1
            said = Said(Phase.CONFLICT.value, reason)
            if said != self._said:
                self._said = said
                self._channel.send(said)
            await self._pause(next_backoff_s(failures, floor_s=0.2, cap_s=5.0, jitter=random.random()))

    async def _pause(self, wait_s: float) -> None:
        until_s = self._clock() + wait_s
        while (left_s := until_s - self._clock()) > 0:
            self._turns += 1
            self._channel.send(Beat(self._turns))
            await asyncio.sleep(min(left_s, self._beat_s))
