"""Attributes of a netlink message: whatever the bytes, what is broken ends them and nothing is raised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flannel_worker.datapath.rtnetlink import attr, attrs


@given(st.binary(max_size=200))
def test_any_bytes_are_attributes_or_none(data: bytes) -> None:
    assert all(len(value) <= len(data) for value in attrs(data).values())


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=5))
def test_what_is_packed_is_read_again(items: dict[int, bytes]) -> None:
    assert attrs(b"".join(attr(kind, value) for kind, value in items.items())) == items
