"""Addresses and subnets, against the standard library's slower ones."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.subnet import Subnet, format_ip, parse_ip

ADDRESSES = st.integers(0, 0xFFFFFFFF)
SUBNETS = st.builds(Subnet.of, ADDRESSES, st.integers(0, 32))


def twin(subnet: Subnet) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network((subnet.base, subnet.length))


@given(ADDRESSES)
def test_an_address_is_the_text_it_was(address: int) -> None:
    assert format_ip(address) == str(ipaddress.IPv4Address(address))
    assert parse_ip(format_ip(address)) == address


@given(st.text(max_size=16) | st.from_regex(r"[0-9.]{1,16}", fullmatch=True))
def test_a_text_is_an_address_exactly_when_the_standard_library_says_so(text: str) -> None:
    try:
        expected = int(ipaddress.IPv4Address(text))
    except ValueError:
        with pytest.raises(ValueError):
            parse_ip(text)
    else:
        assert parse_ip(text) == expected


@given(SUBNETS, SUBNETS, ADDRESSES)
def test_subnets_count_like_the_standard_librarys(one: Subnet, other: Subnet, address: int) -> None:
    assert one.overlaps(other) == twin(one).overlaps(twin(other))
    assert one.covers(other) == twin(other).subnet_of(twin(one))
    assert one.last == int(twin(one).broadcast_address)
    assert one.holds(address) == (ipaddress.IPv4Address(address) in twin(one))
    assert str(one) == str(twin(one))
    assert Subnet.parse(str(one)) == one


@given(st.builds(Subnet.of, ADDRESSES, st.integers(0, 31)))
def test_a_subnet_is_found_again_by_its_key(subnet: Subnet) -> None:
    assert Subnet.from_key(subnet.key) == subnet


@pytest.mark.parametrize(
    "key",
    ["", "10.1.2.0", "10.1.2.0-", "10.1.2.0-32", "10.1.2.1-24", "010.1.2.0-24", "10.1.2.0-024", "256.1.2.0-24",
     "10.1.2.0-24\n", "10.1.2.0-24x", "10.1.2.0/24", "１0.1.2.0-24", "10.1.2.0-+24", "fe80::-64"],
)  # fmt: skip
def test_a_key_that_names_no_subnet_is_none(key: str) -> None:
    assert Subnet.from_key(key) is None


@pytest.mark.parametrize("cidr", ["", "10.1.0.0", "10.1.0.0/", "10.1.0.0/33", "10.1.0.0/1a", "10.1.0.0/-1",
                                  "10.1.0.0/255.255.0.0", "10.1.0/16", "fe80::/64", "10.1.0.0/１6"])  # fmt: skip
def test_a_text_that_is_no_cidr_is_refused(cidr: str) -> None:
    with pytest.raises(ValueError):
        Subnet.parse(cidr)


def test_host_bits_are_masked_off() -> None:
    assert Subnet.parse("10.1.2.3/16") == Subnet(0x0A010000, 16)
