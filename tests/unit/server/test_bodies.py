"""Bodies as Go reads them, and its words for what it cannot read."""

from __future__ import annotations

import json

import pytest

from flannel_multi.model.lease import LeaseAttrs
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.server.bodies import (
    BadBody,
    BadCursor,
    PutLease,
    Reservation,
    read_attrs,
    read_cursor,
    read_lease,
    read_reservation,
)

IP = parse_ip("10.9.0.8")
SUBNET = Subnet.parse("10.50.9.0/24")


def why(read: object, body: bytes) -> str:
    assert callable(read)
    with pytest.raises(BadBody) as caught:
        read(body)
    return str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"PublicIP":"10.9.0.8","BackendType":"vxlan","BackendData":{"VNI":1}}',
        b'{"publicip":"10.9.0.8","BACKENDTYPE":"vxlan","backendData":{"VNI":1}}',
        b' \r\n\t{"PublicIP" : "10.9.0.8", "BackendType":"vxlan","BackendData": {"VNI":  1}, "more":[1]} ',
        b'{"PublicIP":"10.9.0.8","BackendType":"vxlan","BackendData":{"VNI":1}}{"PublicIP":"10.9.0.9"}',
        b'{"PublicIP":"10.9.0.8","BackendType":"vxlan","BackendData":{"VNI":1}} and no JSON at all \xc3\xa9',
        b'{"PublicIP":"10.9.0.7","publicIP":"10.9.0.8","BackendType":"vxlan","BackendData":{"VNI":1}}',
    ],
)
def test_attributes_are_read_in_any_letter_case_and_of_the_first_value_alone(body: bytes) -> None:
    assert read_attrs(body) == LeaseAttrs(IP, "vxlan", {"VNI": 1})


@pytest.mark.parametrize("body", [b"{}", b"null", b'{"PublicIP":null,"BackendType":null,"BackendData":null}'])
def test_what_is_absent_is_gos_zero_value(body: bytes) -> None:
    assert read_attrs(body) == LeaseAttrs(0)
    assert read_lease(body) == PutLease(Subnet(0, 0), LeaseAttrs(0))
    assert read_reservation(body) == Reservation(Subnet(0, 0), 0)


def test_a_lease_has_its_end_passed_over_and_its_host_bits_masked() -> None:
    body = b'{"subnet":"10.50.9.7/24","attrs":{"publicip":"10.9.0.8"},"expiration":"rubbish"}'
    assert read_lease(body) == PutLease(SUBNET, LeaseAttrs(IP))


def test_a_reservation_has_its_host_bits_masked() -> None:
    assert read_reservation(b'{"Subnet":"10.50.9.7/24","PublicIP":"10.9.0.8"}') == Reservation(SUBNET, IP)


READERS = [read_attrs, read_lease, read_reservation]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"garbage", "invalid character 'g' looking for beginning of value"),  # X9
        (b"x", "invalid character 'x' looking for beginning of value"),  # X26
        (b"zzz", "invalid character 'z' looking for beginning of value"),  # X43
        (b"NaN", "invalid character 'N' looking for beginning of value"),
        (b"\xef\xbb\xbf{}", "invalid character '\\xfeff' looking for beginning of value"),
        (b"", "EOF"),
        (b" \n", "EOF"),
        (b"[", "unexpected EOF"),
        (b'{"PublicIP', "unexpected EOF"),
        (b'{"PublicIP"', "unexpected EOF"),
        (b'{"a":tru', "unexpected EOF"),
        (b"-", "unexpected EOF"),
        (b"\xff{}", "invalid UTF-8 in the body"),
        (b"[" * 8_000, "exceeded max depth"),
        (b'{"a":' * 1_600, "exceeded max depth"),
        (b"[" * 100_000, "the body has more than 8192 bytes"),
        (b'{"PublicIP":"10.9.0.8","BackendData":"' + b"x" * 65_536 + b'"}', "the body has more than 8192 bytes"),
    ],
)
def test_what_is_no_json_is_refused_in_gos_words(read: object, body: bytes, reason: str) -> None:
    assert why(read, body) == f"JSON decoding error: {reason}"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("body", [b"nil", b'{"a":}', b'{"a" 1}', b"{a:1}", b'{"a":1,}', b'"a\nb"', b'"\\x"'])
