"""Whatever bytes the kernel sends, reading them never fails, and the fast way and the general one agree."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from flannel_multi.model.subnet import format_ip
from flannel_worker.kernel.events import Judge
from flannel_worker.kernel.frame import attribute, attributes, message, messages, pick
from flannel_worker.kernel.linkwire import parse_address, parse_link
from flannel_worker.kernel.objects import LinkState, Scope
from flannel_worker.kernel.requests import end_mark
from flannel_worker.kernel.seen import (
    EntrySeen,
    NexthopSeen,
    RouteSeen,
    parse_entry,
    parse_nexthop,
    parse_route,
    read_fdb,
    read_neighbours,
    read_nexthops,
    read_routes,
)

U32 = st.integers(0, 0xFFFFFFFF)
U8 = st.integers(0, 255)
INDEX = st.integers(0, 0x7FFFFFFF)
MAC = st.binary(min_size=6, max_size=6)
TYPES = st.sampled_from([2, 3, 16, 17, 20, 21, 24, 25, 28, 29, 104, 105])


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def ip(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(4, "big"))


@st.composite
def plain_routes(draw: st.DrawFn) -> bytes:
    """As the kernel dumps a route of ours; now and then of another type, with flags, in another table."""
    table, kind = draw(st.sampled_from([254, 254, 254, 255])), draw(st.sampled_from([1, 1, 1, 6, 2]))
    tos, flags = draw(st.sampled_from([0, 0, 8])), draw(st.sampled_from([0, 4, 0x14, 0x200]))
    length = draw(st.sampled_from([8, 24, 32, 40]))
    body = struct.pack("=8BI", draw(st.sampled_from([2, 2, 2, 10])), length, 0, tos, table, draw(U8), 0, kind, flags)
    by = draw(st.sampled_from([b"", b"", u32(30, draw(U32)), u32(6, draw(U32))]))
    return message(24, 2, body + u32(15, table) + ip(1, draw(U32)) + by + ip(5, draw(U32)) + u32(4, draw(INDEX)))


@st.composite
def entries(draw: st.DrawFn, family: int) -> bytes:
    head = struct.pack("=BxxxiHBB", draw(st.sampled_from([family, family, 10])), draw(INDEX), draw(U8), draw(U8), 0)
    dst, lladdr = ip(1, draw(U32)), attribute(2, draw(MAC))
    rest = attribute(3, bytes(16))
    odd = draw(st.sampled_from([b"", b"", u32(8, 1), attribute(6, b"\x12\xb5")]))
    if family == 2:
        return message(28, 2, head + dst + lladdr + u32(4, 0) + rest + odd)
    return message(28, 2, head + lladdr + dst + odd + rest)


@st.composite
def nexthops(draw: st.DrawFn) -> bytes:
    head = struct.pack(
        "=BBBBI", draw(st.sampled_from([2, 2, 10])), draw(U8), draw(U8), 0, draw(st.sampled_from([0, 4]))
    )
    gateway = draw(st.sampled_from([b"", ip(6, draw(U32)), ip(6, draw(U32))]))
    return message(104, 2, head + u32(1, draw(U32)) + u32(5, draw(INDEX)) + gateway)


def slow_routes(data: bytes) -> list[RouteSeen | None]:
    return [parse_route(data, m.start, m.end) for m in messages(data)]


def slow_neighbours(data: bytes) -> list[EntrySeen | None]:
    return [parse_entry(data, m.start, m.end, 2) for m in messages(data)]


def slow_fdb(data: bytes) -> list[EntrySeen | None]:
    return [parse_entry(data, m.start, m.end, 7) for m in messages(data)]


def slow_nexthops(data: bytes) -> list[NexthopSeen | None]:
    return [parse_nexthop(data, m.start, m.end) for m in messages(data)]


@pytest.mark.parametrize(
    ("rows", "fast", "slow"),
    [
        (plain_routes(), read_routes, slow_routes),
        (entries(2), read_neighbours, slow_neighbours),
        (entries(7), read_fdb, slow_fdb),
        (nexthops(), read_nexthops, slow_nexthops),
    ],
    ids=["routes", "neighbours", "fdb", "nexthops"],
)
@given(data=st.data())
def test_rows_are_read_as_the_walker_reads_them(
    data: st.DataObject,
    rows: st.SearchStrategy[bytes],
    fast: Callable[[bytes], list[object]],
    slow: Callable[[bytes], list[object]],
) -> None:
    text = b"".join(data.draw(st.lists(rows, max_size=6)))
    assert fast(text) == [item for item in slow(text) if item is not None]


@given(st.lists(plain_routes(), min_size=1, max_size=4))
def test_routes_are_read_as_pyroute2_reads_them(texts: list[bytes]) -> None:
    for text in texts:
        said = rtmsg(text)
        said.decode()
        for seen in read_routes(text):
            attrs = dict(said["attrs"])
            assert (seen.length, seen.protocol, seen.kind, seen.tos) == (
                said["dst_len"], said["proto"], said["type"], said["tos"],
            )  # fmt: skip
            assert format_ip(seen.dst) == attrs["RTA_DST"]
            assert format_ip(seen.gateway) == attrs["RTA_GATEWAY"]
            assert (seen.link, seen.table) == (attrs["RTA_OIF"], attrs["RTA_TABLE"])
            assert seen.metric == attrs.get("RTA_PRIORITY", 0)


@given(entries(2))
def test_neighbours_are_read_as_pyroute2_reads_them(text: bytes) -> None:
    said = ndmsg(text)
    said.decode()
    for seen in read_neighbours(text):
        attrs = dict(said["attrs"])
        assert (seen.link, seen.state) == (said["ifindex"], said["state"])
        assert (seen.mac.hex(":"), format_ip(seen.dst)) == (attrs["NDA_LLADDR"], attrs["NDA_DST"])


READERS: list[Callable[[bytes], object]] = [read_routes, read_neighbours, read_fdb, read_nexthops]


def read_all(data: bytes) -> None:
    for read in READERS:
        read(data)
    assert attributes(data, 0, len(data)).keys() >= pick(data, 0, len(data), frozenset(range(32))).keys()
    for found in messages(data):
        parse_link(data, found.start, found.end)
        parse_address(data, found.start, found.end)
        parse_route(data, found.start, found.end)
        parse_entry(data, found.start, found.end, 2)
        parse_nexthop(data, found.start, found.end)
    judge = Judge()
    judge.device = LinkState(9, "flannel.1", b"\2\0\0\0\0\xaa", 1450)
    judge.scope = Scope(9, 2, (0x0A050000, 16), frozenset({(0x0A050100, 24)}))
    list(judge.judge(data))
    if len(data) >= 16:
        end_mark(data)


@given(st.binary(max_size=400))
def test_no_bytes_make_a_reader_fail(data: bytes) -> None:
    read_all(data)


@given(st.lists(st.tuples(TYPES, st.binary(max_size=120)), max_size=5), st.integers(0, 40))
def test_no_message_makes_a_reader_fail_cut_off_or_whole(parts: list[tuple[int, bytes]], cut: int) -> None:
    data = b"".join(message(kind, 2, body + b"\0" * (-len(body) % 4)) for kind, body in parts)
    read_all(data[: max(len(data) - cut, 0)])


@given(
    st.lists(st.one_of(plain_routes(), entries(2), entries(7), nexthops()), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 300), U8), max_size=4),
)
def test_no_flipped_byte_makes_a_reader_fail(texts: list[bytes], flips: list[tuple[int, int]]) -> None:
    data = bytearray(b"".join(texts))
    for place, value in flips:
        data[place % len(data)] = value
    read_all(bytes(data))


@given(st.lists(plain_routes(), max_size=5), st.booleans())
def test_the_end_of_a_dump_is_found_behind_its_last_entries(texts: list[bytes], ends: bool) -> None:
    data = b"".join(texts) + (message(3, 2, bytes(4)) if ends else b"")
    if data:
        found = end_mark(data)
        assert (found is not None) == ends
        assert found is None or found.start == len(data) - 4
