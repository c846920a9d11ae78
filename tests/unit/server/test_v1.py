"""Protocol v1 as JSON: what Go would have written, and reading it back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.config import parse_config
from flannel_multi.model.errors import ConfigError
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.model.v1 import (
    BadAnswer,
    config_text,
    event_text,
    events_result,
    expiration,
    gone_text,
    lease_text,
    read_reservations,
    read_time,
    read_watch,
    reservation_text,
    snapshot_result,
    text_of,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
# Any text that JSON can carry, halves of surrogate pairs too.
backend_data = json_values | st.text(alphabet=st.characters(), max_size=5)
subnets = st.builds(Subnet.of, st.integers(0, 2**32 - 1), st.integers(8, 30))
records = st.builds(
    LeaseRecord, subnets, st.builds(LeaseAttrs, st.integers(0, 2**32 - 1), st.text(max_size=5), backend_data),
    st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1),
)  # fmt: skip
RECORD = LeaseRecord(Subnet.parse("10.50.26.0/24"), LeaseAttrs(0x0A090007), 77, 66)


def test_a_lease_is_written_field_by_field_as_flannel_does() -> None:
    assert lease_text(RECORD, 1_795_554_403) == (
        '{"Subnet":"10.50.26.0/24","Attrs":{"PublicIP":"10.9.0.7"},"Expiration":"2026-11-24T21:06:43Z"}'
    )
    rich = RECORD._replace(attrs=LeaseAttrs(0x0A090008, "vxlan", {"VtepMAC": "6e:bb", "x": 1}), lease_id=0)
    assert lease_text(rich, 0, revisions=True) == (
        '{"Subnet":"10.50.26.0/24","Attrs":{"PublicIP":"10.9.0.8","BackendType":"vxlan",'
        '"BackendData":{"VtepMAC":"6e:bb","x":1}},"Expiration":"0001-01-01T00:00:00Z","Revision":66,"LeaseID":"0"}'
    )


def test_a_lease_that_is_gone_and_an_event_about_a_network_are_as_flannel_has_them() -> None:
    assert event_text("removed", gone_text(RECORD.subnet)) == (
        '{"type":"removed","lease":{"Subnet":"10.50.26.0/24","Attrs":{"PublicIP":"0.0.0.0"},'
        '"Expiration":"0001-01-01T00:00:00Z"}}'
    )
    assert events_result([event_text("added", "{}", network="blue")], 85) == (
        b'{"events":[{"type":"added","lease":{},"network":"blue"}],"snapshot":null,"cursor":"85"}\n'
    )
    assert snapshot_result([], 63) == b'{"events":null,"snapshot":[],"cursor":"63"}\n'
    assert reservation_text(RECORD) == '{"Subnet":"10.50.26.0/24","PublicIP":"10.9.0.7"}'


def test_what_go_escapes_is_escaped_and_other_letters_are_not() -> None:
    assert text_of("a<b>&c\u2028\u2029\u00e9\u20ac\U0001f600") == '"a\\u003cb\\u003e\\u0026c\\u2028\\u2029é€😀"'
    assert text_of({"<": ['\n"\\']}) == '{"\\u003c":["\\n\\"\\\\"]}'


@given(st.lists(records, max_size=4), st.integers(1, 2**33), st.integers(0, 2**63 - 1), st.booleans())
def test_a_snapshot_reads_back_as_it_was_written(
    found: list[LeaseRecord], end_s: int, cursor: int, revisions: bool
) -> None:
    raw = snapshot_result([lease_text(record, end_s, revisions=revisions) for record in found], cursor)
    json.loads(raw)
    told = read_watch(raw)
    assert (told.events, told.cursor, told.skipped) == ([], cursor, [])
    assert [(lease.subnet, lease.attrs, lease.end_s) for lease in told.snapshot] == [
        (record.subnet, record.attrs, end_s) for record in found
    ]
    if revisions:
        assert [(lease.revision, lease.lease_id) for lease in told.snapshot] == [
            (record.revision, record.lease_id) for record in found
        ]


@given(st.lists(st.tuples(records, st.booleans()), min_size=1, max_size=4), st.integers(0, 2**63 - 1))
def test_events_read_back_as_they_were_written(found: list[tuple[LeaseRecord, bool]], cursor: int) -> None:
    texts = [
        event_text("removed", gone_text(record.subnet)) if gone else event_text("added", lease_text(record, 0))
        for record, gone in found
    ]
    told = read_watch(events_result(texts, cursor))
    assert [(event.removed, event.lease.subnet, event.network) for event in told.events] == [
        (gone, record.subnet, "") for record, gone in found
    ]
    assert (told.cursor, told.skipped) == (cursor, [])


@given(st.lists(records, max_size=4))
def test_reservations_read_back_as_they_were_written(found: list[LeaseRecord]) -> None:
    raw = f"[{','.join(map(reservation_text, found))}]".encode()
    assert read_reservations(raw) == [(record.subnet, record.attrs.public_ip) for record in found]


def test_half_a_surrogate_pair_goes_out_as_its_escape() -> None:
    record = RECORD._replace(attrs=LeaseAttrs(1, "", {"a": "\ud800x"}))
    raw = snapshot_result([lease_text(record, 0)], 1)
    assert b'{"a":"\\ud800x"}' in raw
    assert read_watch(raw).snapshot[0].attrs == record.attrs


# -- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "end_s"),
    [
        ("2026-11-24T21:06:43Z", 1_795_554_403),
        ("2026-11-24T21:06:43.984758232Z", 1_795_554_403),
        ("2026-11-24T21:06:43.5Z", 1_795_554_403),
        ("2026-11-24T23:06:43+02:00", 1_795_554_403),
        ("2026-11-24T15:36:43.1-05:30", 1_795_554_403),
        ("1970-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("1960-05-05T00:00:00Z", 0),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
        (None, 0),
    ],
)
def test_every_form_of_time_that_go_writes_is_read(text: str | None, end_s: int) -> None:
    assert read_time(text) == end_s


@pytest.mark.parametrize(
    "value",
    [
        "", "now", "2026-11-24", "2026-11-24T21:06:43", "2026-11-24 21:06:43Z", "2026-11-24T21:06:43.Z",
        "2026-13-24T21:06:43Z", "0000-01-01T00:00:00Z", "20260-01-01T00:00:00Z",
        "2026-11-24T21:06:43Z\n", "٢٠٢٦-11-24T21:06:43Z", 1_795_554_403, 1.5, True, [], {},
    ],
)  # fmt: skip
def test_what_is_no_time_is_a_bad_answer(value: Any) -> None:
    with pytest.raises(BadAnswer, match="Expiration"):
        read_time(value)


@given(st.integers(1, 253_402_300_799))
def test_an_end_reads_back_to_the_second(end_s: int) -> None:
    assert read_time(expiration(end_s)) == end_s


def test_no_end_is_gos_zero_time() -> None:
    assert expiration(0) == "0001-01-01T00:00:00Z"


# -- configs ---------------------------------------------------------------------------------------------------------


def served(raw: bytes) -> str:
    """As the server answers."""
    found = parse_config(raw)
    return config_text(
        raw, network=found.network, subnet_len=found.subnet_len, subnet_min=found.subnet_min,
        subnet_max=found.subnet_max,
    )  # fmt: skip


HEAD = '{"Network":"10.50.0.0/16","SubnetMin":"10.50.1.0","SubnetMax":"10.50.255.0","SubnetLen":24'


@pytest.mark.parametrize(
    ("stored", "tail"),
    [
        ("", "}"),
        (', "Backend" : {"Type" : "alloc" , "b":[ 1 ,\n2.50, 1e2 ], "a":"x  y"}',
         ',"Backend":{"Type":"alloc","b":[1,2.50,1e2],"a":"x  y"}}'),
        (',"BACKEND":{"Type":"alloc","Port":0}', ',"Backend":{"Type":"alloc","Port":0}}'),
        (',"Other":{"Backend":1},"Backend":{"Type":"alloc"}', ',"Backend":{"Type":"alloc"}}'),
        (',"Backend":{"Type":"vxlan"},"backend":{"Type":"alloc"}', ',"Backend":{"Type":"alloc"}}'),
        (r',"Backend":{"Type":"alloc","a":"<\u003c\" \\"}', r',"Backend":{"Type":"alloc","a":"\u003c\u003c\" \\"}}'),
    ],
)  # fmt: skip
def test_backend_is_passed_through_as_it_was_written(stored: str, tail: str) -> None:
    assert served(f' {{"Network":"10.50.0.0/16"{stored}}} '.encode()) == HEAD + tail


def test_a_null_backend_is_passed_through_too() -> None:
    found = parse_config(b'{"Network":"10.50.0.0/16"}')
    text = config_text(
        b'{"Network":"10.50.0.0/16","Backend":null}', network=found.network, subnet_len=24,
        subnet_min=found.subnet_min, subnet_max=found.subnet_max,
    )  # fmt: skip
    assert text == HEAD + ',"Backend":null}'


spaces = st.sampled_from(["", " ", "\n\t", "\r\n  "])


@st.composite
def written(draw: st.DrawFn, value: Any) -> tuple[str, str]:
    """JSON text of `value` with any space and escapes in it, and the same compact."""
    ascii_only = draw(st.booleans())
    match value:
        case dict():
            items = [(draw(written(key)), draw(written(item))) for key, item in value.items()]
            loose = ",".join(
                f"{draw(spaces)}{key[0]}{draw(spaces)}:{draw(spaces)}{item[0]}{draw(spaces)}" for key, item in items
            )
            return f"{{{loose}}}", f"{{{','.join(f'{key[1]}:{item[1]}' for key, item in items)}}}"
        case list():
            found = [draw(written(item)) for item in value]
            loose = ",".join(f"{draw(spaces)}{item[0]}{draw(spaces)}" for item in found)
            return f"[{loose}]", f"[{','.join(item[1] for item in found)}]"
        case _:
            text = json.dumps(value, ensure_ascii=ascii_only)
            return text, text


@given(st.data())
def test_any_backend_is_passed_through_but_for_its_spaces_and_gos_escapes(data: st.DataObject) -> None:
    value = data.draw(
        st.dictionaries(st.text(max_size=4).filter(lambda key: key.lower() != "type"), json_values, max_size=3)
    )
    loose, compact = data.draw(written({"Type": "alloc", **value}))
    raw = f'{{"x":{{"Backend":5}},"Network":"10.50.0.0/16","backEnd":{loose}}}'
    try:
        answer = served(raw.encode())
    except ConfigError:
        return  # two keys of the backend that differ in case alone, say: not ours to pass on
    for char, escape in {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }.items():
        compact = compact.replace(char, escape)
    assert answer == f'{HEAD},"Backend":{compact}}}'
    assert json.loads(answer)["Backend"] == json.loads(loose)
