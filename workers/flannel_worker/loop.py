"""The event loop of a worker: what asyncio's tasks, futures, locks and time-outs need of one, on epoll, and no more.

asyncio's own loop does all this too, and signals, subprocesses, transports, streams, executors and a debug mode
besides. A forked worker pays for that: each Python function that it runs copies pages that all workers would share,
0.8 MB for a loop that turns and does nothing. Here an error in a callback ends the loop, and so the worker: one that
has lost a callback must not look alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import select
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from flannel_multi import log

_READ, _WRITE = select.EPOLLIN, select.EPOLLOUT
_READABLE, _WRITABLE = ~select.EPOLLOUT, ~select.EPOLLIN  # errors and hang-ups wake both sides
_LONGEST_S = 3600.0  # a sleep; epoll counts milliseconds in 32 bits
_T = TypeVar("_T")


class Handle:
    """A callback that is due, or will be."""

    __slots__ = ("_args", "_callback", "_context", "_when_s")

    def __init__(
        self, when_s: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self._when_s = when_s
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._context = context

    def cancel(self) -> None:
        self._callback, self._args = None, ()

    def cancelled(self) -> bool:
        return self._callback is None

    def when(self) -> float:
        return self._when_s

    def run(self) -> None:
        if self._callback is not None:
            if self._context is not None:
                self._context.run(self._callback, *self._args)
            else:
                self._callback(*self._args)


class Loop:
    """As `asyncio.AbstractEventLoop` has it, as far as it goes. Descriptors are watched by number, level-triggered."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._count = 0  # of timers: those of one time are called in the order in which they were set
        self._readers: dict[int, Handle] = {}
        self._writers: dict[int, Handle] = {}
        self.time = time.monotonic

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Turns until `main` has ended; its result, or what it raised."""
        asyncio._set_running_loop(cast(asyncio.AbstractEventLoop, self))
        try:
            task = self.create_task(main)
            while not task.done():
                self._turn()
            return task.result()
        finally:
            asyncio._set_running_loop(None)
            self._epoll.close()

    def _turn(self) -> None:
        wait_s = 0.0
        if not self._ready:
            wait_s = max(0.0, self._timers[0][0] - self.time()) if self._timers else _LONGEST_S
        for fd, events in self._epoll.poll(min(wait_s, _LONGEST_S)):
            if events & _READABLE and (reader := self._readers.get(fd)) is not None:
                self._ready.append(reader)
            if events & _WRITABLE and (writer := self._writers.get(fd)) is not None:
                self._ready.append(writer)
        now_s = self.time()
        while self._timers and self._timers[0][0] <= now_s:
            self._ready.append(heapq.heappop(self._timers)[2])
        for _ in range(len(self._ready)):  # what these call for comes in the next turn
            self._ready.popleft().run()

    # -- callbacks -----------------------------------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(0.0, callback, args, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay_s: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        return self.call_at(self.time() + delay_s, callback, *args, context=context)

    def call_at(
        self, when_s: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(when_s, callback, args, context)
        self._count += 1
        heapq.heappush(self._timers, (when_s, self._count, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(asyncio.AbstractEventLoop, self))

    def create_task(
        self, main: Coroutine[Any, Any, _T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[_T]:
        return asyncio.Task(main, loop=cast(asyncio.AbstractEventLoop, self), name=name, context=context)

    # -- descriptors ---------------------------------------------------------------------------------------------

    def add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
        self._watch(fd, self._readers, Handle(0.0, callback, args, None))

    def add_writer(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
        self._watch(fd, self._writers, Handle(0.0, callback, args, None))

    def remove_reader(self, fd: int) -> bool:
        return self._forget(fd, self._readers)

    def remove_writer(self, fd: int) -> bool:
        return self._forget(fd, self._writers)

    def _watch(self, fd: int, side: dict[int, Handle], handle: Handle) -> None:
        known = fd in self._readers or fd in self._writers
        if fd in side:
            side[fd].cancel()
        side[fd] = handle
        (self._epoll.modify if known else self._epoll.register)(fd, self._events(fd))

    def _forget(self, fd: int, side: dict[int, Handle]) -> bool:
        handle = side.pop(fd, None)
        if handle is None:
            return False
        handle.cancel()  # it may be due in this very turn
        if events := self._events(fd):
            self._epoll.modify(fd, events)
        else:
            self._epoll.unregister(fd)
        return True

    def _events(self, fd: int) -> int:
        return (_READ if fd in self._readers else 0) | (_WRITE if fd in self._writers else 0)

    # -- what asyncio asks ---------------------------------------------------------------------------------------

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._epoll.closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A task or future that failed and that nobody waited for."""
        log.error(f"{context.get('message')}: {context.get('exception')!r}")
