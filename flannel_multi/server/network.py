"""One network on the server: what the store says of it now, and what happened since a cursor, for any number of
clients over one watch of the store."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from flannel_multi import log
from flannel_multi.model.errors import Compacted, StoreRefused, StoreUnavailable
from flannel_multi.model.subnet import Subnet
from flannel_multi.model.v1 import NO_LEASE, BadAnswer, event_text, events_result, gone_text, read_json
from flannel_multi.server.board import Board
from flannel_multi.server.following import About, Follower
from flannel_multi.server.history import Event
from flannel_multi.server.turns import Turns
from flannel_multi.store.protocol import (
    Change,
    ConfigRead,
    ConfigWritten,
    LeaseGone,
    LeaseWritten,
    Ledger,
    NetworkChange,
    NetworkWritten,
    Revision,
    Skipped,
    Snapshot,
)

MOST_CONFIGS = 100  # changes of a config that are remembered
BEHIND = 1000  # answers that a client is behind: it catches up by a snapshot. flannel's etcd v2 kept so many events
SHARED = 100  # answers kept for clients whose turn comes later
SHARED_BYTES = 4 << 20  # of them together
LOOK_BACK_S = 1.5  # for what happened before this server began to look
TOLD_S = 2.0  # an end that was learnt so short a time before the key's event came is of the same write


class News(NamedTuple):
    """`body` answers a watch; None: the cursor cannot be served by events, so the answer is a snapshot."""

    body: bytes | None
    revision: Revision


class _Leases:
    """A network's leases and config as a source of events."""

    def __init__(self, ledger: Ledger, network: str, board: Board) -> None:
        self._ledger = ledger
        self._network = network
        self._board = board
        self._replacements = 0  # of the board, as the history knows them
        self.first: Snapshot | None = None
        self.configs: deque[ConfigRead] = deque(maxlen=MOST_CONFIGS)  # what it was written to since the first listing

    async def list(self) -> tuple[Revision, bool]:
        self.first = await self._board.read()
        replaced, self._replacements = self._board.replacements != self._replacements, self._board.replacements
        self.configs.clear()
        for line in self.first.skipped:
            log.warning(f"network {self._network or '_'}: {line}")
        return self.first.revision, replaced

    async def look(self) -> None:
        self._board.doubt()
        await self._board.read()
        if self._board.replacements != self._replacements:
            raise Compacted("the store's data was replaced")  # by another past, even where its numbers go on from ours

    def watch(self, after: Revision) -> AsyncIterator[Change]:
        return self._ledger.watch(self._network, after=after)

    async def read(self, change: Change) -> Event[Subnet] | None:
        match change:
            case LeaseWritten(record):
                self._ledger.expiries.doubt(record, older_than_s=TOLD_S)
                await self._board.learn([record])
            case ConfigWritten(raw, revision):
                self.configs.append(await self._config(raw, revision))
            case Skipped(text):
                log.warning(f"network {self._network or '_'}: {text}")
        return self.event(change)

    def event(self, change: Change) -> Event[Subnet] | None:
        """The change as clients are told of it, with the lease's end as far as it is known."""
        match change:
            case LeaseWritten(record):
                text, rich = (event_text("added", self._board.text(record, rich=rich)) for rich in (False, True))
                return Event(record.revision, record.subnet, text, rich)
            case LeaseGone(subnet, revision):
                text = event_text("removed", gone_text(subnet))
                return Event(revision, subnet, text, text)
            case _:
                return None

    async def _config(self, raw: bytes | None, revision: int) -> ConfigRead:
        """A change of the config. Of the unnamed network etcd may tell it before older changes of leases, and then
        numbers it with the last of those that it has told: a number that clients are past already."""
        assert self.first is not None
        if self._network:
            return ConfigRead(raw, self.first.revision._replace(number=revision))
        return await self._ledger.read_config(self._network)


