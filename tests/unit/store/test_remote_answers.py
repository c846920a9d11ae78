"""What answers of flanneld servers mean."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.model.v1 import BadAnswer, ToldLease
from flannel_multi.store.remote.answers import (
    LARGEST,
    Kind,
    cluster_of,
    cursor_of,
    date_of,
    holder_of,
    problem_of,
    record_of,
    ttl_s,
)
from flannel_multi.store.transport import Reply

FIVE = Subnet.parse("10.1.5.0/24")
ATTRS = LeaseAttrs(0x0A090008, "vxlan", {"VNI": 1})


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (500, "100: Key not found (/coreos.com/network/nonet) [67]", Kind.ABSENT, "Key not found"),
        (500, "failed to retrieve subnet leases: 100: Key not found (/x) [6]", Kind.ABSENT, "Key not found"),
        (500, "HostSubnet is larger network than Network", Kind.UNREADABLE, "larger network"),
        (500, "invalid character 'z' looking for beginning of value", Kind.UNREADABLE, "invalid character"),
        (500, "out of subnets", Kind.FULL, "out of subnets"),
        (500, "client: etcd cluster is unavailable or misconfigured; error #0: x\n", Kind.AWAY, "unavailable"),
        (500, "failed to retrieve networks: client: etcd cluster is unavailable", Kind.AWAY, "unavailable"),
        (500, "context deadline exceeded", Kind.AWAY, "deadline"),
        (500, "internal error: subnet: lease already taken", Kind.REFUSED, "subnet: lease already taken"),
        (500, "", Kind.UNREADABLE, "500 without a reason"),
        (409, "lease 10.50.68.0/24 is held by 10.9.0.21", Kind.HELD, "held by"),
        (403, '{"error":"db1 may not join network blue","identity":"db1"}', Kind.REFUSED, "db1 may not join"),
        (403, "go away", Kind.REFUSED, "forbidden: go away"),
        (404, "404 page not found\n", Kind.NO_ROUTE, "404 page not found"),
        (404, "<html>nginx</html>", Kind.STRANGER, "is this the --listen address"),
        (400, "Client sent an HTTP request to an HTTPS server.\n", Kind.REFUSED, "set --remote-cafile"),
        (400, "bad subnet", Kind.REFUSED, "bad subnet"),
        (503, "", Kind.AWAY, "503 without a reason"),
        (204, "", Kind.STRANGER, "204"),
        (301, "", Kind.STRANGER, "301"),
    ],
)
def test_what_flanneld_says_is_told_apart(status: int, body: str, kind: Kind, text: str) -> None:
    found = problem_of(Reply(status, body.encode()))
    assert found is not None
    assert found.kind is kind
    assert text in found.text


def test_an_absent_key_is_named_with_its_place_in_history() -> None:
    found = problem_of(Reply(500, b"100: Key not found (/coreos.com/network/subnets/10.50.99.0-24) [1197]"))
    assert found is not None
    assert (found.key, found.revision) == ("/coreos.com/network/subnets/10.50.99.0-24", 1197)


def test_a_refusal_that_names_the_holder_is_read() -> None:
    assert holder_of("lease 10.50.68.0/24 is held by 10.9.0.21") == ("10.50.68.0/24", "10.9.0.21")
    assert holder_of("lease 10.50.68.0/24 is gone") is None


@given(st.sampled_from([200, 204, 301, 400, 401, 403, 404, 409, 500, 503, 999]), st.binary(max_size=300))
def test_any_answer_is_good_or_a_problem_in_one_line(status: int, body: bytes) -> None:
    found = problem_of(Reply(status, body))
    assert (found is None) == (status == 200)
    if found is not None:
        assert found.text.isprintable()
        assert 0 < len(found.text) < 400
        assert 0 <= found.revision <= LARGEST


def test_only_our_own_servers_tell_their_place_in_history() -> None:
    ours = Reply(200, b"", ((b"flannel-cursor", b"87"), (b"flannel-cluster", b"1234")))
    assert (cursor_of(ours), cluster_of(ours)) == (87, "1234")
    assert (cursor_of(Reply(200, b"")), cluster_of(Reply(200, b""))) == (None, "")
    for text in (b"-1", b"x", b"", b"9" * 19, b"9" * 30):
        assert cursor_of(Reply(200, b"", ((b"flannel-cursor", text),))) is None


def test_the_rest_of_a_life_goes_by_the_servers_clock() -> None:
    date = date_of(Reply(200, b"", ((b"date", b"Tue, 24 Nov 2026 21:06:43 GMT"),)))
    assert date == 1795554403
    assert ttl_s(date + 500, date) == 500
    assert ttl_s(date + LEASE_TTL_S - 1, date) == LEASE_TTL_S  # a second began between the two
    assert ttl_s(date - 9, date) == 0
    assert ttl_s(0, date) is None
    for text in (b"", b"yesterday", b"Tue, 24 Foo 2026 21:06:43 GMT", b"Tue, 99 Nov 2026 21:06:43 PST"):
        assert date_of(Reply(200, b"", ((b"date", text),))) is None


def test_a_lease_of_our_own_server_is_taken_as_told() -> None:
    told = ToldLease(FIVE, ATTRS, 99, revision=7, lease_id=1234)
    assert record_of("blue", told, 50) == LeaseRecord(FIVE, ATTRS, 1234, 7)
    for wrong in (told._replace(lease_id=1 << 63), told._replace(revision=1 << 63)):
        with pytest.raises(BadAnswer):
            record_of("blue", wrong, 50)


def test_a_lease_of_an_older_server_keeps_its_record_while_nothing_changes() -> None:
    told = ToldLease(FIVE, ATTRS, 99)
    first = record_of("blue", told, 50)
    assert (first.revision, first.permanent) == (50, False)
    assert record_of("blue", told._replace(end_s=200), 60, first) == first
    assert record_of("blue", told._replace(attrs=ATTRS._replace(backend_type="udp")), 60, first).revision == 60
    assert record_of("blue", told._replace(end_s=0), 60, first) == LeaseRecord(FIVE, ATTRS, 0, 60)


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.sampled_from(["blue", "green", ""]))
def test_the_id_of_an_older_servers_lease_is_the_same_exactly_while_the_holder_is(one: int, two: int, net: str) -> None:
    ids = [record_of(net, ToldLease(FIVE, LeaseAttrs(ip), 99), 5).lease_id for ip in (one, two)]
    assert (ids[0] == ids[1]) == (one == two)
    assert all(0 < lease_id <= LARGEST for lease_id in ids)


def test_ends_of_one_hosts_leases_are_not_taken_for_each_other() -> None:
    told = ToldLease(FIVE, ATTRS, 99)
    other = told._replace(subnet=Subnet.parse("10.1.6.0/24"))
    ids = {
        record_of("blue", told, 5).lease_id,
        record_of("green", told, 5).lease_id,
        record_of("blue", other, 5).lease_id,
    }
    assert len(ids) == 3


def test_an_absent_network_names_no_line_breaks() -> None:
    found = problem_of(Reply(403, json.dumps({"error": "two\nlines"}).encode()))
    assert found is not None
    assert found.text == "two lines"
