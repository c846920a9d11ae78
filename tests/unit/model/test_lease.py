"""Lease values, byte for byte, and whatever else may stand in their place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.envfile import previous_subnet, render
from flannel_multi.model.lease import LeaseAttrs, decode_value, encode_value
from flannel_multi.model.subnet import Subnet, parse_ip

IP = parse_ip("10.9.0.1")
VXLAN = b'{"PublicIP":"10.9.0.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"6e:bb:a9:11:4b:86"}}'
VALUES = {
    b'{"PublicIP":"10.9.0.1"}': LeaseAttrs(IP),
    b'{"PublicIP":"10.9.0.1","BackendType":"host-gw"}': LeaseAttrs(IP, "host-gw"),
    VXLAN: LeaseAttrs(IP, "vxlan", {"VNI": 1, "VtepMAC": "6e:bb:a9:11:4b:86"}),
}


@pytest.mark.parametrize(("raw", "attrs"), VALUES.items())
def test_values_are_flannels_own_bytes(raw: bytes, attrs: LeaseAttrs) -> None:
    assert encode_value(attrs) == raw
    assert decode_value(raw) == attrs


def test_newer_and_oddly_spelt_values_are_read() -> None:
    raw = b'{"publicip":"10.9.0.1","PublicIPv6":null,"BACKENDTYPE":"vxlan","Backenddata":{"VtepMAC":"x"},"z":1}'
    assert decode_value(raw) == LeaseAttrs(IP, "vxlan", {"VtepMAC": "x"})


@given(st.binary())
def test_any_other_bytes_are_refused_with_a_value_error(raw: bytes) -> None:
    try:
        decode_value(raw)
    except ValueError:
        pass


@given(st.text())
def test_any_text_is_a_key_or_none_and_an_env_file_or_none(text: str) -> None:
    subnet = Subnet.from_key(text)
    assert subnet is None or subnet.key == text or Subnet.from_key(subnet.key) == subnet
    previous_subnet(text)


def test_the_env_file_is_flannels_four_lines() -> None:
    text = render(Subnet.parse("10.12.0.0/16"), Subnet.parse("10.12.59.0/24"), mtu=1450, ip_masq=False)
    assert text == (
        "FLANNEL_NETWORK=10.12.0.0/16\nFLANNEL_SUBNET=10.12.59.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    )
    assert previous_subnet(text) == Subnet.parse("10.12.59.0/24")
