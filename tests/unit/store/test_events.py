"""Lines of a watch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flannel_multi.model.subnet import Subnet
from flannel_multi.store.etcd.answers import BadAnswer, Kind, Problem, b64
from flannel_multi.store.etcd.events import Line, changes, read_line
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.protocol import ConfigWritten, LeaseGone, LeaseWritten, Skipped

KEYS = NetworkKeys.of("/p", "blue")
HEADER = {"cluster_id": "1", "revision": "9"}


def line(**result: Any) -> Line | Problem:
    return read_line(json.dumps({"result": {"header": HEADER, **result}}).encode(), https=False)


def event(name: bytes, value: bytes = b'{"PublicIP":"192.0.2.1"}', **more: Any) -> dict[str, Any]:
    return {"kv": {"key": b64(b"/p/blue/" + name), "value": b64(value), "mod_revision": "9"}, **more}


def test_the_first_line_says_that_the_watch_stands() -> None:
    found = line(created=True)
    assert isinstance(found, Line)
    assert (found.created, found.header.revision, found.events) == (True, 9, [])


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        ({"canceled": True, "compact_revision": "4"}, Kind.COMPACTED),
        ({"canceled": True, "created": True, "cancel_reason": "code = X desc = etcdserver: no leader"}, Kind.AWAY),
        ({"canceled": True, "cancel_reason": "etcdserver: invalid auth token"}, Kind.TOKEN),
        ({"canceled": True, "cancel_reason": 7}, Kind.AWAY),
        ({"canceled": True}, Kind.AWAY),
    ],
)  # fmt: skip
def test_a_watch_that_etcd_ends_says_why(result: dict[str, Any], kind: Kind) -> None:
    found = line(**result)
    assert isinstance(found, Problem)
    assert found.kind is kind


def test_events_become_changes_in_their_order() -> None:
    found = list(
        changes(
            KEYS,
            [
                event(b"config", b"{}"),
                event(b"subnets/10.1.5.0-24"),
                event(b"subnets/10.1.5.0-24", b"", type="DELETE"),
                event(b"subnets/10.1.6.0-24", b"?"),
                event(b"subnets/junk"),
                event(b"subnets/junk", b"", type="DELETE"),
                event(b"other"),
                event(b"config", b"", type="DELETE"),
            ],
        )
    )
    assert [type(change) for change in found] == [
        ConfigWritten, LeaseWritten, LeaseGone, LeaseGone, Skipped, Skipped, ConfigWritten
    ]  # fmt: skip
    assert found[2] == LeaseGone(Subnet.parse("10.1.5.0/24"), 9)
    assert found[-1] == ConfigWritten(None, 9)


@pytest.mark.parametrize("raw", [b"", b"x", b"[]", b"{}", b'{"result":1}', b'{"result":{}}', b"\xff", b"[" * 100_000])
def test_a_line_of_another_shape_is_a_bad_answer(raw: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_line(raw, https=False)
