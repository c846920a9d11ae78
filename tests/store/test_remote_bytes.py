"""A server that says anything: the remote store answers with one of its own errors, in time, whatever the bytes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flannel_multi.model.errors import Compacted, FlannelError
from flannel_multi.options import RemoteOptions
from flannel_multi.store.remote import RemoteStore
from tests.fuzz.test_store_bytes import CALLS, MAY_BE_COMPACTED, SAID, TIMEOUT_S, raw_answers, server

subnets = st.sampled_from(["10.1.5.0/24", "10.1.5.7/24", "0.0.0.0/0", "10.1.5.0/32", "x", "", None, 7])
times = st.sampled_from(
    ["2026-11-24T21:06:43.98Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "", "soon", 0, None]
)
numbers = st.one_of(st.none(), st.integers(-1, 1 << 70), st.integers(0, 1 << 70).map(str), st.text(max_size=3))
attributes = st.one_of(
    st.none(),
    st.just([]),
    st.fixed_dictionaries({"PublicIP": st.sampled_from(["1.2.3.4", "0.0.0.0", "zz", 5, None])}),
    st.just({"PublicIP": "1.2.3.5", "BackendType": "vxlan", "BackendData": {"VNI": 1, "VtepMAC": "\ud800"}}),
)
leases = st.fixed_dictionaries(
    {"Subnet": subnets, "Attrs": attributes, "Expiration": times}, optional={"Revision": numbers, "LeaseID": numbers}
)
events = st.fixed_dictionaries(
    {"type": st.sampled_from(["added", "removed", 0, None]), "lease": st.one_of(st.none(), leases)},
    optional={"network": st.sampled_from(["blue", "_", "../x", None, 4])},
)
pages = st.fixed_dictionaries({
    "events": st.one_of(st.none(), st.lists(events, max_size=3), st.just({})),
    "snapshot": st.one_of(st.none(), st.lists(st.one_of(leases, st.text(max_size=4), st.none()), max_size=3)),
    "cursor": st.one_of(numbers, st.sampled_from(["5", "6", "99"])),
})  # fmt: skip
refusals = st.sampled_from([
    (500, "100: Key not found (/coreos.com/network/blue) [7]"), (500, "100: Key not found () [" + "9" * 30 + "]"),
    (500, "out of subnets"), (500, "client: etcd cluster is unavailable"), (500, ""), (500, "\x00\xff"),
    (500, "internal error: subnet: lease already taken"), (409, "lease 10.1.5.0/24 is held by 10.9.0.21"), (409, "no"),
    (403, '{"error":"not yours","identity":"db1"}'), (403, "{"), (403, "[" * 5000), (404, "404 page not found\n"),
    (404, "nginx"), (400, "Client sent an HTTP request to an HTTPS server.\n"), (401, "who?"), (301, ""), (503, "busy"),
])  # fmt: skip
HEADERS = [b"", b"Flannel-Cursor: 9\r\n", b"Flannel-Cursor: 9\r\nFlannel-Cluster: 1\r\n", b"Flannel-Cursor: -1\r\n",
           b"Flannel-Cursor: " + b"9" * 25 + b"\r\n", b"Date: Tue, 99 Foo 2026 99:99:99 GMT\r\n",
           b"Flannel-Cluster: \xff\x01\r\n"]  # fmt: skip


def _http(status: int, body: bytes, head: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (status, head, len(body), body)


headers = st.sampled_from(HEADERS)
said = st.one_of(
    st.builds(lambda page, head: _http(200, _json(page), head), st.one_of(pages, leases), headers),
    st.builds(lambda no, head: _http(no[0], no[1].encode("latin-1"), head), refusals, headers),
    raw_answers,
)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("call", CALLS)
@settings(max_examples=60)
@given(answers=st.lists(said, max_size=5), hang=st.booleans())
def test_whatever_a_server_sends_is_an_answer_or_a_store_error_in_time(
    call: str, answers: list[bytes], hang: bool
) -> None:
    async def story() -> None:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        async with server(answers, hang=hang) as url:
            store = RemoteStore(RemoteOptions((url,)))
            began_s = asyncio.get_running_loop().time()
            said: FlannelError | None = None
            try:
                await CALLS[call](store)  # type: ignore[arg-type]  # the same calls, of any ledger
            except SAID as error:
                said = error
            finally:
                await store.close()
            assert asyncio.get_running_loop().time() - began_s < 2 * TIMEOUT_S + 1
            assert not isinstance(said, Compacted) or call in MAY_BE_COMPACTED
            assert said is None or said.message.isprintable()
            assert said is None or "the watch failed" not in said.message  # a mistake of ours
        assert not faults

    asyncio.run(story())
