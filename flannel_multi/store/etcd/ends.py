"""When leases end: etcd tells it of one etcd lease a call, 0.2 ms each with four under way (one at a time 0.45 ms)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice

from flannel_multi.model.lease import LeaseRecord
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd.answers import BadAnswer, number
from flannel_multi.store.etcd.gateway import Gateway, NoEtcdLease
from flannel_multi.store.expiries import Expiries
from flannel_multi.store.keys import Range

MOST = 100  # etcd leases asked for in one call: nobody waits for ten thousand of them; whoever needs all asks again
AT_ONCE = 4


async def learn(gateway: Gateway, expiries: Expiries, records: Iterable[LeaseRecord], deadline: Deadline) -> None:
    """See `Ledger.learn_expiries`. Asks for the first MOST that are unknown."""
    waiting = islice(iter(expiries.unknown(records)), MOST)
    asking = (_ask(gateway, expiries, waiting, deadline) for _ in range(AT_ONCE))
    for failed in await asyncio.gather(*asking, return_exceptions=True):
        if failed is not None:
            raise failed


async def _ask(gateway: Gateway, expiries: Expiries, waiting: Iterator[LeaseRecord], deadline: Deadline) -> None:
    """Asks for one of `waiting` after the other, which its siblings take from as well."""
    for record in waiting:
        try:
            request = {"ID": str(record.lease_id)}
            answer = await gateway.call("/v3/lease/timetolive", request, about=Range(b""), deadline=deadline)
            ttl_s = number(answer.body.get("TTL"))
        except NoEtcdLease:
            continue
        except BadAnswer:
            raise gateway.bad_answer(answer.endpoint) from None
        if ttl_s > 0:  # etcd says -1 of one that is gone
            expiries.note(record, ttl_s)