def test_a_wrong_character_is_named(read: object, body: bytes) -> None:
    assert why(read, body).startswith("JSON decoding error: invalid character '")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("body", "kind"), [(b"[]", "array"), (b'"a"', "string"), (b"true", "bool"), (b"1.5", "number")]
)
def test_a_value_of_another_kind_is_named(read: object, body: bytes, kind: str) -> None:
    assert f"json: cannot unmarshal {kind} into Go value of type subnet." in why(read, body)


@pytest.mark.parametrize(
    "value", ['"zz"', '""', "5", "true", "[]", "{}", '"10.9.0"', '"::1"', '"10.9.0.08"', '"\\ud800"']
)
def test_an_address_that_is_none_is_refused_in_flannels_words(value: str) -> None:
    body = f'{{"PublicIP":{value}}}'.encode()
    assert why(read_attrs, body) == "JSON decoding error: Invalid IP address format"  # X10
    assert why(read_reservation, body) == "JSON decoding error: Invalid IP address format"
    assert why(read_lease, b'{"Attrs":%b}' % body) == "JSON decoding error: Invalid IP address format"


@pytest.mark.parametrize("read", [read_lease, read_reservation])
def test_a_subnet_that_is_none_is_refused_in_gos_words(read: object) -> None:
    assert why(read, b'{"Subnet":"x"}') == "JSON decoding error: invalid CIDR address: x"  # X27
    assert why(read, b'{"Subnet":7}') == "JSON decoding error: invalid CIDR address: 7"
    assert why(read, b'{"Subnet":"10.1.2.0"}') == "JSON decoding error: invalid CIDR address: 10.1.2.0"


@pytest.mark.parametrize("subnet", ["[" * 900 + "]" * 900, '"' + "9" * 10_000 + '"', "9" * 4000])
def test_a_subnet_of_any_size_is_refused_in_one_short_line(subnet: str) -> None:
    assert len(why(read_lease, f'{{"Subnet":{subnet}}}'.encode())) < 200


@pytest.mark.parametrize(
    "data", ["[" * 17 + "]" * 17, '{"a":' * 17 + "1" + "}" * 17, "1e999", "[-1e999]", "NaN", "Infinity", "9" * 5000]
)
def test_backend_data_that_could_not_be_written_again_is_refused(data: str) -> None:
    assert why(read_attrs, f'{{"BackendData":{data}}}'.encode()).startswith("JSON decoding error: ")


@pytest.mark.parametrize("data", [[[[1]]], {"a": {"b": None}}, "x" * 6_000, 10**400, -0.5, False, "\ud800"])
def test_backend_data_of_any_kind_and_size_is_taken_as_it_is(data: object) -> None:
    assert read_attrs(json.dumps({"BackendData": data}).encode()).backend_data == data


@pytest.mark.parametrize(("text", "cursor"), [("0", 0), ("87", 87), ("007", 7), (str(2**64 - 1), 2**64 - 1)])
def test_a_cursor_is_a_number_of_64_bits(text: str, cursor: int) -> None:
    assert read_cursor(text) == cursor


@pytest.mark.parametrize("text", ["abc", "", "-1", "+1", " 1", "1 ", "1.0", "0x10", "1_0", "١", "²", "1\n", "\ufffd"])
def test_a_cursor_that_is_no_number_is_refused_in_gos_words(text: str) -> None:
    with pytest.raises(BadCursor) as caught:
        read_cursor(text)
    assert str(caught.value) == (
        f"failed to parse cursor: strconv.ParseUint: parsing {json.dumps(text)}: invalid syntax"  # X28
    )


@pytest.mark.parametrize("text", [str(2**64), "9" * 20, "9" * 5000])
def test_a_cursor_of_more_than_64_bits_is_out_of_range(text: str) -> None:
    with pytest.raises(BadCursor, match=r"value out of range$") as caught:
        read_cursor(text)
    assert len(str(caught.value)) < 200
