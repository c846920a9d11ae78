"""What etcd answers, in the shapes of 3.4, 3.5 and 3.6."""

from __future__ import annotations

import json

import pytest

from flannel_multi.store.etcd.answers import BadAnswer, Header, Kind, Problem, header_of, number, read
from flannel_multi.store.transport import Reply


def answered(status: int, body: object, *, https: bool = False) -> Problem:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = read(Reply(status, raw), https=https)
    assert isinstance(found, Problem)
    return found


TOKEN = "etcdserver: invalid auth token"


@pytest.mark.parametrize(
    "body",
    [
        {"error": TOKEN, "message": TOKEN, "code": 16},
        {"code": 16, "message": TOKEN},
        {"code": 16, "message": TOKEN, "details": []},
        {"error": {"grpc_code": 16, "http_code": 401, "message": TOKEN, "http_status": "Unauthorized"}},
        {"error": {"code": 16, "message": TOKEN, "details": []}},
    ],
)
def test_an_error_is_read_in_the_shape_of_every_version(body: object) -> None:
    assert answered(401, body).kind is Kind.TOKEN


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "etcdserver: revision of auth store is old", Kind.TOKEN),
        (400, "etcdserver: user name is empty", Kind.TOKEN),
        (404, "etcdserver: requested lease not found", Kind.NO_LEASE),
        (412, "etcdserver: lease already exists", Kind.LEASE_EXISTS),
        (400, "etcdserver: mvcc: required revision has been compacted", Kind.COMPACTED),
        (429, "etcdserver: mvcc: database space exceeded", Kind.NO_SPACE),
        (403, "etcdserver: permission denied", Kind.REFUSED),
        (503, "etcdserver: no leader", Kind.AWAY),
        (503, "etcdserver: request timed out", Kind.AWAY),
        (500, "context deadline exceeded", Kind.AWAY),
        (503, "something new", Kind.AWAY),
        (418, "something new", Kind.REFUSED),
    ],
)
def test_an_error_text_says_who_must_act(status: int, text: str, kind: Kind) -> None:
    assert answered(status, {"error": text, "code": 2}).kind is kind


def test_the_gateway_that_is_off_is_told_from_a_lease_that_is_not_there() -> None:
    off = answered(404, b"404 page not found\n")
    assert off.kind is Kind.REFUSED
    assert "enable-grpc-gateway: true" in off.text


@pytest.mark.parametrize("text", ["connection closed", 'connection error: desc = "transport: bad certificate"'])
def test_a_gateway_that_cannot_reach_its_etcd_over_tls_is_diagnosed(text: str) -> None:
    assert "clientAuth" in answered(503, {"error": text, "code": 14}, https=True).text
    assert "clientAuth" not in answered(503, {"error": text, "code": 14}).text


def test_a_web_server_is_no_etcd() -> None:
    assert "not etcd's JSON" in answered(200, b"<html>").text
    assert "not etcd's JSON" in answered(500, b"<html>").text


def test_a_stream_s_first_line_is_its_result() -> None:
    assert read(Reply(200, b'{"result":{"ID":"7","TTL":"60"}}\n'), https=False) == {"ID": "7", "TTL": "60"}


def test_numbers_come_as_text_or_as_numbers() -> None:
    assert [number("12"), number(12), number(None), number("-1")] == [12, 12, 0, -1]
    odds: list[object] = [True, 1.5, "1e3", "", "x", [], "9" * 30, "١٢"]
    for odd in odds:
        with pytest.raises(BadAnswer):
            number(odd)


def test_a_header_without_zero_fields_is_read() -> None:
    assert header_of({"header": {"cluster_id": "5"}}) == Header("5", 0, 0)
    odds: list[dict[str, object]] = [{}, {"header": 1}, {"header": {}}, {"header": {"cluster_id": "x"}}]
    for odd in odds:
        with pytest.raises(BadAnswer):
            header_of(odd)


def test_foreign_error_texts_stay_one_line() -> None:
    text = answered(400, {"error": "a\nb\x1b[31m" + "x" * 1000}).text
    assert text.isprintable()
    assert len(text) < 250
