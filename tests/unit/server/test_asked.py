"""Paths and queries of protocol v1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.subnet import Subnet
from flannel_multi.server.asked import MOST_EVENTS, Asked, Gone, parse
from flannel_multi.server.bodies import BadCursor, BadQuery
from flannel_multi.server.exchange import Peer, Request
from flannel_multi.server.policy import Rights

RIGHTS = Rights({}, Peer("192.0.2.1:4242"))
SUBNET = Subnet.parse("10.5.7.0/24")


def asked(path: str, query: str = "") -> Asked | None:
    return parse(Request("GET", path, query, b"", Peer("192.0.2.1:4242")), RIGHTS)


def found(path: str, query: str = "") -> Asked:
    answer = asked(path, query)
    assert answer is not None, path
    return answer


@pytest.mark.parametrize(
    ("path", "what", "network", "subnet"),
    [
        ("/v1/", "networks", "", None),
        ("/v1/_/config", "config", "", None),
        ("/v1/%5F/config", "config", "", None),
        ("/v1/%5f/leases", "leases", "", None),
        ("/v1/blue/leases", "leases", "blue", None),
        ("/v1/bl%75e/leases", "leases", "blue", None),
        ("/v1/A.b_c-9/reservations", "reservations", "A.b_c-9", None),
        ("/v1/" + "x" * 63 + "/config", "config", "x" * 63, None),
        ("/v1/_/leases/10.5.7.0-24", "lease", "", SUBNET),
        ("/v1/_/leases/10.5.7.0%2D24", "lease", "", SUBNET),
        ("/v1/_/leases/bogus", "lease", "", None),
        ("/v1/_/leases/10.5.7.1-24", "lease", "", None),
        ("/v1/_/leases/10.5.7.0-24%20", "lease", "", None),
        ("/v1/blue/reservations/10.5.7.0-24", "reservation", "blue", SUBNET),
    ],
)
def test_every_route_is_found(path: str, what: str, network: str, subnet: Subnet | None) -> None:
    answer = found(path)
    assert (answer.what, answer.network, answer.subnet) == (what, network, subnet)
    assert answer.shown == (network or "_")


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/v1", "/v1/_", "/v1/_/", "/v2/", "/V1/", "/v1/_/leases/", "/v1/_/config/", "/v1/_/config/x",
        "/v1/_/leases/10.5.7.0-24/", "/v1/_/leases/10.5.7.0-24/x", "/v1/_/leases/%FF",
        "/v1/_/nosuch", "/v1/_/LEASES", "*", "v1/_/config",
    ],
)  # fmt: skip
def test_every_other_path_is_none(path: str) -> None:
    assert asked(path) is None


@pytest.mark.parametrize(
    "name",
    [
        "config", "subnets", "all", ".", "..", "%2E%2E", "-a", ".a", "__", "a%2Fb", "%2F", "%00", "a%00", "a%0A",
        "%0Aa", "a b", "a%20", "bl%C3%BCe", "%FF", "a%ED%A0%80", "x" * 64, "%", "%zz", "a%",
    ],
)  # fmt: skip
def test_what_no_network_may_be_called_is_no_path(name: str) -> None:
    assert asked(f"/v1/{name}/config") is None


@pytest.mark.parametrize(
    ("path", "query", "there"),
    [
        ("//v1/_/config", "", "/v1/_/config"),
        ("/v1//_////config", "", "/v1/_/config"),
        ("//evil.example/v1/_/config", "", "/evil.example/v1/_/config"),
        ("/v1//_/leases", "next=7", "/v1/_/leases?next=7"),
    ],
)
def test_double_slashes_send_the_client_to_the_path_without_and_never_to_another_host(
    path: str, query: str, there: str
) -> None:
    with pytest.raises(Gone) as caught:
        asked(path, query)
    assert caught.value.path == there


def test_of_several_cursors_the_first_counts_and_what_is_unknown_is_passed_over() -> None:
    assert found("/v1/", "next=5&next=x&other=1&&=&%FF=%FF").cursor() == 5
    assert found("/v1/", "Next=5").cursor() is None


@pytest.mark.parametrize("query", ["next=", "next", "next=abc&next=5", "next=%FF", "next=%D9%A1", "next=5;1"])
def test_a_cursor_that_is_no_number_is_refused(query: str) -> None:
    with pytest.raises(BadCursor):
        found("/v1/", query).cursor()


def test_ten_thousand_options_are_refused_and_those_of_a_browser_are_not() -> None:
    with pytest.raises(BadQuery, match="more than 50 options"):
        asked("/v1/_/config", "&".join(f"a{number}=1" for number in range(10_000)))
    assert found("/v1/_/config", "&".join(f"a{number}=1" for number in range(50)))


@pytest.mark.parametrize(
    ("query", "most"),
    [("", 1), ("max=7", 7), ("max=0", 1), ("max=99999", MOST_EVENTS), ("max=999999", 1), ("max=-1", 1), ("max=x", 1)],
)
def test_how_many_events_an_answer_may_bear_is_within_bounds(query: str, most: int) -> None:
    assert found("/v1/_/leases", query).most() == most


def test_options_of_writes_are_read_or_refused_by_their_names() -> None:
    answer = found("/v1/_/leases/10.5.7.0-24", "from=10.9.0.7&ttl=0")
    assert (answer.address("from"), answer.ttl_s(), answer.address("holder")) == (0x0A090007, 0, None)
    for query in ("from=x", "from=", "from=::1"):
        with pytest.raises(BadQuery, match=r"^\?from: "):
            found("/v1/_/leases", query).address("from")
    for query in ("ttl=", "ttl=-1", "ttl=1.5", "ttl=9999999999", "ttl=%D9%A1"):
        with pytest.raises(BadQuery, match=r"^\?ttl: "):
            found("/v1/_/leases", query).ttl_s()


@given(st.text(alphabet="/v1_.%abcdefF205-", max_size=40), st.text(alphabet="next=&%5x;", max_size=60))
def test_any_path_is_a_route_none_or_elsewhere(path: str, query: str) -> None:
    try:
        answer = asked(path, query)
    except (Gone, BadQuery):
        return
    if answer is not None:
        assert answer.network == "" or answer.network.isascii()
        assert "/" not in answer.network
