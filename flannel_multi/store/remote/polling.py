"""Long polls of one server, their answers merged: the mechanics of a watch over v1. Knows nothing of what is watched.

Each line of questions has a connection of its own, on which the server says nothing until there is news. So while all
of them are silent something cheap is asked of the same server every PING_EVERY_S, to see that it lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from flannel_multi.model.errors import FlannelError, StoreUnavailable
from flannel_multi.store.client import BROKEN, Deadline, why
from flannel_multi.store.remote.session import Session, Told
from flannel_multi.store.tls import REMOTE
from flannel_multi.store.transport import Connection, Endpoint, Reply

OPEN_S = 5.0  # until a connection stands
PING_EVERY_S = 3.0
PING_S = 2.5  # to answer: a hung server is noticed 5.5 s after its last word, and said 4 s later if no other answers
C = TypeVar("C")


class Live(Generic[C]):
    """What several lines of questions to one server give, in one queue. `heard_s`: when it answered last."""

    def __init__(self, session: Session, endpoint: Endpoint, order: Callable[[C], int]) -> None:
        self.session = session
        self.endpoint = endpoint
        self._order = order
        self._loop = asyncio.get_running_loop()
        self._connections: list[Connection] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._given: list[tuple[list[C], asyncio.Future[None]]] = []
        self._news: asyncio.Future[None] | None = None
        self._fault: FlannelError | None = None
        self.heard_s = self._loop.time()

    def start(self, line: Coroutine[Any, Any, None]) -> None:
        """Runs `line`, which asks and gives until the watch ends; its error ends the watch."""
        task = self._loop.create_task(line)
        self._tasks.append(task)
        task.add_done_callback(self._ended)

    async def ping(self, look: Callable[[Deadline], Awaitable[None]]) -> None:
        """A line that looks at the server when all is silent. `look` raises FlannelError when it does not serve."""
        while True:
            await asyncio.sleep(max(0.0, self.heard_s + PING_EVERY_S - self._loop.time()))
            if self._loop.time() >= self.heard_s + PING_EVERY_S:
                await look(Deadline(PING_S))
                self.heard_s = self._loop.time()

    async def give(self, changes: list[C]) -> None:
        """Hands on `changes`; returns when they were taken. So a line has one answer in memory at most."""
        taken = self._loop.create_future()
        self._given.append((changes, taken))
        self._wake()
        await taken

    async def take(self) -> list[C]:
        """What was given, waited for. Lines that gave in one turn are merged by `order`: two answers that came at
        once are told as they happened. Raises what a line raised."""
        while not self._given:
            if self._fault is not None:
                raise self._fault
            self._news = self._loop.create_future()
            await self._news
        given, self._given = self._given, []
        for _, taken in given:
            if not taken.done():
                taken.set_result(None)
        return sorted((change for changes, _ in given for change in changes), key=self._order)

    async def close(self) -> None:
        for connection in self._connections:
            connection.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def opened(self, connection: Connection, instead: Connection | None) -> None:
        """`connection` ends with the watch; `instead` is done with."""
        if instead is not None:
            self._connections.remove(instead)
            instead.close()
        self._connections.append(connection)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._fault is None:
            self._fault = self._fault_of(error)
            for connection in self._connections:  # the other lines end too
                connection.close()
        self._wake()

    def _fault_of(self, error: BaseException) -> FlannelError:
        if isinstance(error, FlannelError):
            return error
        if isinstance(error, BROKEN):
            self.session.client.demote(self.endpoint)
            return StoreUnavailable(f"{self.endpoint}: the watch ended: {why(error, REMOTE)}")
        # A mistake of ours: a watch that had lost a line would never notice what it misses, so it ends.
        return StoreUnavailable(f"{self.endpoint}: the watch failed: {error!r}")

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class Line:
    """One long poll after the other, on a connection of its own."""

    def __init__(self, live: Live[C]) -> None:
        self._live = live
        self._connection: Connection | None = None

    async def ask(self, path: str) -> Told:
        """GET of `path`, answered when the server has news. Raises OSError, h11.RemoteProtocolError, FlannelError."""
        live = self._live
        if self._connection is None or not self._connection.reusable:
            fresh = await live.session.client.connect(live.endpoint, deadline=Deadline(OPEN_S))
            live.opened(fresh, self._connection)
            self._connection = fresh
        await self._connection.ask(path, None, (), method="GET")
        status = await self._connection.status()
        reply = Reply(status, await self._connection.rest(), self._connection.headers)
        live.heard_s = asyncio.get_running_loop().time()
        return live.session.told(live.endpoint, reply)
