"""The few things this store does with keys: read ranges, compare and write. JSON requests out, key-value pairs in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd.answers import BadAnswer, Header, b64, number, objects, pair_of
from flannel_multi.store.etcd.gateway import Gateway
from flannel_multi.store.keys import Range
from flannel_multi.store.listing import KeyValue

PAGE = 1000  # keys an answer: more of them cost memory on both sides and save no time


class Page(NamedTuple):
    """Pairs of a range, in key order. `more`: the range goes on. `total`: keys in the whole range, filters ignored."""

    pairs: list[KeyValue]
    more: bool
    total: int


class Outcome(NamedTuple):
    """Of a transaction: `won` when every comparison held, and one page for each read that was then made."""

    header: Header
    won: bool
    pages: list[Page]


def range_request(keys: Range, **more: Any) -> dict[str, Any]:
    """The body of a range call; integers as strings in `more`, as etcd's own."""
    return {"key": b64(keys.start), **({"range_end": b64(keys.end)} if keys.end else {}), **more}


def read_op(keys: Range, **more: Any) -> dict[str, Any]:
    return {"requestRange": range_request(keys, **more)}


def put_op(key: bytes, value: bytes, *, lease_id: int | None) -> dict[str, Any]:
    """`lease_id` None: the key stays on the etcd lease it is on (or on none)."""
    hold: dict[str, Any] = {"ignore_lease": True} if lease_id is None else {"lease": str(lease_id)}
    return {"requestPut": {"key": b64(key), "value": b64(value), **hold}}


def delete_op(key: bytes) -> dict[str, Any]:
    return {"requestDeleteRange": {"key": b64(key)}}


def absent(key: bytes) -> dict[str, Any]:
    return {"key": b64(key), "target": "VERSION", "result": "EQUAL", "version": "0"}


def unchanged(key: bytes, revision: int) -> dict[str, Any]:
    return {"key": b64(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


async def transact(
    gateway: Gateway,
    *,
    when: Sequence[dict[str, Any]] = (),
    then: Sequence[dict[str, Any]],
    otherwise: Sequence[dict[str, Any]] = (),
    about: Range,
    deadline: Deadline,
) -> Outcome:
    """One transaction. Raises what `Gateway.call` raises."""
    request = {"compare": list(when), "success": list(then), "failure": list(otherwise)}
    endpoint, header, body = await gateway.call("/v3/kv/txn", request, about=about, deadline=deadline)
    try:
        found = [item.get("response_range", item.get("responseRange")) for item in objects(body.get("responses"))]
        pages = [page_of(item) for item in found if isinstance(item, dict)]
    except BadAnswer:
        raise gateway.bad_answer(endpoint) from None
    won = body.get("succeeded") is True
    reads = sum("requestRange" in op for op in (then if won else otherwise))
    if len(pages) != reads or not (won or when):
        raise gateway.bad_answer(endpoint)
    return Outcome(header, won, pages)


async def read_first(gateway: Gateway, keys: Range, *, deadline: Deadline, **more: Any) -> Outcome:
    """A range, and the point of history that it is of. Raises what `Gateway.call` raises."""
    request = range_request(keys, **more)
    endpoint, header, body = await gateway.call("/v3/kv/range", request, about=keys, deadline=deadline)
    try:
        return Outcome(header, True, [page_of(body)])
    except BadAnswer:
        raise gateway.bad_answer(endpoint) from None


async def read_page(gateway: Gateway, keys: Range, *, deadline: Deadline, **more: Any) -> Page:
    """One page of a range. Raises what `Gateway.call` raises."""
    return (await read_first(gateway, keys, deadline=deadline, **more)).pages[0]


async def read_key(gateway: Gateway, key: bytes, *, deadline: Deadline) -> KeyValue | None:
    """One key, or None when it is absent. Raises what `Gateway.call` raises."""
    page = await read_page(gateway, Range(key), deadline=deadline)
    return page.pairs[0] if page.pairs else None


def page_of(body: dict[str, Any]) -> Page:
    """Raises BadAnswer."""
    pairs = [pair_of(kv) for kv in objects(body.get("kvs"))]
    return Page(pairs, body.get("more") is True, number(body.get("count")))
