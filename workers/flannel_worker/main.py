"""Entry of a worker, after fork or exec: the lock, the heartbeat, the word to stop; what it does is `turning`."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from flannel_multi import log, sharing
from flannel_multi.model.backoff import next_backoff_s
from flannel_multi.model.errors import Conflict
from flannel_multi.model.messages import Beat, Down, Phase, Said, Stop
from flannel_multi.options import NetworkOptions
from flannel_multi.store.protocol import LeaseStore
from flannel_worker import files
from flannel_worker.channel import Channel
from flannel_worker.claimant import Claimant
from flannel_worker.feed import feed
from flannel_worker.keeper import Keeper
from flannel_worker.kernel.reconcile import Reconciler
from flannel_worker.life import Life
from flannel_worker.loop import Loop
from flannel_worker.paper import Paper
from flannel_worker.turning import Turning, watch_kernel

BEATS_PER_TIMEOUT = 5  # a host that swaps for a moment must not look like a hung worker
FIRST_REST_S = 2.0  # all workers of a host start at once, and have better to do
REST_S = 10.0  # an idle worker grows by 1 MB until then, and would not grow further
STORE_TIMEOUT_S = 4.0  # with the watch's own 6 s, a hung store is said within 10 s


class Job(NamedTuple):
    """All that a worker is told: its network, its store, its end of the socketpair, what its predecessors left."""

    options: NetworkOptions
    open_store: Callable[[], LeaseStore]
    config_key: str
    daemon: str
    channel: socket.socket
    inherited: Mapping[str, int]


def work(job: Job) -> int:
    """Runs one network until told to stop, or until the parent is gone; returns the exit status."""
    Loop().run(_Worker(job).run())
    return 0


class _Worker:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._beat_s = job.options.liveness_timeout_s / BEATS_PER_TIMEOUT
        self._timeout_s = min(STORE_TIMEOUT_S, job.options.liveness_timeout_s / 2)
        self._beats = 0
        self._turning: Turning | None = None
        self._stopping = False
        self._crash: BaseException | None = None

    async def run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(self._job.channel, heard=self._heard, orphaned=self._end)
        self._keeper = Keeper(self._channel.send, self._job.options.name, self._job.inherited)
        self._beat()
        self._loop.call_later(FIRST_REST_S, self._rest)
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
        reconciler, store = Reconciler.open(), job.open_store()
        claimant, paper = Claimant(self._channel.send), Paper(job.options, daemon=job.daemon)
        life = Life(
            job.options, store, reconciler, claimant, paper,
            keeper=self._keeper, config_key=job.config_key, timeout_s=self._timeout_s,
        )  # fmt: skip
        life.remember()
        self._turning = turning = Turning(life, paper, self._channel.send, store_timeout_s=self._timeout_s)
        feeding = feed(
            store, job.options.name, life.mirror, turning.fed, timeout_s=self._timeout_s
        )  # fmt: skip
        helpers = [asyncio.create_task(feeding), asyncio.create_task(watch_kernel(reconciler, life, turning.look))]
        for helper in helpers:
            helper.add_done_callback(self._helper_ended)
        try:
            await turning.run()
        finally:
            life.save()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            reconciler.close()
            await store.close()

    def _beat(self) -> None:
        """Says that the loop turns; the number grows only while no step is stuck."""
        self._loop.call_later(self._beat_s, self._beat)
        if self._turning is None or not self._turning.is_stuck():
            self._beats += 1
        self._channel.send(Beat(self._beats))
        if self._turning is not None:
            self._turning.look_at_clocks(grace_s=self._job.options.restore_grace_s)

    def _rest(self) -> None:
        """Shares with the parent again what was put back as it was: a millisecond or two."""
        try:
            sharing.give_back()
        except OSError as error:
            log.debug(f"nothing is shared again: {error}")
        else:
            self._loop.call_later(REST_S, self._rest)

    def _heard(self, message: Down) -> None:
        if isinstance(message, Stop):
            self._end()
        elif self._turning is not None:
            self._turning.heard(message)

    def _end(self) -> None:
        self._stopping = True
        self._task.cancel()

    def _helper_ended(self, helper: asyncio.Task[None]) -> None:
        """A helper that dies takes the worker with it: a worker that hears nothing must not look alive."""
        if not helper.cancelled() and (error := helper.exception()) is not None:
            self._crash = error
            self._task.cancel()

    async def _take_lock(self) -> int:
        """The network's lock, waited for as long as another daemon holds it; no event tells when it is let go."""
        failures, told = 0, ""
        while True:
            try:
                return files.lock(self._job.options.lock_file)
            except Conflict as conflict:
                reason = conflict.message
            except OSError as error:
                hint = "; run it as root" if os.geteuid() != 0 else ""
                reason = f"cannot take lock {self._job.options.lock_file}: {error.strerror}{hint}"
            failures += 1
            if reason != told:
                told = reason
                self._channel.send(Said(Phase.CONFLICT.value, reason))
            await asyncio.sleep(next_backoff_s(failures, floor_s=0.2, cap_s=5.0, jitter=random.random()))
