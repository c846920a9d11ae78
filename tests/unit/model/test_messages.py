"""What parent and worker say: every message arrives as it was, foreign bytes are a ValueError."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.claims import Claim, Clash
from flannel_multi.model.messages import (
    MAX_BYTES,
    Beat,
    BlockerGone,
    ClaimAnswer,
    ClaimAsked,
    ClaimsDropped,
    Down,
    Facts,
    GiveWay,
    Keep,
    LetGo,
    Said,
    Stop,
    Up,
    decode,
    encode,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
CLAIMS = st.lists(st.builds(Claim, TEXT, TEXT), max_size=3).map(tuple)
CLASHES = st.lists(st.builds(Clash, st.builds(Claim, TEXT, TEXT), TEXT, TEXT), max_size=3).map(tuple)
COUNT = st.integers(0, 1 << 62)
MESSAGES: st.SearchStrategy[Up | Down] = st.one_of(
    st.builds(Said, TEXT, TEXT, st.booleans()),
    st.builds(Beat, COUNT),
    st.builds(Facts, TEXT, TEXT, TEXT, TEXT, TEXT, COUNT, COUNT, COUNT),
    st.builds(ClaimAsked, COUNT, CLAIMS, st.booleans()),
    st.builds(ClaimAnswer, COUNT, CLASHES),
    st.builds(Keep, TEXT),
    st.builds(LetGo, TEXT),
    st.sampled_from([GiveWay(), ClaimsDropped(), BlockerGone(), Stop()]),
)


@given(MESSAGES)
def test_a_message_arrives_as_it_was(message: Up | Down) -> None:
    assert decode(encode(message)) == message


FOREIGN = {
    "nothing": b"",
    "no JSON": b"hello",
    "not UTF-8": b"\xff\xfe",
    "deep": b"[" * 60_000,
    "a list": b"[]",
    "no version": b'{"kind":"Stop"}',
    "another version": b'{"v":2,"kind":"Stop"}',
    "no kind": b'{"v":1}',
    "unknown kind": b'{"v":1,"kind":"Exec"}',
    "a kind that is no text": b'{"v":1,"kind":["Stop"]}',
    "a field too many": b'{"v":1,"kind":"Stop","now":true}',
    "a field too few": b'{"v":1,"kind":"Beat"}',
    "text for a number": b'{"v":1,"kind":"Beat","progress":"7"}',
    "a bool for a number": b'{"v":1,"kind":"Beat","progress":true}',
    "a fraction": b'{"v":1,"kind":"Beat","progress":1.5}',
    "null": b'{"v":1,"kind":"Said","phase":null}',
    "claims that are no list": b'{"v":1,"kind":"ClaimAsked","serial":1,"claims":7}',
    "a claim that is no object": b'{"v":1,"kind":"ClaimAsked","serial":1,"claims":["x"]}',
    "a claim of numbers": b'{"v":1,"kind":"ClaimAsked","serial":1,"claims":[{"kind":1,"name":[]}]}',
    "a claim too long": b'{"v":1,"kind":"ClaimAsked","serial":1,"claims":[{"kind":"a","name":"b","x":1}]}',
    "a clash without claim": b'{"v":1,"kind":"ClaimAnswer","serial":1,"clashes":[{"holder":"a","held":"b"}]}',
    "a clash of a list": b'{"v":1,"kind":"ClaimAnswer","serial":1,"clashes":[["claim"]]}',
    "a holder of another kind": b'{"v":1,"kind":"ClaimAnswer","serial":1,"clashes":[{"claim":{"kind":"a","name":"b"},'
    b'"holder":null,"held":"b"}]}',
    "a name that is no text": b'{"v":1,"kind":"Keep","name":7}',
    "no name": b'{"v":1,"kind":"LetGo"}',
    "claims where none belong": b'{"v":1,"kind":"Stop","claims":[]}',
}


@pytest.mark.parametrize("datagram", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_bytes_are_a_value_error(datagram: bytes) -> None:
    with pytest.raises(ValueError):
        decode(datagram)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["kind", "phase", "reason", "progress", "claims", "clashes", "serial", "held", "name"])
KINDS = st.sampled_from(["Said", "Beat", "Facts", "ClaimAsked", "ClaimAnswer", "GiveWay", "Stop", "Keep", "LetGo"])


ODD = st.builds(
    lambda kind, rest: json.dumps({**rest, "v": 1, "kind": kind}).encode(),
    KINDS,
    st.dictionaries(KEYS, JSON, max_size=4),
)


@given(st.binary() | ODD)
def test_any_bytes_are_a_message_or_a_value_error(datagram: bytes) -> None:
    try:
        message = decode(datagram)
    except ValueError:
        return
    assert decode(encode(message)) == message


def test_a_message_too_large_for_a_datagram_is_refused_when_it_is_sent() -> None:
    with pytest.raises(ValueError, match="Said"):
        encode(Said("ready", "x" * MAX_BYTES))
