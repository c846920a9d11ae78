"""Where a network's keys are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.subnet import Subnet
from flannel_multi.store.keys import SHOWN, NetworkKeys, Range, shown


def test_a_named_network_is_one_folder_and_one_watched_range() -> None:
    keys = NetworkKeys.of("/coreos.com/network", "blue")
    assert keys.config == b"/coreos.com/network/blue/config"
    assert keys.lease(Subnet.parse("10.1.5.0/24")) == b"/coreos.com/network/blue/subnets/10.1.5.0-24"
    assert keys.watched == (Range(b"/coreos.com/network/blue/", b"/coreos.com/network/blue0"),)


def test_the_unnamed_network_watches_its_config_and_its_subnets_alone() -> None:
    keys = NetworkKeys.of("/coreos.com/network", "")
    assert keys.watched == (
        Range(b"/coreos.com/network/config"),
        Range(b"/coreos.com/network/subnets/", b"/coreos.com/network/subnets0"),
    )


@pytest.mark.parametrize("prefix", ["", "/"])
def test_the_root_is_a_prefix_too(prefix: str) -> None:
    assert NetworkKeys.of(prefix, "").config == b"/config"
    assert NetworkKeys.of(prefix, "blue").subnets == b"/blue/subnets/"


def test_only_the_last_element_of_a_key_of_this_network_names_a_subnet() -> None:
    keys = NetworkKeys.of("/p", "blue")
    assert keys.subnet(b"/p/blue/subnets/10.1.5.0-24") == Subnet.parse("10.1.5.0/24")
    for foreign in (b"/p/green/subnets/10.1.5.0-24", b"/p/blue/subnets/x/10.1.5.0-24", b"/p/blue/config", b""):
        assert keys.subnet(foreign) is None


@given(st.binary(max_size=300))
def test_any_key_is_shown_as_one_short_printable_line(raw: bytes) -> None:
    text = shown(raw)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= SHOWN


@given(st.binary(max_size=60))
def test_any_key_names_a_subnet_or_none(raw: bytes) -> None:
    keys = NetworkKeys.of("/p", "blue")
    subnet = keys.subnet(keys.subnets + raw)
    assert subnet is None or keys.lease(subnet) == keys.subnets + raw
