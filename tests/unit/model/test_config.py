"""What a config key may hold: malformed gives one clear line, odd but valid is read as flannel does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.config import parse_config
from flannel_multi.model.errors import ConfigError
from flannel_multi.model.subnet import Subnet, format_ip

VX = ',"Backend":{"Type":"vxlan"}'
MALFORMED = {
    "empty": b"",
    "blank": b" \n\t",
    "null": b"null",
    "array": b"[]",
    "string": b'"10.1.0.0/16"',
    "number": b"10",
    "true": b"true",
    "no JSON": b"Network=10.1.0.0/16",
    "cut off": b'{"Network":"10.1.0.0/16"',
    "trailing text": b'{"Network":"10.1.0.0/16"} x',
    "two documents": b'{"Network":"10.1.0.0/16"}{}',
    "single quotes": b"{'Network':'10.1.0.0/16'}",
    "not UTF-8": b'{"Network":"10.1.0.0/16\xff"}',
    "UTF-16": '{"Network":"10.1.0.0/16"}'.encode("utf-16"),
    "NUL": b"\x00",
    "deep nesting": b"[" * 200_000,
    "deep object": b'{"Network":' * 100_000,
    "huge number": b'{"Network":"10.1.0.0/16","SubnetLen":' + b"9" * 5000 + b"}",
    "NaN": b'{"Network":"10.1.0.0/16","SubnetLen":NaN}',
    "no Network": b"{}",
    "Network null": b'{"Network":null}',
    "Network number": b'{"Network":10}',
    "Network array": b'{"Network":["10.1.0.0/16"]}',
    "Network empty": b'{"Network":""}',
    "Network no CIDR": b'{"Network":"10.1.0.0"}',
    "Network bogus": b'{"Network":"bogus/16"}',
    "Network /33": b'{"Network":"10.1.0.0/33"}',
    "Network negative": b'{"Network":"10.1.0.0/-1"}',
    "Network IPv6": b'{"Network":"fc00::/64"}',
    "Network /29 without SubnetLen": b'{"Network":"10.1.0.0/29"}',
    "Network newline": b'{"Network":"10.1.0.0/16\\n"}',
    "SubnetLen string": b'{"Network":"10.1.0.0/16","SubnetLen":"24"}',
    "SubnetLen fraction": b'{"Network":"10.1.0.0/16","SubnetLen":24.0}',
    "SubnetLen exponent": b'{"Network":"10.1.0.0/16","SubnetLen":2e1}',
    "SubnetLen negative": b'{"Network":"10.1.0.0/16","SubnetLen":-1}',
    "SubnetLen true": b'{"Network":"10.1.0.0/16","SubnetLen":true}',
    "SubnetLen 31": b'{"Network":"10.1.0.0/16","SubnetLen":31}',
    "SubnetLen 32": b'{"Network":"10.1.0.0/16","SubnetLen":32}',
    "SubnetLen equals prefix": b'{"Network":"10.1.0.0/16","SubnetLen":16}',
    "SubnetLen shorter": b'{"Network":"10.1.0.0/16","SubnetLen":8}',
    "SubnetMin outside": b'{"Network":"10.1.0.0/16","SubnetMin":"10.9.0.0"}',
    "SubnetMax outside": b'{"Network":"10.1.0.0/16","SubnetMax":"10.9.0.0"}',
    "SubnetMin unaligned": b'{"Network":"10.1.0.0/16","SubnetMin":"10.1.5.7"}',
    "SubnetMax unaligned": b'{"Network":"10.1.0.0/16","SubnetMax":"10.1.3.9"}',
    "min above max": b'{"Network":"10.1.0.0/16","SubnetMin":"10.1.9.0","SubnetMax":"10.1.3.0"}',
    "SubnetMin null": b'{"Network":"10.1.0.0/16","SubnetMin":null}',
    "SubnetMin empty": b'{"Network":"10.1.0.0/16","SubnetMin":""}',
    "SubnetMin IPv6": b'{"Network":"10.1.0.0/16","SubnetMin":"::1"}',
    "Backend null": b'{"Network":"10.1.0.0/16","Backend":null}',
    "Backend string": b'{"Network":"10.1.0.0/16","Backend":"vxlan"}',
    "Backend array": b'{"Network":"10.1.0.0/16","Backend":[]}',
    "Backend without Type": b'{"Network":"10.1.0.0/16","Backend":{}}',
    "Backend Type number": b'{"Network":"10.1.0.0/16","Backend":{"Type":1}}',
    "IPv4 off": b'{"Network":"10.1.0.0/16","EnableIPv4":false}',
    "EnableIPv6 string": b'{"Network":"10.1.0.0/16","EnableIPv6":"yes"}',
    "EnableIPv4 number": b'{"Network":"10.1.0.0/16","EnableIPv4":1}',
    "EnableNFTables null text": b'{"Network":"10.1.0.0/16","EnableNFTables":"null"}',
    "byte order mark": b'\xef\xbb\xbf{"Network":"10.1.0.0/16"}',
    "raw line break in a string": b'{"Network":"10.1.0.0/16\n"}',
    "comment": b'{"Network":"10.1.0.0/16"} // blue',
    "comma at the end": b'{"Network":"10.1.0.0/16",}',
    "only an empty name": b'{"":"10.1.0.0/16"}',
    "last of two is bad": b'{"Network":"10.1.0.0/16","network":null}',
    "Network leading zero": b'{"Network":"010.1.0.0/16"}',
    "Network bool": b'{"Network":true}',
    "Network object": b'{"Network":{}}',
    "Network with a mask": b'{"Network":"10.1.0.0/255.255.0.0"}',
    "Network of three parts": b'{"Network":"10.1.0/16"}',
    "Network with spaces": b'{"Network":" 10.1.0.0/16"}',
    "Network lone surrogate": b'{"Network":"\\ud800"}',
    "Network megabyte": b'{"Network":"' + b"1" * 1_000_000 + b'"}',
    "two megabytes": b" " * 2_000_000,
    "Network /32": b'{"Network":"10.1.0.0/32"}',
    "Network /30 with SubnetLen": b'{"Network":"10.1.0.0/30","SubnetLen":30}',
    "SubnetLen infinite": b'{"Network":"10.1.0.0/16","SubnetLen":Infinity}',
    "SubnetLen huge exponent": b'{"Network":"10.1.0.0/16","SubnetLen":1e400}',
    "SubnetLen 33": b'{"Network":"10.1.0.0/16","SubnetLen":33}',
    "SubnetLen array": b'{"Network":"10.1.0.0/16","SubnetLen":[24]}',
    "SubnetMin number": b'{"Network":"10.1.0.0/16","SubnetMin":10}',
    "SubnetMax null": b'{"Network":"10.1.0.0/16","SubnetMax":null}',
    "SubnetMax empty": b'{"Network":"10.1.0.0/16","SubnetMax":""}',
    "SubnetMax IPv6": b'{"Network":"10.1.0.0/16","SubnetMax":"::1"}',
    "SubnetMax CIDR": b'{"Network":"10.1.0.0/16","SubnetMax":"10.1.9.0/24"}',
    "SubnetMin above the default max": b'{"Network":"10.1.0.0/24","SubnetMin":"10.1.0.128","SubnetMax":"10.1.0.0"}',
    "Backend number": b'{"Network":"10.1.0.0/16","Backend":1}',
    "Backend false": b'{"Network":"10.1.0.0/16","Backend":false}',
    "Backend Type null": b'{"Network":"10.1.0.0/16","Backend":{"Type":null}}',
    "Backend Type empty": b'{"Network":"10.1.0.0/16","Backend":{"Type":""}}',
    "Backend Type object": b'{"Network":"10.1.0.0/16","Backend":{"Type":{}}}',
}


def test_there_are_enough_malformed_configs() -> None:
    assert len(MALFORMED) == len(set(MALFORMED.values())) >= 80
    assert len(VALID) >= 28


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_config_is_one_clear_line(raw: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    line = caught.value.message
    assert 10 < len(line) <= 220
    assert line.isprintable()


VALID = {
    "plain": ('{"Network":"10.1.0.0/16"%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "host bits": ('{"Network":"10.1.2.3/16"%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "/23": ('{"Network":"10.1.0.0/23"%s}', "10.1.0.0/23", 24, "10.1.1.0", "10.1.1.0"),
    "/24": ('{"Network":"10.1.0.0/24"%s}', "10.1.0.0/24", 25, "10.1.0.128", "10.1.0.128"),
    "/25": ('{"Network":"10.1.0.0/25"%s}', "10.1.0.0/25", 26, "10.1.0.64", "10.1.0.64"),
    "top": ('{"Network":"255.255.0.0/16"%s}', "255.255.0.0/16", 24, "255.255.1.0", "255.255.255.0"),
    "all": ('{"Network":"0.0.0.0/0"%s}', "0.0.0.0/0", 24, "0.0.1.0", "255.255.255.0"),
    "len 20": (
        '{"Network":"10.1.0.0/16","SubnetLen":20,"SubnetMin":"10.1.16.0"%s}',
        "10.1.0.0/16", 20, "10.1.16.0", "10.1.240.0"),
    "range": (
        '{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0"%s}',
        "10.0.0.0/8", 20, "10.10.0.0", "10.99.0.0"),
    "letter case": ('{"NETWORK":"10.1.0.0/16","subnetlen":25%s}', "10.1.0.0/16", 25, "10.1.0.128", "10.1.255.128"),
    "null SubnetLen": ('{"Network":"10.1.0.0/16","SubnetLen":null%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "zero SubnetLen": ('{"Network":"10.1.0.0/16","SubnetLen":0%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "zero SubnetMin": (
        '{"Network":"10.1.0.0/16","SubnetMin":"0.0.0.0"%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "unknown keys": ('{"Network":"10.1.0.0/16","Owner":[{}]%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "last of two": (
        '{"Network":"10.9.0.0/16","network":"10.1.0.0/16"%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "white space": (' \n{"Network":"10.1.0.0/16"%s}\n ', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "long network": ('{"Network":"10.1.0.0/28"%s}', "10.1.0.0/28", 29, "10.1.0.8", "10.1.0.8"),
    "longest SubnetLen": (
        '{"Network":"10.1.0.0/29","SubnetLen":30%s}', "10.1.0.0/29", 30, "10.1.0.4", "10.1.0.4"),
    "max alone": (
        '{"Network":"10.1.0.0/16","SubnetMax":"10.1.9.0"%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.9.0"),
    "zero SubnetMax": (
        '{"Network":"10.1.0.0/16","SubnetMax":"0.0.0.0"%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "the first subnet by name": (
        '{"Network":"10.1.0.0/16","SubnetMin":"10.1.0.0"%s}', "10.1.0.0/16", 24, "10.1.0.0", "10.1.255.0"),
    "one subnet": (
        '{"Network":"10.1.0.0/16","SubnetMin":"10.1.7.0","SubnetMax":"10.1.7.0"%s}',
        "10.1.0.0/16", 24, "10.1.7.0", "10.1.7.0"),
    "escaped names": (
        '{"\\u004eetwork":"10.1\\u002e0.0/16"%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "last SubnetLen of two": (
        '{"Network":"10.1.0.0/16","SubnetLen":31,"SUBNETLEN":25%s}', "10.1.0.0/16", 25, "10.1.0.128", "10.1.255.128"),
    "IPv4 said": ('{"Network":"10.1.0.0/16","EnableIPv4":true%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "null switches": (
        '{"Network":"10.1.0.0/16","EnableIPv4":null,"EnableIPv6":null,"EnableNFTables":false%s}',
        "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "keys of 0.28": (
        '{"Network":"10.1.0.0/16","IPv6Network":"fc00::/48","IPv6SubnetLen":64%s}',
        "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
    "IPv6 wished": (
        '{"Network":"10.1.0.0/16","EnableIPv6":true%s}', "10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "network", "length", "low", "high"), VALID.values(), ids=VALID.keys())
def test_an_odd_but_valid_config_is_read_as_flannel_does(
    text: str, network: str, length: int, low: str, high: str
) -> None:
    config = parse_config((text % VX).encode())
    assert (str(config.network), config.subnet_len) == (network, length)
    assert (format_ip(config.subnet_min), format_ip(config.subnet_max)) == (low, high)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [('{"Type":"VXLAN"}', "vxlan"), ('{"type":"Host-GW"}', "host-gw"), ('{"TYPE":"alloc"}', "alloc")],
)
def test_the_backend_type_is_read_in_any_letter_case(backend: str, kind: str) -> None:
    assert parse_config(f'{{"Network":"10.1.0.0/16","Backend":{backend}}}'.encode()).backend_type == kind


def test_an_absent_backend_is_udp() -> None:
    assert parse_config(b'{"Network":"10.1.0.0/16"}').backend_type == "udp"


def test_host_bits_are_one_warning() -> None:
    assert parse_config(b'{"Network":"10.1.2.3/16"}').warnings == (
        "Network 10.1.2.3/16 has host bits, read as 10.1.0.0/16",
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary() | st.dictionaries(st.sampled_from(["Network", "SubnetLen", "SubnetMin", "Backend"]), JSON).map(
    lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_give_a_config_or_a_config_error(raw: bytes) -> None:
    try:
        config = parse_config(raw)
    except ConfigError:
        return
    assert config.network.covers(Subnet(config.subnet_min, config.subnet_len))
    assert config.subnet_min <= config.subnet_max
