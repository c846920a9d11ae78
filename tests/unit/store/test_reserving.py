"""What may be reserved in a network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.config import parse_config
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.reserving import NotReservable, check

CONFIG = parse_config(
    b'{"Network":"10.50.0.0/16","SubnetLen":24,"SubnetMin":"10.50.10.0","SubnetMax":"10.50.20.0",'
    b'"Backend":{"Type":"alloc"}}'
)


@pytest.mark.parametrize("subnet", ["10.50.15.0/24", "10.50.9.0/24", "10.50.0.0/24", "10.50.255.0/24"])
def test_any_subnet_of_the_network_may_be_reserved_also_outside_of_min_and_max(subnet: str) -> None:
    check(CONFIG, Subnet.parse(subnet))


def test_host_bits_of_what_was_asked_for_do_not_matter() -> None:
    asked = Subnet.parse("10.50.211.9/24")
    check(CONFIG, asked)
    assert asked.key == "10.50.211.0-24"


@pytest.mark.parametrize("subnet", ["10.50.9.0/25", "10.50.0.0/16", "10.0.0.0/8", "10.60.9.0/25"])
def test_a_subnet_of_another_length_is_refused_first_of_all_in_flannels_words(subnet: str) -> None:
    with pytest.raises(NotReservable, match=rf"{subnet} cannot be reserved: .* /24") as caught:
        check(CONFIG, Subnet.parse(subnet))
    assert caught.value.flannel == "reservation subnet has mask incompatible with network config"


@pytest.mark.parametrize("subnet", ["10.60.9.0/24", "10.49.255.0/24", "10.51.0.0/24"])
def test_a_subnet_outside_of_the_network_is_refused_in_flannels_words(subnet: str) -> None:
    with pytest.raises(NotReservable, match=rf"{subnet} cannot be reserved: .*10\.50\.0\.0/16") as caught:
        check(CONFIG, Subnet.parse(subnet))
    assert caught.value.flannel == "reservation subnet is outside of flannel network"


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 32))
def test_what_passes_is_a_subnet_that_the_network_is_made_of(address: int, length: int) -> None:
    subnet = Subnet.of(address, length)
    try:
        check(CONFIG, subnet)
    except NotReservable:
        assert length != 24 or not CONFIG.network.covers(subnet)
    else:
        assert length == 24
        assert CONFIG.network.covers(subnet)
