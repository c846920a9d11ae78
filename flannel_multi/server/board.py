"""All leases of one network as the store has them now, and as JSON: read once for everybody who asks at one time.

After a restart of a server thousands of clients list at once. An answer must not be older than its question, so one
who asks joins the next reading to begin, never the one under way; and each lease's JSON is made once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import time
from typing import NamedTuple

from flannel_multi import log
from flannel_multi.model.errors import FlannelError
from flannel_multi.model.lease import LEASE_TTL_S, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.model.v1 import lease_text, snapshot_result
from flannel_multi.store.protocol import Known, Ledger, Revision, Snapshot

ASKED_AT_ONCE = 100  # ends of leases that an answer waits for; the others are learnt behind it


class _Text(NamedTuple):
    """A lease's JSON, and what it was made of."""

    record: LeaseRecord
    end_s: int
    text: str


class _Page(NamedTuple):
    snapshot: Snapshot
    body: bytes


class Board:
    """The leases of one network."""

    def __init__(self, ledger: Ledger, network: str, replaced: Callable[[], None] = lambda: None) -> None:
        """`replaced` is told that the store's data was seen to be replaced."""
        self._ledger = ledger
        self._replaced = replaced
        self._doubt = False
        self.replacements = 0  # how often: only the first reading after one shows it
        self._network = network
        self._seen: Snapshot | None = None
        self._reading: asyncio.Task[Snapshot] | None = None
        self._next: asyncio.Task[Snapshot] | None = None
        self._learning: asyncio.Task[None] | None = None
        self._texts: dict[bool, dict[Subnet, _Text]] = {}  # by kind: rich, or not
        self._pages: dict[bool, _Page] = {}
        self._writing = asyncio.Lock()  # of a page: those who asked together are given one

    @property
    def size(self) -> int:
        """How many leases the last reading found."""
        return len(self._seen.leases) if self._seen is not None else 0

    @property
    def has_config(self) -> bool:
        """Whether the last reading found a config."""
        return self._seen is not None and self._seen.config is not None

    def doubt(self) -> None:
        """The store was away: the next reading compares everything."""
        self._doubt = True

    async def read(self) -> Snapshot:
        """The network, as it is at some time after this call. Raises StoreUnavailable, StoreRefused."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._read_after(self._reading))
        return await asyncio.shield(self._next)

    async def page(self, *, rich: bool) -> tuple[bytes, Revision]:
        """The answer that lists every lease. Raises as `read`."""
        snapshot = await self.read()
        page = self._pages.get(rich)
        if page is None or page.snapshot is not snapshot:
            async with self._writing:
                page = await self._written(snapshot, rich=rich)
        return page.body, snapshot.revision

    def text(self, record: LeaseRecord, *, rich: bool) -> str:
        return lease_text(record, self.end_s(record), revisions=rich)

    def end_s(self, record: LeaseRecord) -> int:
        """The lease's end in Unix seconds, 0 for none; where it is not known, the latest that it can be."""
        end_s = self._ledger.expiries.of(record)
        return int(time()) + LEASE_TTL_S if end_s is None else end_s

    async def learn(self, records: list[LeaseRecord]) -> None:
        """Asks for ends that are not known: for a few at once, for many behind this call."""
        unknown = self._ledger.expiries.unknown(records)
        if not unknown:
            return
        if len(unknown) > ASKED_AT_ONCE:
            if self._learning is None:
                self._learning = asyncio.get_running_loop().create_task(self._learn_all(unknown))
            return
        try:
            await self._ledger.learn_expiries(unknown)
        except FlannelError as error:
            log.debug(f"network {self._network or '_'}: ends of leases not learnt: {error.message}")

    def close(self) -> None:
        for task in (self._reading, self._next, self._learning):
            if task is not None:
                task.cancel()

    async def _read_after(self, before: asyncio.Task[Snapshot] | None) -> Snapshot:
        if before is not None:
            await asyncio.wait([before])
        self._reading, self._next = self._next, None
        seen, doubt = self._seen, self._doubt
        known = Known(seen.revision, seen.leases, doubt) if seen is not None else None
        self._seen = await self._ledger.snapshot(self._network, known=known)
        self._doubt = self._doubt and not doubt
        if self._seen.restored:
            self.replacements += 1
            self._replaced()
        return self._seen

    async def _learn_all(self, records: list[LeaseRecord]) -> None:
        try:
            for start in range(0, len(records), ASKED_AT_ONCE):
                await self._ledger.learn_expiries(records[start : start + ASKED_AT_ONCE])
        except FlannelError as error:
            log.debug(f"network {self._network or '_'}: ends of leases not learnt: {error.message}")
        finally:
            self._learning = None

    async def _written(self, snapshot: Snapshot, *, rich: bool) -> _Page:
        """The page of `snapshot`, or the one that somebody wrote of it while we waited to."""
        page = self._pages.get(rich)
        if page is None or page.snapshot is not snapshot:
            await self.learn(list(snapshot.leases.values()))
            texts = self._texts[rich] = self._told(snapshot, self._texts.get(rich, {}), rich=rich)
            body = snapshot_result((told.text for told in texts.values()), snapshot.revision.number)
            page = self._pages[rich] = _Page(snapshot, body)
        return page

    def _told(self, snapshot: Snapshot, before: Mapping[Subnet, _Text], *, rich: bool) -> dict[Subnet, _Text]:
        texts = {}
        for subnet in sorted(snapshot.leases):
            record = snapshot.leases[subnet]
            end_s = self.end_s(record)
            known = before.get(subnet)
            if known is None or known.record != record or known.end_s != end_s:
                known = _Text(record, end_s, lease_text(record, end_s, revisions=rich))
            texts[subnet] = known
        return texts
