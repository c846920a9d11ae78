"""A live watch: one stream, and a word with the same endpoint now and then to see that it lives.

etcd's gateway reads a stream's requests before it answers, so nothing can be asked on the stream itself, and etcd 3.4
sends progress of its own every ten minutes only. So while the stream is silent a read of one key goes to the same
endpoint every PING_EVERY_S; its answer also shows a member without a leader, and a store whose data was replaced.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Generic, TypeVar

from flannel_multi.model.errors import Compacted, FlannelError, StoreUnavailable
from flannel_multi.store.client import BROKEN, Deadline, Stream, why
from flannel_multi.store.etcd.answers import BadAnswer, Header, Problem, b64
from flannel_multi.store.etcd.events import Line, changes, read_line
from flannel_multi.store.etcd.gateway import Gateway
from flannel_multi.store.etcd.pairs import range_request
from flannel_multi.store.keys import NetworkKeys, Range
from flannel_multi.store.listing import MAX_LINES
from flannel_multi.store.protocol import Change, ConfigWritten, LeaseGone, LeaseWritten, Revision, Skipped
from flannel_multi.store.transport import Endpoint

OPEN_S = 5.0  # until the stream stands
PING_EVERY_S = 3.0
PING_S = 3.0  # to answer: a hung endpoint is noticed 6 s after its last word, and said 4 s later if no other answers
SKIPS_A_LINE = 1000  # after the first MAX_LINES skipped keys, one line for so many


T = TypeVar("T")


def watch(gateway: Gateway, keys: NetworkKeys, after: Revision) -> AsyncGenerator[Change, None]:
    """Every change of one network after `after`; see `LeaseStore.watch`."""
    return follow(_NetworkWatch(gateway, keys, after))


async def follow(live: Watch[T]) -> AsyncGenerator[T, None]:
    """What `live` makes of every event. Raises Compacted, StoreUnavailable, StoreRefused."""
    try:
        line = await live.open()
        while True:
            for change in live.changes(line):
                yield change
            line = await live.next_line()
    finally:
        await live.close()


class Watch(Generic[T]):
    """A stream of what happens in `ranges` after `after`. `probe` is the key that its endpoint is asked for.

    A subclass says what events mean, and keeps `_settled`.
    """

    def __init__(self, gateway: Gateway, ranges: tuple[Range, ...], probe: bytes, after: Revision) -> None:
        self._gateway = gateway
        self._ranges = ranges
        self._probe = probe
        self._after = after
        self._about = ranges[-1]
        self._stream: Stream | None = None
        self._lines: AsyncGenerator[bytes, None]
        self._pinger: asyncio.Task[None] | None = None
        self._fault: FlannelError | None = None
        self._heard_s = 0.0
        self._settled = after.number  # every change up to here was given out

    async def open(self) -> Line:
        """The first line, once the watch stands on the history that we know."""
        deadline = Deadline(OPEN_S)
        line = await self._stand(deadline)
        await self._check_history(line.header, deadline)
        self._heard_s = asyncio.get_running_loop().time()
        self._pinger = asyncio.create_task(self._ping())
        self._pinger.add_done_callback(self._pinger_ended)
        return line

    async def next_line(self) -> Line:
        try:
            raw = await anext(self._lines)
        except StopAsyncIteration:
            raise self._fault or StoreUnavailable(f"{self._endpoint}: etcd ended the watch") from None
        except BROKEN as error:
            if self._fault is not None:
                raise self._fault from None
            self._gateway.client.demote(self._endpoint)
            raise StoreUnavailable(f"{self._endpoint}: the watch ended: {why(error)}") from error
        self._heard_s = asyncio.get_running_loop().time()
        found = self._read(raw)
        if isinstance(found, Problem):
            self._gateway.forget_token(found)
            raise self._gateway.error(found, self._endpoint, self._about)
        if found.header.cluster != self._after.cluster:
            raise Compacted(f"{self._endpoint}: another cluster answers")
        return found

    def changes(self, line: Line) -> Iterator[T]:
        """What `line` changes, as it is given out. Raises StoreRefused."""
        try:
            yield from self.read(line)
        except BadAnswer:
            raise self._gateway.bad_answer(self._endpoint) from None

    def read(self, line: Line) -> Iterator[T]:
        """What the events of `line` mean. Raises BadAnswer."""
        raise NotImplementedError

    async def close(self) -> None:
        if self._stream is not None:
            self._stream.connection.close()
            await self._lines.aclose()
        if self._pinger is not None:
            self._pinger.cancel()
            await asyncio.wait([self._pinger])

    @property
    def _endpoint(self) -> Endpoint:
        assert self._stream is not None
        return self._stream.endpoint

    async def _stand(self, deadline: Deadline) -> Line:
        """Opens the stream and reads its first line; again with a new auth token if it asks for one."""
        requests = [
            {"create_request": range_request(keys, start_revision=str(self._after.number + 1))} for keys in self._ranges
        ]
        body = b"".join(json.dumps(request).encode() + b"\n" for request in requests)
        for first in (True, False):
            await self.close()
            self._stream = await self._gateway.stream("/v3/watch", body, deadline=deadline, about=self._about)
            self._lines = self._stream.connection.lines()
            try:
                async with deadline.part(1.0):
                    found = self._read(await anext(self._lines))
            except StopAsyncIteration:
                raise StoreUnavailable(f"{self._endpoint}: etcd ended the watch at once") from None
            except BROKEN as error:
                self._gateway.client.demote(self._endpoint)
                raise StoreUnavailable(f"{self._endpoint}: no watch: {why(error)}") from error
            if not isinstance(found, Problem):
                return found
            if not (first and self._gateway.forget_token(found)):
                raise self._gateway.error(found, self._endpoint, self._about)
        raise AssertionError("unreachable")

    def _read(self, raw: bytes) -> Line | Problem:
        try:
            return read_line(raw, https=self._endpoint.scheme == "https")
        except BadAnswer:
            raise self._gateway.bad_answer(self._endpoint) from None

    async def _check_history(self, header: Header, deadline: Deadline) -> None:
        """Raises Compacted when the endpoint's history is not the one `after` is a point of.

        A follower may be behind, so a low revision counts only when a linearizable read says so too.
        """
        if header.cluster == self._after.cluster and header.revision < self._after.number:
            header = await self._ask(deadline)
        if header.cluster != self._after.cluster or header.revision < self._after.number:
            raise Compacted(f"{self._endpoint}: the store is another, or older, than the one known")

    async def _ping(self) -> None:
        """While the stream is silent, sees that its endpoint lives; ends the stream when it does not."""
        assert self._stream is not None
        clock = asyncio.get_running_loop().time
        try:
            while True:
                await asyncio.sleep(max(0.0, self._heard_s + PING_EVERY_S - clock()))
                if clock() < self._heard_s + PING_EVERY_S:
                    continue
                floor = self._settled  # as it is now: changes may come while the answer is on its way
                header = await self._ask(Deadline(PING_S))
                if header.cluster != self._after.cluster or header.revision < floor:
                    raise Compacted(f"{self._endpoint}: the store's data was replaced")
                self._heard_s = clock()
        except FlannelError as error:
            self._fault = error
            self._stream.connection.close()

    def _pinger_ended(self, pinger: asyncio.Task[None]) -> None:
        """A watch whose pinger died of a mistake of ours would never notice a hung endpoint: it ends with it."""
        if not pinger.cancelled() and (error := pinger.exception()) is not None:
            self._fault = StoreUnavailable(f"{self._endpoint}: the watch's own look at it failed: {error!r}")
            if self._stream is not None:
                self._stream.connection.close()

    async def _ask(self, deadline: Deadline) -> Header:
        request = {"key": b64(self._probe), "count_only": True}
        about = Range(self._probe)
        result = await self._gateway.call("/v3/kv/range", request, deadline=deadline, about=about, at=self._endpoint)
        return result.header


class _NetworkWatch(Watch[Change]):
    """Config and leases of one network."""

    def __init__(self, gateway: Gateway, keys: NetworkKeys, after: Revision) -> None:
        super().__init__(gateway, keys.watched, keys.config, after)
        self._keys = keys
        self._skipped = 0

    def read(self, line: Line) -> Iterator[Change]:
        for found in changes(self._keys, line.events):
            change = self._given(found)
            if change is not None:
                yield change

    def _given(self, change: Change) -> Change | None:
        """`change` as it is given out, or None for a skip too many."""
        match change:
            case LeaseWritten(record):
                self._settled = max(self._settled, record.revision)
            case LeaseGone(_, revision):
                self._settled = max(self._settled, revision)
            case ConfigWritten(config, revision) if len(self._keys.watched) > 1:
                # Of two ranges on one stream etcd may tell the younger change first: the revision of a config must
                # not make a caller believe that it has seen the leases up to it.
                return ConfigWritten(config, min(revision, self._settled))
            case Skipped():
                self._skipped += 1
                if self._skipped > MAX_LINES:
                    if self._skipped % SKIPS_A_LINE:
                        return None
                    return Skipped(f"{self._skipped} keys skipped so far under {self._about} that are no leases")
            case _:
                pass
        return change
