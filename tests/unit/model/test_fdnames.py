"""Names of descriptors: systemd takes them, and no two networks share one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.fdnames import fd_name, role_of

NETWORKS = st.just("") | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
ROLES = st.from_regex(r"[a-z]{1,16}", fullmatch=True)


def test_the_name_says_network_and_role() -> None:
    assert fd_name("blue", "tun") == "blue.tun"
    assert fd_name("", "udp") == "_.udp"


@given(NETWORKS, ROLES)
def test_the_role_is_found_again_in_a_name_that_systemd_takes(network: str, role: str) -> None:
    name = fd_name(network, role)
    assert role_of(network, name) == role
    assert len(name) <= 255
    assert all(" " < letter < "\x7f" and letter != ":" for letter in name)


@given(NETWORKS, NETWORKS, ROLES)
def test_no_network_has_anothers_names(one: str, other: str, role: str) -> None:
    assert (role_of(one, fd_name(other, role)) is not None) == (one == other)


@pytest.mark.parametrize(
    "name",
    ["", "blue", "blue.", ".tun", "blue.TUN", "blue.tun1", "blue.tun\n", "blue.tün", "blue.t:n", "blue." + "a" * 17,
     "blue.tun.udp", "blue.x.tun", "Blue.tun", "green.tun", "_.tun"],
)  # fmt: skip
def test_what_is_no_name_of_a_network(name: str) -> None:
    assert role_of("blue", name) is None


@pytest.mark.parametrize("role", ["", "a" * 17, "Tun", "a.b", "a:b", "tun\n", "é"])
def test_a_word_that_is_no_role_is_refused(role: str) -> None:
    with pytest.raises(ValueError, match="is no role of a descriptor"):
        fd_name("blue", role)
