"""Bytes that nobody vouches for, through every parser of the store, and through the whole of it from a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flannel_multi.model.config import parse_config
from flannel_multi.model.errors import (
    Compacted,
    FlannelError,
    KeyAbsent,
    LeaseHeld,
    LeaseLost,
    NoSubnetLeft,
    StoreRefused,
    StoreUnavailable,
)
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.options import EtcdOptions
from flannel_multi.store.etcd.answers import BadAnswer, Problem, b64, read
from flannel_multi.store.etcd.events import Line, changes, read_line
from flannel_multi.store.etcd.ledger import EtcdLedger
from flannel_multi.store.etcd.pairs import page_of
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.listing import Skips, records
from flannel_multi.store.protocol import Known, Lease, Revision, Snapshot
from flannel_multi.store.transport import Reply

KEYS = NetworkKeys.of("/p", "blue")
CONFIG = parse_config(b'{"Network":"10.1.0.0/16","Backend":{"Type":"alloc"}}')
SECRET = "hidden-word"
TIMEOUT_S = 0.1  # of the caller; that it runs out is a good end too

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8),
    st.sampled_from(["1", "7", "etcdserver: no leader", "etcdserver: invalid auth token", "permission denied",
                     "requested lease not found", "lease already exists", "required revision has been compacted",
                     b64(b"/p/blue/config"), b64(b"/p/blue/subnets/10.1.5.0-24"), b64(b'{"PublicIP":"1.2.3.4"}')]),
)  # fmt: skip
names = st.sampled_from([
    "header", "cluster_id", "revision", "raft_term", "kvs", "key", "value", "lease", "mod_revision", "count", "more",
    "succeeded", "responses", "response_range", "result", "events", "kv", "type", "created", "canceled",
    "cancel_reason", "compact_revision", "error", "message", "code", "ID", "TTL",
])  # fmt: skip
shapes = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6), max_leaves=20
)
documents = st.dictionaries(names, shapes, max_size=6)
bodies = st.one_of(st.binary(max_size=200), documents.map(lambda document: json.dumps(document).encode()))
HEADER = {"header": {"cluster_id": "1", "revision": "5", "raft_term": "2"}}
likely = documents.map(lambda document: json.dumps({**document, **HEADER}).encode())


@given(st.sampled_from([200, 204, 400, 401, 403, 404, 412, 429, 500, 503]), bodies, st.booleans())
def test_any_answer_is_an_object_or_a_problem_in_one_line(status: int, body: bytes, https: bool) -> None:
    found = read(Reply(status, body), https=https)
    if isinstance(found, Problem):
        assert found.text.isprintable()
        assert len(found.text) < 500
    else:
        assert isinstance(found, dict)


@given(bodies)
@example(b'{"result":{"header":{"cluster_id":1},"events":[{"kv":{"key":"*"}}]}}')
def test_any_line_of_a_watch_is_changes_a_problem_or_a_bad_answer(raw: bytes) -> None:
    try:
        found = read_line(raw, https=False)
        if isinstance(found, Line):
            list(changes(KEYS, found.events))
    except BadAnswer:
        return


@given(documents)
def test_any_page_of_a_listing_is_leases_and_skips_or_a_bad_answer(document: dict[str, Any]) -> None:
    skips = Skips()
    try:
        page = page_of(json.loads(json.dumps(document)))
    except BadAnswer:
        return
    assert len(records(KEYS, page.pairs, skips)) <= len(page.pairs)


# -- from a socket -------------------------------------------------------------------------------------------------


def http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


raw_answers = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=100).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail),
    st.binary(max_size=100).map(lambda tail: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + tail),
    st.sampled_from([
        b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/1.1 999 X\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46",
    ]),
    bodies.map(http),
    likely.map(http),
)  # fmt: skip


@asynccontextmanager
async def server(answers: list[bytes], *, hang: bool) -> Any:
    """A server that answers each request with the next of `answers`, and then hangs or closes."""
    left = list(answers)
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while left and await reader.read(65536):
                writer.write(left.pop(0))
                await writer.drain()
            if hang:
                await reader.read()
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.transport.abort()  # a close waits for a client that may not read any more

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the sockets close in the loop's next turn


OWN = Lease(LeaseRecord(Subnet.parse("10.1.5.0/24"), LeaseAttrs(0x01020304), 7, 5), 60)
ATTRS = LeaseAttrs(0x01020305)
AFTER = Revision("1", 5)
CALLS: dict[str, Callable[[EtcdLedger], Any]] = {
    "snapshot": lambda store: store.snapshot("blue", timeout_s=TIMEOUT_S),
    "difference": lambda store: store.snapshot("blue", known=Known(AFTER, {}), timeout_s=TIMEOUT_S),
    "acquire": lambda store: store.acquire("blue", CONFIG, ATTRS, prefer=None, timeout_s=TIMEOUT_S),
    "renew": lambda store: store.renew("blue", OWN, timeout_s=TIMEOUT_S),
    "publish": lambda store: store.publish("blue", OWN, ATTRS, timeout_s=TIMEOUT_S),
    "release": lambda store: store.release("blue", OWN, timeout_s=TIMEOUT_S),
    "watch": lambda store: _drained(store.watch("blue", after=AFTER)),
    "read_config": lambda store: store.read_config("blue", timeout_s=TIMEOUT_S),
    "write_config": lambda store: store.write_config("blue", b"{}", timeout_s=TIMEOUT_S),
    "delete_config": lambda store: store.delete_config("blue", timeout_s=TIMEOUT_S),
    "networks": lambda store: store.networks(timeout_s=TIMEOUT_S),
    "watch_networks": lambda store: _drained(store.watch_networks(after=AFTER)),
    "replay": lambda store: store.replay("blue", after=3, upto=Snapshot(AFTER, None, {}), timeout_s=TIMEOUT_S),
    "grant": lambda store: store.grant("blue", CONFIG, ATTRS, timeout_s=TIMEOUT_S),
    "put_lease": lambda store: store.put_lease("blue", OWN.record.subnet, ATTRS, timeout_s=TIMEOUT_S),
    "revoke": lambda store: store.revoke("blue", OWN.record.subnet, holder=7, timeout_s=TIMEOUT_S),
    "reserve": lambda store: store.reserve("blue", OWN.record.subnet, 7, timeout_s=TIMEOUT_S),
    "unreserve": lambda store: store.unreserve("blue", OWN.record.subnet, timeout_s=TIMEOUT_S),
    "learn_expiries": lambda store: store.learn_expiries([OWN.record], timeout_s=TIMEOUT_S),
}
SAID = (StoreUnavailable, StoreRefused, LeaseLost, LeaseHeld, KeyAbsent, NoSubnetLeft, Compacted)
MAY_BE_COMPACTED = {"watch", "watch_networks", "replay"}


async def _drained(watch: AsyncIterator[object]) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async for _ in watch:
                pass
    except TimeoutError:
        pass  # a watch that stands may be silent
    finally:
        await watch.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("call", CALLS)
@settings(max_examples=30)
@given(user=st.sampled_from(["", "fl"]), answers=st.lists(raw_answers, max_size=4), hang=st.booleans())
def test_whatever_a_server_sends_is_an_answer_or_a_store_error_in_time(
    call: str, user: str, answers: list[bytes], hang: bool
) -> None:
    async def story() -> None:
        async with server(answers, hang=hang) as url:
            store = EtcdLedger(EtcdOptions((url,), "/p", "", "", "", user, SECRET))
            began_s = asyncio.get_running_loop().time()
            said: FlannelError | None = None
            try:
                await CALLS[call](store)
            except SAID as error:
                said = error
            finally:
                await store.close()
            assert asyncio.get_running_loop().time() - began_s < 2 * TIMEOUT_S + 1
            assert not isinstance(said, Compacted) or call in MAY_BE_COMPACTED
            assert said is None or "\n" not in said.message
            assert said is None or SECRET not in said.message

    asyncio.run(story())
