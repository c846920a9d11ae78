"""What connections are waiting for, and until when: one timer for all of them.

A timer for each request would be the dearest part of serving it. Every kind of wait lasts equally long for all, so
those in it stand in a queue whose front ends first, and also is the one that has waited longest.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from enum import Enum, auto
from typing import Protocol

from flannel_multi.server.http.limits import Limits

GRACE_S = 0.1  # a newcomer's request, or the next one of an idle client, may be in the kernel already, unread
PROBE_S = 0.25  # a handler that is no long poll has answered by then


class Wait(Enum):
    """What must come next. A connection whose handler is at work waits for nothing that has an end."""

    HANDSHAKE = auto()
    HEAD = auto()
    BODY = auto()
    IDLE = auto()  # for the next request
    READER = auto()  # for the client to take its answer
    LINGER = auto()  # for the client's close
    PROBE = auto()  # for the time to find out whether a client that ended its side is still there


class Waiting(Protocol):
    """Someone in a queue. `wait` is for `Waits` alone to write."""

    wait: Wait | None

    def expired(self, kind: Wait) -> None:
        """The wait is over, and no longer entered."""

    def close(self) -> None:
        """Ends it at once."""


class Waits:
    """The queues of one server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = {
            Wait.HANDSHAKE: limits.handshake_s, Wait.HEAD: limits.head_s, Wait.BODY: limits.body_s,
            Wait.IDLE: limits.idle_s, Wait.READER: limits.stalled_s, Wait.LINGER: limits.linger_s,
            Wait.PROBE: PROBE_S,
        }  # fmt: skip
        self._queues: dict[Wait, OrderedDict[Waiting, float]] = {kind: OrderedDict() for kind in Wait}

    def enter(self, who: Waiting, kind: Wait | None) -> None:
        """From now on `who` waits for `kind`, whatever it waited for before; None: for nothing."""
        if who.wait is not None:
            del self._queues[who.wait][who]
        who.wait = kind
        if kind is None:
            return
        until_s = self._loop.time() + self._seconds[kind]
        self._queues[kind][who] = until_s
        if self._timer is None or self._timer.when() > until_s:
            self._arm(until_s)

    def count(self, kind: Wait) -> int:
        """How many wait for `kind`."""
        return len(self._queues[kind])

    def oldest(self, kind: Wait) -> Waiting | None:
        """Who has waited longest for `kind`."""
        return next(iter(self._queues[kind]), None)

    def oldest_without_request(self) -> Waiting | None:
        """Who is cut for a newcomer: of those that never completed a request the one that has waited longest; if all
        have, the one idle longest. None: all wait for an answer, or have not had their `GRACE_S`."""
        fronts = []
        came_before_s = self._loop.time() - GRACE_S
        for kind in (Wait.HANDSHAKE, Wait.HEAD, Wait.BODY):
            for who, until_s in self._queues[kind].items():
                fronts.append((until_s - self._seconds[kind], who))
                break
        if fronts and (oldest := min(fronts, key=lambda front: front[0]))[0] <= came_before_s:
            return oldest[1]
        for who, until_s in self._queues[Wait.IDLE].items():
            return who if until_s - self._seconds[Wait.IDLE] <= came_before_s else None
        return None

    def close(self) -> None:
        """Ends the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._fire)

    def _fire(self) -> None:
        """Those that left their queue in time did not touch the timer, so it may fire for nobody."""
        self._timer = None
        now_s = self._loop.time()
        for kind, queue in self._queues.items():
            while queue:
                who, until_s = next(iter(queue.items()))
                if until_s > now_s:
                    if self._timer is None or self._timer.when() > until_s:
                        self._arm(until_s)
                    break
                self.enter(who, None)
                who.expired(kind)
