"""The env file: flannel's lines, and the subnet in whatever stands at its path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.envfile import previous_subnet, render
from flannel_multi.model.subnet import Subnet

SUBNETS = st.builds(Subnet.of, st.integers(0, 0xFFFFFFFF), st.integers(1, 30))


@given(SUBNETS, st.integers(68, 65535), st.booleans())
def test_the_subnet_that_was_written_is_the_one_read(subnet: Subnet, mtu: int, masq: bool) -> None:
    text = render(Subnet(0x0A000000, 8), subnet, mtu=mtu, ip_masq=masq)
    assert text.count("\n") == 4
    assert previous_subnet(text) == subnet


@pytest.mark.parametrize(
    ("text", "subnet"),
    [
        ("FLANNEL_SUBNET='10.1.2.1/24'", "10.1.2.0/24"),
        (' FLANNEL_SUBNET = "10.1.2.1/24" \r\n', "10.1.2.0/24"),
        ("FLANNEL_MTU=1450\nFLANNEL_SUBNET=10.1.2.1/24", "10.1.2.0/24"),
        ("FLANNEL_SUBNET=10.1.2.1", None),
        ("FLANNEL_SUBNET=10.1.2.1/33", None),
        ("FLANNEL_SUBNET=10.1.2.1/0", None),
        ("FLANNEL_SUBNET=10.1.2.01/24", None),
        ("FLANNEL_SUBNET=fe80::1/64", None),
        ("FLANNEL_IPV6_SUBNET=10.1.2.1/24", None),
        ("FLANNEL_SUBNET=", None),
        ("", None),
        ("\0" * 100, None),
    ],
)
def test_an_old_file_gives_its_subnet_or_none(text: str, subnet: str | None) -> None:
    assert previous_subnet(text) == (Subnet.parse(subnet) if subnet else None)
