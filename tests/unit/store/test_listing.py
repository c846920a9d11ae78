"""Lease values read together must read as each does alone."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.lease import LeaseAttrs, decode_value, encode_value
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.listing import MAX_LINES, KeyValue, Skips, decode_values, records

KEYS = NetworkKeys.of("/p", "blue")
GOOD = encode_value(LeaseAttrs(0x0A090001, "vxlan", {"VNI": 1}))
PIECES = (b'{"PublicIP":"10.9.0.1"}', b'{"a":[1', b"2]}", b'"', b",", b"[", b"]", b"{}", b"", b"NaN", b"\xff", b"1")
odd_values = st.one_of(
    st.binary(max_size=30),
    st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["PublicIP", "x"]), inner),
        max_leaves=5,
    ).map(lambda value: json.dumps(value).encode()),
    st.just(GOOD),
)


def alone(value: bytes) -> LeaseAttrs | None:
    try:
        return decode_value(value)
    except ValueError:
        return None


@given(st.lists(odd_values, max_size=8))
def test_values_read_together_are_what_each_is_alone(values: list[bytes]) -> None:
    together = [None if isinstance(found, str) else found for found in decode_values(values)]
    assert together == [alone(value) for value in values]


def test_pieces_that_make_json_only_together_are_two_bad_values() -> None:
    found = decode_values([b'{"a":[1', b"2]}", GOOD + b"," + GOOD, GOOD])
    assert [isinstance(item, str) for item in found] == [True, True, True, False]


def test_keys_that_are_no_leases_are_lines_bounded_in_number() -> None:
    skips = Skips()
    pairs = [KeyValue(KEYS.subnets + b"x%d" % at, GOOD, 0, 1) for at in range(10_000)]
    pairs.append(KeyValue(KEYS.subnets + b"10.1.5.0-24", GOOD, 7, 9))
    found = records(KEYS, pairs, skips)
    assert list(found) == [Subnet.parse("10.1.5.0/24")]
    assert found[Subnet.parse("10.1.5.0/24")].lease_id == 7
    assert len(skips.lines) == MAX_LINES + 1
    assert skips.lines[-1].startswith("9980 more")
