"""Keeps the mirror true: list, watch, and when that ends list again, with backoff."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, NamedTuple, cast

from flannel_multi.model.backoff import next_backoff_s
from flannel_multi.model.errors import Compacted, StoreRefused, StoreUnavailable
from flannel_multi.store.protocol import LeaseStore
from flannel_worker.mirror import Delta, Mirror

RETRY_FLOOR_S = 0.1
RETRY_CAP_S = 5.0  # flannel's own cap for a lost watch (spec §3.6)
STEADY_S = 5.0  # a watch that stood this long was sound: the next failure is a first one


class Fed(NamedTuple):
    """The store spoke, and the mirror changed by `delta`."""

    delta: Delta


class Down(NamedTuple):
    """The store gave no answer, or said no, with `reason`."""

    reason: str


async def feed(
    store: LeaseStore,
    network: str,
    mirror: Mirror,
    tell: Callable[[Fed | Down], None],
    *,
    timeout_s: float,
) -> None:
    """Runs for the life of the worker; every call to the store ends within `timeout_s`."""
    clock = asyncio.get_running_loop().time
    failures = 0
    while True:
        stood_at_s: float | None = None
        try:
            snapshot = await store.snapshot(network, known=mirror.known(), timeout_s=timeout_s)
            tell(Fed(mirror.listed(snapshot, now_s=clock())))
            stood_at_s = clock()  # a listing that takes its whole timeout to fail is no sound watch
            watch = cast(Any, store.watch(network, after=snapshot.revision))
            async with aclosing(watch):
                async for change in watch:
                    tell(Fed(mirror.changed(change)))
        except Compacted:
            reason = ""
        except (StoreUnavailable, StoreRefused) as error:
            reason = error.message
        else:
            reason = "the watch ended"
        failures = 1 if stood_at_s is not None and clock() - stood_at_s >= STEADY_S else failures + 1
        if failures == 1:
            continue  # it had been sound: perhaps one endpoint died and the next one answers
        if reason:
            tell(Down(reason))
        wait_s = next_backoff_s(failures - 1, floor_s=RETRY_FLOOR_S, cap_s=RETRY_CAP_S, jitter=random.random())
        await asyncio.sleep(wait_s)
