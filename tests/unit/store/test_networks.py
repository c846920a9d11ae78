"""Which keys of etcd name a network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.store.etcd.networks import network_of

FOLDER = b"/coreos.com/network/"


@pytest.mark.parametrize("name", ["blue", "a", "9", "B.x-y_z", "x" * 63, "config2", "subnets-"])
def test_the_config_key_of_a_valid_name_names_it(name: str) -> None:
    assert network_of(FOLDER, FOLDER + name.encode() + b"/config") == name


@pytest.mark.parametrize(
    "rest",
    [
        b"config", b"/config", b"blue", b"blue/", b"blue/configs", b"blue/config/", b"blue/subnets/config",
        b"blue/x/config", b"_/config", b"all/config", b"config/config", b"subnets/config", b".x/config", b"-x/config",
        b"x y/config", b"x" * 64 + b"/config", b"\xc3\xa9/config", b"blue\n/config", b"\xff/config",
    ],
)  # fmt: skip
def test_any_other_key_names_none(rest: bytes) -> None:
    assert network_of(FOLDER, FOLDER + rest) == ""


def test_a_key_outside_of_the_folder_names_none() -> None:
    assert network_of(FOLDER, b"/coreos.com/networks/blue/config") == ""
    assert network_of(FOLDER, b"blue/config") == ""


@given(st.binary(max_size=40))
def test_no_key_is_too_odd(key: bytes) -> None:
    assert "/" not in network_of(b"/", key)
