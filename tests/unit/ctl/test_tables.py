"""Tables and spans of time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.ctl.outcome import counted, some
from flannel_multi.ctl.tables import ends, span, table
from flannel_multi.store.expiries import NEVER


def test_columns_are_as_wide_as_they_need_to_be() -> None:
    assert table(("A", "LONGER"), [("one", "x"), ("three", "")]) == "A      LONGER\none    x\nthree"


@given(st.lists(st.tuples(st.text(), st.text())))
def test_no_cell_forges_a_line(rows: list[tuple[str, str]]) -> None:
    text = table(("A", "B"), rows)
    assert len(text.split("\n")) == len(rows) + 1
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m 1s"), (3600, "1h"), (3661, "1h 1m"), (86400, "24h")],
)
def test_a_span_has_two_units_at_most(seconds: int, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("end_s", "text"),
    [(NEVER, "reservation"), (None, "unknown"), (1090, "in 1m 30s"), (900, "in 0s")],
)
def test_the_end_of_a_lease_in_words(end_s: int | None, text: str) -> None:
    assert ends(end_s, 1000.0) == text


def test_long_lists_are_cut_and_counted() -> None:
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some("abcde") == "a, b, c and 2 more"
    assert [counted(1, "lease"), counted(2, "lease"), counted(2, "is", "are")] == ["1 lease", "2 leases", "2 are"]
