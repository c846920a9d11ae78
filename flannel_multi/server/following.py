"""Following one thing of the store for as long as somebody waits for its changes: the task that feeds a history.

What is followed (the leases of a network, or the list of networks) differs in how it is listed and watched and in how
a change reads; that a history is kept over lost watches, replaced when the store's past is gone, and that those who
wait are woken, is the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Hashable
from contextlib import aclosing
from enum import Enum, auto
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar, cast

from flannel_multi import log
from flannel_multi.model.backoff import next_backoff_s
from flannel_multi.model.errors import Compacted, FlannelError, StoreRefused, StoreUnavailable
from flannel_multi.server.history import Event, History
from flannel_multi.server.turns import Turns
from flannel_multi.store.protocol import Revision

RETRY_FLOOR_S, RETRY_CAP_S = 0.1, 5.0
PATIENCE_S = 8.0  # a store away for longer is told to those who wait: another server may still reach it
S = TypeVar("S", bound=Hashable)
C = TypeVar("C")


class About(Enum):
    """What is waited for, when it is not the events of one subject."""

    ANYTHING = auto()  # any event
    ASIDE = auto()  # changes that are no events to clients


class Source(Protocol[S, C]):
    """Where the changes come from."""

    async def list(self) -> tuple[Revision, bool]:
        """A point of history to start from, and whether the store was seen to be replaced since the last."""

    async def look(self) -> None:
        """Asks the store for anything. Raises what that raises."""

    def watch(self, after: Revision) -> AsyncIterator[C]: ...

    async def read(self, change: C) -> Event[S] | None:
        """The change as clients are told of it; None for what is no event to them."""


class Follower(Generic[S, C]):
    """A history that grows while it is followed, and the futures of those who wait for it to grow."""

    def __init__(self, name: str, source: Source[S, C], turns: Turns) -> None:
        self._name = name
        self._source = source
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Hashable, set[asyncio.Future[int]]] = {}  # by what is waited for
        self._task: asyncio.Task[None] | None = None
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._down_since_s: float | None = None
        self._failures = 0  # since it last stood
        self.history: History[S] = History(0)
        self.revision = Revision("", 0)  # of the last event or listing: the watch goes on from here
        self.fault: FlannelError | None = None
        self.replaced_at = 0  # cursors below are of a past that this store does not have
        self.idle_since_s = self._loop.time()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def start(self) -> None:
        """Returns once the first listing has been made. Raises what it raised."""
        if self._task is None:
            self._task = self._loop.create_task(self._follow())
            self._task.add_done_callback(self._ended)
        if not self._started.done():
            await asyncio.shield(self._started)
        if self.fault is not None and self._is_long_down():
            raise _anew(self.fault)

    async def grown(self, about: Hashable) -> int:
        """Waits for the next change `about` a subject or ANYTHING, and returns its revision; or ASIDE, or until the
        history is replaced, and returns 0. Raises the store's fault when it stays away."""
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._waiting.setdefault(about, set()).add(waiter)
        try:
            return await waiter
        finally:
            if (waiting := self._waiting.get(about)) is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._waiting[about]
            self.idle_since_s = self._loop.time()

    async def turn(self) -> None:
        """Waits for one's turn to be answered at once, from the history."""
        await self._turns.wait(self)

    def stop(self, error: FlannelError | None = None) -> None:
        """Follows no more. Those who still wait are told `error`."""
        if self._task is not None:
            self._task.cancel()
        if error is not None:
            self._fail(error)

    async def _follow(self) -> None:
        while True:
            try:
                await self._stand()
            except FlannelError as error:
                self._failures += 1
                self._failed(error)
            failures = max(self._failures, 1)
            wait_s = next_backoff_s(failures, floor_s=RETRY_FLOOR_S, cap_s=RETRY_CAP_S, jitter=random.random())
            await asyncio.sleep(wait_s)

    async def _stand(self) -> None:
        """One watch, from where the last one ended. Raises FlannelError when it ends."""
        try:
            if not self._started.done():
                await self._begin()
            elif self.fault is not None:
                await self._source.look()  # a watch says nothing until there is news, not even that it stands
                self._stands()
            watch = cast(Any, self._source.watch(self.revision))
            async with aclosing(watch):
                async for change in watch:
                    event = await self._source.read(change)
                    self._stands()
                    if event is None:
                        self._wake(About.ASIDE, 0)
                        continue
                    self.history.add(event)
                    self.revision = self.revision._replace(number=max(self.revision.number, event.revision))
                    self._wake(About.ANYTHING, event.revision)
                    self._wake(event.subject, event.revision)
        except Compacted:
            await self._begin()

    async def _begin(self) -> None:
        """A new listing: what was known of the past no longer joins on to it."""
        revision, replaced = await self._source.list()
        if replaced or revision.number < self.revision.number:
            self.replaced_at = revision.number
        self.history, self.revision = History(revision.number), revision
        self._stands()
        for about in list(self._waiting):
            self._wake(about, 0)

    def _stands(self) -> None:
        if self.fault is not None:
            log.info(f"network {self._name}: the store answers again")
        self.fault, self._down_since_s, self._failures = None, None, 0
        if not self._started.done():
            self._started.set_result(None)

    def _failed(self, error: FlannelError) -> None:
        if self.fault is None:
            log.warning(f"network {self._name}: {error.message}")
            self._down_since_s = self._loop.time()
        self.fault = error
        if not self._started.done():
            self._started.set_exception(error)
            self._started.exception()  # nobody need have waited
            self._started = self._loop.create_future()
        if self._is_long_down():
            self._fail(error)

    def _is_long_down(self) -> bool:
        return self._down_since_s is not None and self._loop.time() - self._down_since_s >= PATIENCE_S

    def _wake(self, about: Hashable, revision: int) -> None:
        if waiting := self._waiting.pop(about, None):
            self._turns.admit(self, waiting, revision)

    def _fail(self, error: BaseException) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in chain.from_iterable(waiting.values()):
            if not waiter.done():
                waiter.set_exception(_anew(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A mistake of ours: those who wait must not wait for ever."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error(f"network {self._name}: following the store failed: {error!r}")
        self._task = None
        self._fail(error)
        if not self._started.done():
            self._started.set_exception(error)
            self._started.exception()  # nobody need have waited
            self._started = self._loop.create_future()


def _anew(error: BaseException) -> BaseException:
    """The same for one of many: raised again and again, one exception would gather the traces of all."""
    return type(error)(*error.args) if isinstance(error, StoreUnavailable | StoreRefused) else error
