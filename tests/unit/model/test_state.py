"""The last known state: what is written is read, and whatever else stands there is a ValueError."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.state import KnownState, parse, render
from flannel_multi.model.subnet import Subnet

DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 40), 1 << 40) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
RECORDS = st.builds(
    lambda address, length, ip, kind, data, lease, revision: LeaseRecord(
        Subnet.of(address, length), LeaseAttrs(ip, kind, data), lease, revision
    ),
    st.integers(0, 0xFFFFFFFF), st.integers(0, 31), st.integers(0, 0xFFFFFFFF), st.text(max_size=6), DATA,
    st.integers(-(1 << 62), 1 << 62), st.integers(0, 1 << 62),
)  # fmt: skip
STATES = st.builds(
    KnownState, network=st.text(max_size=6), config=st.binary(max_size=30), public_ip=st.integers(0, 0xFFFFFFFF),
    mac=st.binary(min_size=6, max_size=6) | st.just(b""), lease=RECORDS, expires_at=st.integers(0, 1 << 40),
    revision=st.tuples(st.text(max_size=4), st.integers(0, 1 << 60)),
    peers=st.lists(RECORDS, max_size=3).map(tuple), daemon=st.text(max_size=6),
    confirmed=st.booleans(), lost=st.booleans(),
)  # fmt: skip


@given(STATES)
def test_a_state_is_read_as_it_was_written(state: KnownState) -> None:
    raw = render(state)
    assert parse(raw) == state
    assert raw.count(b"\n") == 1


GOOD = json.loads(
    render(
        KnownState(
            "blue", b"{}", 1, bytes(6), LeaseRecord(Subnet(0x0A010000, 24), LeaseAttrs(1), 7, 9), 5, ("c", 3), (), "d"
        )
    )
)
ROW = GOOD["lease"]
BROKEN: dict[str, dict[str, Any]] = {
    "version": {"version": 2},
    "network": {"network": 7},
    "config": {"config": None},
    "config that is no text": {"config": "\ud800"},
    "public IP": {"public_ip": "fe80::1"},
    "mac": {"mac": "00:00"},
    "mac text": {"mac": "zz:00:00:00:00:00"},
    "no lease": {"lease": None},
    "short lease": {"lease": ROW[:6]},
    "lease with host bits": {"lease": [ROW[0] + 1, *ROW[1:]]},
    "lease length": {"lease": [0, 32, *ROW[2:]]},
    "lease of a bool": {"lease": [*ROW[:5], True, 9]},
    "lease id too large": {"lease": [*ROW[:5], 1 << 64, 9]},
    "expires_at": {"expires_at": -1},
    "revision": {"revision": ["c"]},
    "revision number": {"revision": ["c", "3"]},
    "peers": {"peers": {}},
    "a peer": {"peers": [[]]},
    "a deep peer": {"peers": [[*ROW[:4], json.loads("[" * 50 + "]" * 50), *ROW[5:]]]},
    "daemon": {"daemon": None},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_was_not_written_by_us_is_refused(change: dict[str, Any]) -> None:
    parse(json.dumps(GOOD).encode())
    with pytest.raises(ValueError):
        parse(json.dumps(GOOD | change).encode())


@given(STATES, st.integers(0, 400), st.integers(0, 255))
def test_a_torn_or_flipped_file_is_a_state_or_a_value_error(state: KnownState, at: int, byte: int) -> None:
    raw = render(state)
    for broken in (raw[:at], raw[:at] + bytes([byte]) + raw[at + 1 :]):
        try:
            assert isinstance(parse(broken), KnownState)
        except ValueError:
            pass
