"""A live watch of one network over v1: one line of long polls for its leases, another for its config."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from flannel_multi.model.errors import Compacted
from flannel_multi.model.v1 import BadAnswer, ToldWatch, read_watch
from flannel_multi.store.client import Deadline
from flannel_multi.store.protocol import Change, ConfigWritten, LeaseGone, LeaseWritten, Revision
from flannel_multi.store.remote.answers import Kind, cluster_of, record_of
from flannel_multi.store.remote.polling import OPEN_S, Line, Live
from flannel_multi.store.remote.reading import Config, config_of, read_config
from flannel_multi.store.remote.session import Seen, Session, Told, get, path_of

MOST_EVENTS = 1000  # of one answer of ours; an older server gives one
OLD_CONFIG_EVERY_S = 10.0  # an older server has no event for the unnamed network's config


async def watch(session: Session, network: str, after: Revision) -> AsyncGenerator[Change, None]:
    """Every change after `after`. Raises Compacted, StoreUnavailable, StoreRefused; see `LeaseStore.watch`."""
    now = await read_config(session, network, Deadline(OPEN_S))
    watching = _Watch(session, network, after, now)
    try:
        watching.start()
        while True:
            for change in await watching.live.take():
                yield change
    finally:
        await watching.live.close()


def _at(change: Change) -> int:
    match change:
        case LeaseWritten(record):
            return record.revision
        case LeaseGone(_, revision) | ConfigWritten(_, revision):
            return revision
        case _:
            return 0


class _Watch:
    def __init__(self, session: Session, network: str, after: Revision, now: Config) -> None:
        self._session = session
        self._network = network
        self._after = after
        self._now = now
        self._settled = after.number  # every lease change up to here was given out
        self._config = now.raw  # as it was given out, or is known
        self.live: Live[Change] = Live(session, now.told.endpoint, _at)

    def start(self) -> None:
        """Raises Compacted, StoreRefused."""
        told = self._now.told
        self._check_history(told, self._after.number)
        self.live.start(self._watch_leases())
        self.live.start(self._watch_config() if told.modern else self._watch_old_config())
        self.live.start(self.live.ping(self._look))

    # -- leases --------------------------------------------------------------------------------------------------

    async def _watch_leases(self) -> None:
        line, cursor = Line(self.live), self._after.number
        while True:
            query = f"leases?next={cursor}&max={MOST_EVENTS}&revisions=1"
            told = await line.ask(path_of(self._network, query))
            if told.problem is not None:
                if told.problem.kind is Kind.UNREADABLE and not told.modern:  # one that stumbles over poison (X29, X30)
                    raise Compacted(f"{told.endpoint}: {told.problem.text}")
                raise self._session.refusal(told)
            page = self._session.read(told, read_watch)
            if not page.events or page.skipped or page.cursor <= cursor or self._is_another(told):
                raise Compacted(f"{told.endpoint}: the history asked for is not there any more")
            await self.live.give(self._changes(told, page))
            cursor = self._settled = page.cursor
            self._remember(settled=self._after._replace(number=cursor))

    def _changes(self, told: Told, page: ToldWatch) -> list[Change]:
        """Raises Compacted for an event that cannot be understood: the listing shows what there is."""
        changes: list[Change] = []
        floor = self._settled
        for left, event in zip(range(len(page.events) - 1, -1, -1), page.events, strict=True):
            number = page.cursor if left == 0 else floor
            if event.removed:
                floor = max(floor, event.lease.revision or number)
                changes.append(LeaseGone(event.lease.subnet, floor))
                continue
            try:
                record = record_of(self._network, event.lease, number)
            except BadAnswer as error:
                raise Compacted(f"{told.endpoint}: {error}") from None
            self._session.note(told, event.lease, record)
            floor = max(floor, record.revision)
            changes.append(LeaseWritten(record))
        return changes

    # -- config --------------------------------------------------------------------------------------------------

    async def _watch_config(self) -> None:
        line, cursor = Line(self.live), await self._begin_config()
        while True:
            told = await line.ask(path_of(self._network, f"config?raw=1&next={cursor}"))
            found = config_of(self._session, told)
            if found.number <= cursor or self._is_another(told):
                raise Compacted(f"{told.endpoint}: the store is another, or older, than the one known")
            await self._give_config(found, found.number)
            cursor = found.number

    async def _begin_config(self) -> int:
        """From where changes of the config are asked for. One that has happened since it was last told is told at
        once: a server that was started meanwhile would not know when it happened."""
        seen = self._session.seen.get(self._network)
        if seen is None:
            return self._after.number
        if seen.config == self._now.raw:
            return min(seen.config_at, self._after.number) if seen.config_at else self._after.number
        await self._give_config(self._now, self._now.number)
        return self._now.number

    async def _watch_old_config(self) -> None:
        """Named networks have an event; the unnamed one, and 0.5, have none."""
        seen = self._session.seen.get(self._network)
        if seen is not None and seen.config != self._now.raw:
            await self._give_config(self._now, self._settled)
        if self._network:
            await self._watch_names()
        while True:
            await asyncio.sleep(OLD_CONFIG_EVERY_S)
            await self._compare_config()

    async def _watch_names(self) -> None:
        """Until the server cannot tell any more."""
        line, cursor = Line(self.live), self._after.number
        while True:
            told = await line.ask(f"/v1/?next={cursor}")
            if told.problem is not None and told.problem.kind in (Kind.NO_ROUTE, Kind.UNREADABLE):  # 0.5; X35
                await self._compare_config()
                return
            if told.problem is not None:
                raise self._session.refusal(told)
            page = self._session.read(told, read_watch)
            if any(event.network == self._network for event in page.events):
                await self._give_config(await self._ask_config(), self._settled)
            elif not page.events:
                await self._compare_config()
            if page.cursor <= cursor:
                raise Compacted(f"{told.endpoint}: the history asked for is not there any more")
            cursor = page.cursor

    async def _ask_config(self) -> Config:
        return await read_config(self._session, self._network, Deadline(OPEN_S), at=self.live.endpoint)

    async def _compare_config(self) -> None:
        found = await self._ask_config()
        if found.raw != self._config:
            await self._give_config(found, self._settled)

    async def _give_config(self, found: Config, number: int) -> None:
        self._config = found.raw
        await self.live.give([ConfigWritten(found.raw, number)])
        self._remember(config=found.raw, config_at=found.number)

    # -- both ----------------------------------------------------------------------------------------------------

    async def _look(self, deadline: Deadline) -> None:
        floor = self._settled  # as it is now: changes may come while the answer is on its way
        question = get(self._network, "config?raw=1&alive=1")
        told = await self._session.ask(question, deadline=deadline, at=self.live.endpoint)
        config_of(self._session, told)  # for its refusals: a server of ours tells no config here, only that it follows
        self._check_history(told, floor)

    def _check_history(self, told: Told, floor: int) -> None:
        """Raises Compacted when the server's history is not the one `after` is a point of."""
        here = self._session.revision(told, told.cursor or 0)
        lower = told.modern and here.number < floor
        if (here.cluster and here.cluster != self._after.cluster) or lower:
            raise Compacted(f"{told.endpoint}: the store is another, or older, than the one known")

    def _is_another(self, told: Told) -> bool:
        return told.modern and cluster_of(told.reply) not in ("", self._after.cluster)

    def _remember(self, **news: object) -> None:
        seen = self._session.seen.get(self._network) or Seen(self._after, self._now.raw, self._now.number)
        self._session.seen[self._network] = seen._replace(**news)  # type: ignore[arg-type]
