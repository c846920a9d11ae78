"""The OpenAPI document that a server serves, and the server held to it by generated requests.

Of Schemathesis' checks these are left out, since v1 is what it is. unsupported_method: a wrong method is a 404, not a
405. negative_data_rejection: bodies of nearly any shape are taken (`{}` takes a lease for 0.0.0.0), and what is unknown
is ignored. positive_data_acceptance: a well-formed request may be refused for what stands in the store.
not_a_server_error: a key that is not there is a 500; our own check tells those words from a mistake of the server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.lab.server import Server
from tests.lab.store_file import StoreFile
from tests.store.remote_rig import admin

DOCUMENT = Path(__file__).parents[2] / "flannel_multi" / "server" / "openapi.json"
EXAMPLES = 60  # of each operation and kind: 24 pairs take about 20 s
CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"alloc"}}'
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
load_all_checks()
SCHEMA = schemathesis.openapi.from_path(str(DOCUMENT))
OPERATIONS: dict[str, Any] = {}
for _found in SCHEMA.get_all_operations():
    assert isinstance(_found, Ok), _found
    OPERATIONS[_found.ok().label] = _found.ok()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("schema")
    with Server(StoreFile(folder / "store.db").url, folder, flags=admin(folder)) as found:
        found.ask("PUT", "/v1/blue/config", CONFIG)
        yield found


def hold_to(server: Server, case: Any) -> Any:
    """The answer, which the document describes."""
    answer = case.call(base_url=server.url, timeout=10.0, allow_redirects=False)
    case.validate_response(answer, checks=CHECKS)
    if answer.status_code == 500:
        assert answer.content not in (b"", b"internal error"), server.log[-2000:]
    return answer


def test_the_document_is_valid_and_is_what_is_served(server: Server) -> None:
    SCHEMA.validate()
    answer = server.ask("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.body == DOCUMENT.read_bytes()
    assert json.loads(answer.body)["openapi"].startswith("3.0.")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", OPERATIONS)
def test_whatever_is_asked_is_answered_as_the_document_says(server: Server, label: str, mode: GenerationMode) -> None:
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def ask(data: st.DataObject) -> None:
        case = data.draw(OPERATIONS[label].as_strategy(generation_mode=mode))
        for option in ("next", "alive"):  # a long poll may wait for ever; the other has no body: both have their tests
            if isinstance(case.query, dict):
                case.query.pop(option, None)
        hold_to(server, case)

    try:
        ask()
    finally:
        mistakes = [line for line in server.log.splitlines() if " E " in line or "Traceback" in line]
    assert mistakes == []
    assert server.ask("GET", "/v1/").status == 200


SUCCESSES: list[tuple[str, dict[str, str], dict[str, str], Any]] = [
    ("PUT /v1/{network}/config", {}, {}, json.loads(CONFIG)),
    ("GET /v1/{network}/config", {}, {"follow": "1"}, None),
    ("GET /v1/{network}/config", {}, {"raw": "1"}, None),
    ("GET /v1/", {}, {}, None),
    ("GET /v1/", {}, {"next": "1"}, None),
    ("POST /v1/{network}/leases", {}, {}, {"PublicIP": "10.9.0.7", "BackendType": "x", "BackendData": {"a": [1]}}),
    ("POST /v1/{network}/leases", {}, {"revisions": "1", "quiet": "1"}, {"PublicIP": "10.9.0.8"}),
    ("PUT /v1/{network}/leases/{subnet}", {"subnet": "10.5.77.0-24"}, {},
     {"Subnet": "10.5.77.0/24", "Attrs": {"PublicIP": "10.9.0.9"}, "Expiration": "2020-01-01T00:00:00Z"}),
    ("PUT /v1/{network}/leases/{subnet}", {"subnet": "10.5.77.0-24"}, {"renew": "1", "revisions": "1"},
     {"Subnet": "10.5.77.0/24", "Attrs": {"PublicIP": "10.9.0.9"}}),
    ("GET /v1/{network}/leases", {}, {}, None),
    ("GET /v1/{network}/leases", {}, {"next": "1", "max": "100", "revisions": "1"}, None),
    ("GET /v1/{network}/leases", {}, {"next": "99999999"}, None),
    ("GET /v1/{network}/leases/{subnet}", {"subnet": "10.5.77.0-24"}, {}, None),
    ("GET /v1/{network}/leases/{subnet}", {"subnet": "10.5.77.0-24"}, {"next": "1"}, None),
    ("POST /v1/{network}/reservations", {}, {}, {"Subnet": "10.5.9.0/24", "PublicIP": "10.9.0.99"}),
    ("GET /v1/{network}/reservations", {}, {}, None),
    ("DELETE /v1/{network}/reservations/{subnet}", {"subnet": "10.5.9.0-24"}, {}, None),
    ("DELETE /v1/{network}/leases/{subnet}", {"subnet": "10.5.77.0-24"}, {"holder": "10.9.0.9"}, None),
    ("GET /v1/{network}/leases/{subnet}", {"subnet": "10.5.77.0-24"}, {"next": "1"}, None),
    ("DELETE /v1/{network}/config", {}, {}, None),
]  # fmt: skip


def test_every_operation_that_succeeds_answers_as_the_document_says(tmp_path: Path) -> None:
    assert {label for label, *_ in SUCCESSES} == set(OPERATIONS)
    with Server(StoreFile(tmp_path / "store.db").url, tmp_path, flags=admin(tmp_path)) as server:
        for label, path, query, body in SUCCESSES:
            operation = OPERATIONS[label]
            named = {"network": "blue", **path} if "{network}" in label else {}
            more = {} if body is None else {"body": body, "media_type": "application/json"}
            answer = hold_to(server, operation.Case(path_parameters=named, query=query, **more))
            assert answer.status_code == 200, (label, answer.text)


def test_a_look_whether_the_store_answers_has_a_place_and_no_body(server: Server) -> None:
    answer = server.ask("GET", "/v1/blue/config?raw=1&alive=1")
    assert (answer.status, answer.body, "content-type" in answer.headers) == (200, b"", False)
    assert answer.headers["flannel-cursor"].isdigit()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/blue/config"),
        ("PATCH", "/v1/blue/leases"),
        ("PUT", "/v1/"),
        ("POST", "/openapi.json"),
        ("GET", "/v1"),
    ],
)
def test_a_wrong_method_and_no_route_are_the_404_that_the_document_names(
    server: Server, method: str, path: str
) -> None:
    answer = server.ask(method, path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")