class Network:
    """One network. `name` is "" for the unnamed one."""

    def __init__(self, ledger: Ledger, name: str, turns: Turns, replaced: Callable[[], None] = lambda: None) -> None:
        self._ledger = ledger
        self._name = name
        self.board = Board(ledger, name, replaced)
        self._source = _Leases(ledger, name, self.board)
        self.follower: Follower[Subnet, Change] = Follower(name or "_", self._source, turns)
        self._told: dict[tuple[int, int, int, bool, Subnet | None], News] = {}
        self._told_bytes = 0
        self._tip = 0  # a revision that the store is known to have reached
        self._looking = asyncio.Lock()

    async def next_events(self, cursor: int, subnet: Subnet | None, *, most: int, rich: bool) -> News:
        """The first events after `cursor` (0: from now), waited for. Raises StoreUnavailable, StoreRefused."""
        follower = self.follower
        await follower.start()
        cursor = cursor or follower.revision.number
        if not await self._reaches(cursor):
            return News(None, follower.revision)
        history = follower.history
        if history.newest > cursor:
            await follower.turn()
        if subnet is None and history.behind(cursor) > max(BEHIND * most, self.board.size):
            return News(None, follower.revision)
        while follower.history is history and cursor >= history.floor:
            if found := history.after(cursor, subnet, most=most):
                return self._news(found, subnet, rich=rich)
            happened_at = await follower.grown(About.ANYTHING if subnet is None else subnet)
            cursor = max(cursor, happened_at - 1)  # however much others had meanwhile, we have missed nothing
        return News(None, follower.revision)

    async def next_config(self, cursor: int) -> ConfigRead:
        """The config once it was written or deleted after `cursor`; at once where that cannot be told."""
        await self.follower.start()
        if await self._reaches(cursor):
            history = self.follower.history
            while self.follower.history is history and cursor >= history.floor:
                first = self._source.first
                if first is None or cursor < first.revision.number:
                    break  # before the first listing nobody looked whether the config changes
                for found in self._source.configs:
                    if found.revision.number > cursor:
                        return found
                await self.follower.grown(About.ASIDE)
        return await self._ledger.read_config(self._name)

    def _news(self, found: Sequence[Event[Subnet]], subnet: Subnet | None, *, rich: bool) -> News:
        """Thousands are told the same: in the same bytes, of which slow clients then hold one copy."""
        last = found[-1].revision
        key = (found[0].revision, last, len(found), rich, subnet)
        news = self._told.get(key)
        if news is None:
            body = events_result([event.rich if rich else event.text for event in found], last)
            self._told_bytes += len(body)
            if len(self._told) >= SHARED or self._told_bytes > SHARED_BYTES:
                self._told.clear()
                self._told_bytes = len(body)
            news = self._told[key] = News(body, self.follower.revision._replace(number=last))
        return news

    async def _reaches(self, cursor: int) -> bool:
        """True when events can be counted from `cursor`: it is neither of a future that the store does not know (a
        restored store: spec §0) nor of a past that is forgotten."""
        follower = self.follower
        if cursor > max(follower.revision.number, self._tip):
            self._tip = (await self.board.read()).revision.number
            if cursor > max(self._tip, follower.revision.number):
                return False
        if cursor < follower.replaced_at:
            return False
        if cursor < follower.history.floor:
            await self._look_back(cursor)
        return cursor >= follower.history.floor

    async def _look_back(self, cursor: int) -> None:
        """Reads from the store what happened between `cursor` and the beginning of our history (a client that comes
        back after this server was started anew)."""
        async with self._looking:
            history, first = self.follower.history, self._source.first
            if first is None or history.floor > first.revision.number or cursor >= history.floor:
                return  # it was cut to its measure; or somebody has looked as far back while we waited to
            try:
                changes = await self._ledger.replay(self._name, after=cursor, upto=first, timeout_s=LOOK_BACK_S)
            except (Compacted, StoreUnavailable):  # a long history is not worth the wait: a snapshot says it all
                return
            await self.board.learn([change.record for change in changes if isinstance(change, LeaseWritten)])
            events = [event for change in changes if (event := self._source.event(change)) is not None]
            if history.floor <= first.revision.number:
                history.before(cursor, [event for event in events if event.revision <= history.floor])

    @property
    def exists(self) -> bool:
        """Whether anything of it was ever seen in the store: clients may name any network."""
        return self.board.size > 0 or self.board.has_config or bool(self._source.configs)

    def dismiss(self) -> None:
        """Room is needed: those who wait for it are sent away."""
        self.follower.stop(
            StoreRefused(f"network {self._name or '_'} does not exist, and the server has no room for it")
        )
        self.board.close()

    def close(self) -> None:
        self.follower.stop()
        self.board.close()


class _Names:
    """The list of networks as a source of events."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def list(self) -> tuple[Revision, bool]:
        return (await self._ledger.networks()).revision, False

    async def look(self) -> None:
        await self._ledger.networks()

    def watch(self, after: Revision) -> AsyncIterator[NetworkChange]:
        return self._ledger.watch_networks(after=after)

    async def read(self, change: NetworkChange) -> Event[str] | None:
        if isinstance(change, NetworkWritten):
            found = await self._ledger.read_config(change.name)
            if found.config is not None and not _is_json(found.config):
                return None  # spec §0: what is none of ours is skipped
        kind = "added" if isinstance(change, NetworkWritten) else "removed"
        text = event_text(kind, NO_LEASE, network=change.name)
        return Event(change.revision, change.name, text, text)


def _is_json(raw: bytes) -> bool:
    try:
        read_json(raw)
    except BadAnswer:
        return False
    return True


class Networks:
    """The networks that come and go."""

    def __init__(self, ledger: Ledger, turns: Turns) -> None:
        self._ledger = ledger
        self.follower: Follower[str, NetworkChange] = Follower("list", _Names(ledger), turns)
        self._tip = 0

    async def next_event(self, cursor: int, *, wanted: Callable[[str], bool]) -> News:
        """The first event after `cursor` about a network that is `wanted`, waited for. Raises StoreUnavailable,
        StoreRefused."""
        follower = self.follower
        await follower.start()
        cursor = cursor or follower.revision.number
        if cursor > max(follower.revision.number, self._tip):
            self._tip = (await self._ledger.networks()).revision.number
            if cursor > max(self._tip, follower.revision.number):
                return News(None, follower.revision)
        history = follower.history
        while cursor >= follower.replaced_at and follower.history is history and cursor >= history.floor:
            found = history.after(cursor)
            if not found:
                await follower.grown(About.ANYTHING)
                continue
            cursor = found[-1].revision
            if texts := [event.text for event in found if wanted(event.subject)]:
                return News(events_result(texts, cursor), follower.revision._replace(number=cursor))
        return News(None, follower.revision)

    def close(self) -> None:
        self.follower.stop()
