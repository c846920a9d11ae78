"""Requests out of bytes, however these are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.server.http.limits import Limits
from flannel_multi.server.http.reading import Fault, RequestReader, Whole

LIMITS = Limits()


def whole_of(*pieces: bytes) -> Whole | None:
    reader = RequestReader(LIMITS)
    got = None
    for piece in pieces:
        assert got is None, "a reader is of no use after its request"
        got = reader.feed(piece)
    return got


def test_a_request_has_what_was_sent_and_what_came_after_it() -> None:
    got = whole_of(b"PUT /a%20b?next=1?2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HT")
    assert got == Whole("PUT", "/a%20b", "next=1?2", b"abc", True, True, b"GET / HT")


@pytest.mark.parametrize(
    ("head", "keep_alive", "modern"),
    [
        (b"GET / HTTP/1.1\r\nHost: x", True, True),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Close", False, True),
        (b"GET / HTTP/1.0", False, False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", False, False),
    ],
)
def test_who_stays_connected(head: bytes, keep_alive: bool, modern: bool) -> None:
    got = whole_of(head + b"\r\n\r\n")
    assert got is not None
    assert (got.keep_alive, got.modern) == (keep_alive, modern)


def test_a_reader_knows_how_far_it_is() -> None:
    reader = RequestReader(LIMITS)
    assert reader.feed(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n") is None
    assert not reader.in_body
    assert not reader.wants_continue()
    assert reader.feed(b"\r\n") is None
    assert reader.in_body
    assert reader.wants_continue()
    assert not reader.wants_continue()  # it has been told
    assert reader.feed(b"a") is None
    assert not reader.wants_continue()
    assert reader.feed(b"b") is not None


@given(
    bodies=st.lists(st.binary(max_size=200), min_size=1, max_size=5),
    chunked=st.booleans(),
    cuts=st.lists(st.integers(1, 50), min_size=1),
)
def test_a_stream_of_requests_gives_the_same_however_it_is_cut(
    bodies: list[bytes], chunked: bool, cuts: list[int]
) -> None:
    stream = b"".join(_request(body, chunked=chunked) for body in bodies)
    got, reader, at, turn = [], RequestReader(LIMITS), 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        piece, at, turn = stream[at : at + size], at + size, turn + 1
        while piece:
            whole = reader.feed(piece)
            piece = b""
            if whole is not None:
                got.append(whole.body)
                reader, piece = RequestReader(LIMITS), whole.rest
    assert got == bodies


@given(
    st.binary(min_size=1, max_size=300),
    st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n"]),
)
def test_any_bytes_are_a_request_a_part_of_one_or_a_fault(data: bytes, start: bytes) -> None:
    try:
        whole_of(start + data)
        return
    except Fault as caught:
        fault = caught
    assert fault.status in (400, 413, 414, 431, 501, 505)
    assert fault.text.isprintable()
    assert fault.text.isascii()
    assert len(fault.text) < 200


def _request(body: bytes, *, chunked: bool) -> bytes:
    head = b"POST /p HTTP/1.1\r\nHost: x\r\n"
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    middle = len(body) // 2
    parts = (part for part in (body[:middle], body[middle:]) if part)
    return (
        head
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        + b"0\r\n\r\n"
    )
