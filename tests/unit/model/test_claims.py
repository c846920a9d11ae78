"""When two networks cannot both have what they ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.claims import KINDS, Claim, clash

PAIRS = [
    (("cidr", "10.1.0.0/16"), ("cidr", "10.1.0.0/16"), True),
    (("cidr", "10.0.0.0/8"), ("cidr", "10.1.0.0/16"), True),
    (("cidr", "10.1.0.0/16"), ("cidr", "10.2.0.0/16"), False),
    (("cidr", "0.0.0.0/0"), ("cidr", "192.0.2.0/24"), True),
    (("device", "flannel.1"), ("device", "flannel.1"), True),
    (("device", "flannel.1"), ("device", "flannel.2"), False),
    (("vni-port", "1/8472"), ("vni-port", "1/4789"), False),
    (("vni-port", "1/8472"), ("vni-port", "1/8472"), True),
    (("udp-port", "8285"), ("udp-port", "8285"), True),
    (("udp-port", "8285"), ("udp-port", "8286"), False),
    (("udp-port", "8285"), ("vni-port", "12/8285"), True),
    (("vni-port", "8285/8472"), ("udp-port", "8285"), False),
    (("udp-port", "8285"), ("cidr", "8285"), False),
    (("env-file", "/a"), ("env-file", "/a"), True),
    (("env-file", "/a"), ("device", "/a"), False),
]


@pytest.mark.parametrize(("one", "other", "clashes"), PAIRS)
def test_equal_names_and_overlapping_ranges_clash(one: tuple[str, str], other: tuple[str, str], clashes: bool) -> None:
    assert clash(Claim(*one), Claim(*other)) is clashes
    assert clash(Claim(*other), Claim(*one)) is clashes


CLAIM = st.builds(Claim, st.sampled_from(KINDS), st.text(max_size=6) | st.sampled_from(["10.1.0.0/16", "10.1.2.0/24"]))


@given(CLAIM, CLAIM)
def test_a_clash_is_mutual_and_a_claim_clashes_with_itself(one: Claim, other: Claim) -> None:
    assert clash(one, other) == clash(other, one)
    assert clash(one, one)
