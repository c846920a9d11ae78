"""Who of those that are not read from has gone.

A connection whose input has ended, or is paused, must leave the event loop's selector, which else reports it without
end; and then nobody would say that its client is gone. A second epoll can watch for that alone.
"""

from __future__ import annotations

import asyncio
import select
from typing import Protocol

_GONE = select.EPOLLHUP | select.EPOLLERR  # always reported, asked for or not


class Leaver(Protocol):
    def half_closed(self) -> None:
        """The client will send no more; it may still be reading."""

    def gone(self) -> None:
        """The connection is dead."""


class Departures:
    """Watches descriptors for hang-ups. An epoll can itself be watched by the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watched: dict[int, Leaver] = {}
        loop.add_reader(self._epoll.fileno(), self._look)

    def watch(self, fd: int, who: Leaver, *, ended: bool) -> None:
        """`ended`: its input has ended already, so that only a dead connection is news."""
        events = 0 if ended else select.EPOLLRDHUP
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watched[fd] = who

    def forget(self, fd: int) -> None:
        """Before `fd` is closed, or read from again."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Ends the watch of all."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._watched.clear()

    def _look(self) -> None:
        for fd, events in self._epoll.poll(0):
            who = self._watched.get(fd)  # None: closed by one before it in this list
            if who is None:
                continue
            if events & _GONE:
                who.gone()
            else:
                self._epoll.modify(fd, 0)
                who.half_closed()
