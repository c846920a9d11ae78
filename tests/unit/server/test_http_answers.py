"""Heads of answers, and the date in them."""

from __future__ import annotations

import email.utils
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.server.exchange import JSON, Response
from flannel_multi.server.http.heads import head, http_date, text_answer

NOON_S = 1_790_000_000.9


def test_an_answer_says_type_date_and_length() -> None:
    assert head(Response(200, b"{}\n", JSON), NOON_S, close=False) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
        b"Date: Mon, 21 Sep 2026 14:13:20 GMT\r\nContent-Length: 3\r\n\r\n"
    )


def test_the_last_answer_says_so_and_an_unknown_status_has_a_phrase() -> None:
    assert head(Response(299), NOON_S, close=True) == (
        b"HTTP/1.1 299 Unknown\r\nConnection: close\r\nDate: Mon, 21 Sep 2026 14:13:20 GMT\r\nContent-Length: 0\r\n\r\n"
    )


def test_text_ends_without_an_end_of_line() -> None:
    assert text_answer(400, "bad subnet") == Response(400, b"bad subnet", "text/plain; charset=utf-8")


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\rb", "a\0b"])
def test_a_header_cannot_break_out(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        head(Response(301, headers=(("Location", value),)), NOON_S, close=False)


@given(st.integers(0, 4_000_000_000))
def test_dates_are_those_of_the_standard_library(now_s: int) -> None:
    assert http_date(now_s) == email.utils.formatdate(now_s, usegmt=True)


def test_the_date_moves_on() -> None:
    dates = [http_date(second) for second in range(100)]
    assert all(before != after for before, after in pairwise(dates))
