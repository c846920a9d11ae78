"""Bytes that nobody vouches for, at both ends of protocol v1: bodies of clients, and answers of servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flannel_multi.model import v1
from flannel_multi.model.lease import encode_value
from flannel_multi.server import bodies

names = st.sampled_from([
    "Subnet", "subnet", "Attrs", "ATTRS", "PublicIP", "publicip", "BackendType", "BackendData", "Expiration",
    "Revision", "LeaseID", "events", "snapshot", "cursor", "type", "lease", "network", "x",
])  # fmt: skip
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(alphabet=st.characters(), max_size=8),
    st.sampled_from(["10.1.5.0/24", "1.2.3.4", "added", "removed", "7", "2026-11-24T21:06:43Z", "vxlan", "9" * 30]),
)  # fmt: skip
shapes = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6), max_leaves=20
)
documents = st.one_of(shapes, st.dictionaries(names, shapes, max_size=6)).map(lambda value: json.dumps(value).encode())
anything = st.one_of(
    st.binary(max_size=200), documents, st.builds(bytes.__add__, documents, st.binary(max_size=5)),
    documents.flatmap(lambda raw: st.integers(0, len(raw)).map(lambda end: raw[:end])),
    st.builds(lambda depth, form: form[0] * depth + form[1] * depth, st.integers(1, 3000),
              st.sampled_from([(b"[", b""), (b'{"a":', b""), (b"[", b"]")])),
    st.integers(1, 3000).map(lambda depth: b'{"Subnet":' + b"[" * depth + b"]" * depth + b"}"),
)  # fmt: skip
BODIES: dict[str, Callable[[bytes], Any]] = {
    "attrs": bodies.read_attrs, "lease": bodies.read_lease, "reservation": bodies.read_reservation,
}  # fmt: skip
ANSWERS: dict[str, Callable[[bytes], Any]] = {
    "watch": v1.read_watch, "object": v1.read_object, "json": v1.read_json, "reservations": v1.read_reservations,
    "lease": lambda raw: v1.read_lease(v1.read_json(raw)),
}  # fmt: skip


def outcome(read: Callable[[bytes], Any], raw: bytes, refusal: type[Exception]) -> tuple[Any, str]:
    """What was read, or why it was not. Nothing but `refusal` may be raised."""
    try:
        return read(raw), ""
    except refusal as error:
        return None, str(error)


@pytest.mark.parametrize("read", BODIES.values(), ids=BODIES.keys())
@given(anything)
@example(b'{"Subnet":"\\ud800"}')
@example(b'{"BackendData":1e999}')
def test_any_body_is_read_or_refused_in_words(read: Callable[[bytes], Any], raw: bytes) -> None:
    found, why = outcome(read, raw, bodies.BadBody)
    assert not why or (why.startswith("JSON decoding error: ") and len(why) < 250)
    attrs = found if read is bodies.read_attrs else getattr(found, "attrs", None)
    if attrs is not None:
        json.loads(encode_value(attrs), parse_constant=pytest.fail)  # it goes into the store, for others to read


@pytest.mark.parametrize("read", ANSWERS.values(), ids=ANSWERS.keys())
@given(anything)
@example(b'{"events":[{"type":"added","lease":{"Subnet":"10.1.5.0/24","Attrs":{"BackendData":NaN}}}],"cursor":"1"}')
def test_any_answer_is_read_or_a_bad_answer(read: Callable[[bytes], Any], raw: bytes) -> None:
    _, why = outcome(read, raw, v1.BadAnswer)
    assert len(why) < 250


@given(st.lists(shapes, max_size=4), st.sampled_from(["events", "snapshot"]))
def test_one_bad_lease_among_others_is_skipped_with_a_line(items: list[Any], form: str) -> None:
    good = {"Subnet": "10.1.5.0/24", "Attrs": {"PublicIP": "1.2.3.4"}, "Expiration": "2026-11-24T21:06:43Z"}
    one = {"type": "added", "lease": good} if form == "events" else good
    told = v1.read_watch(json.dumps({form: [*items, one], "cursor": "7"}).encode())
    found = [event.lease for event in told.events] if form == "events" else told.snapshot
    assert str(found[-1].subnet) == "10.1.5.0/24"
    assert len(found) + len(told.skipped) == len(items) + 1
