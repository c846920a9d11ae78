"""Whose long poll is answered next: a few at a time, from all networks by turns.

One change of a network can be news to thousands. Answered in one go they would hold the loop for a quarter of a
second, and so would their next questions: every write, which takes several turns of the loop, would take seconds, and
clients of other networks would wait with them. So a turn of the loop answers AT_ONCE of them. What happens meanwhile
is in the history when a client's turn comes, and goes out with the same answer to those who take many events.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable

AT_ONCE = 32  # a turn then takes about 3 ms, with the questions that follow on the last one's answers


class Turns:
    """The queues of those whose answer is ready, one for each network."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queues: OrderedDict[Hashable, deque[tuple[asyncio.Future[int], int]]] = OrderedDict()
        self._due = False

    def admit(self, network: Hashable, waiters: Iterable[asyncio.Future[int]], outcome: int) -> None:
        """Each of `waiters` has `outcome` when its turn comes."""
        queue = self._queues.get(network)
        if queue is None:
            queue = self._queues[network] = deque()
        queue.extend((waiter, outcome) for waiter in waiters)
        if not self._due:
            self._due = True
            self._loop.call_soon(self._serve)

    async def wait(self, network: Hashable) -> None:
        """Returns when it is the caller's turn."""
        waiter: asyncio.Future[int] = self._loop.create_future()
        self.admit(network, (waiter,), 0)
        await waiter

    def _serve(self) -> None:
        left = AT_ONCE
        while left and self._queues:
            network, queue = self._queues.popitem(last=False)
            while queue:
                waiter, outcome = queue.popleft()
                if not waiter.done():  # its client is still there
                    waiter.set_result(outcome)
                    left -= 1
                    break
            if queue:
                self._queues[network] = queue
        self._due = bool(self._queues)
        if self._due:
            self._loop.call_soon(self._serve)
