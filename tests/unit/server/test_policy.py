"""Who may do what: the matrix of identities, networks and leases."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from flannel_multi.model.subnet import parse_ip
from flannel_multi.options import Grant
from flannel_multi.server.exchange import Identity, Peer
from flannel_multi.server.policy import Forbidden, Rights

OWN, OTHER = parse_ip("10.9.0.7"), parse_ip("10.9.0.8")
WEB = Identity(("web-1", "web-1.example.org"), frozenset((OWN,)))
BARE = Identity(("web-1",))
NAMELESS = Identity(())
Policy = Mapping[str, Grant]
NONE: Policy = {}
BLUE: Policy = {"web-1": Grant(networks=("blue",))}
VERBS: dict[str, Callable[[Rights, str], None]] = {
    "read": lambda rights, network: rights.join(network),
    "hold own": lambda rights, network: rights.hold(network, OWN),
    "hold other": lambda rights, network: rights.hold(network, OTHER),
    "arrange": lambda rights, network: rights.arrange(network),
    "configure": lambda rights, network: rights.configure(network),
}


def allowed(policy: Policy, identity: Identity | None, network: str = "blue", *, local: bool = False) -> set[str]:
    rights = Rights(policy, Peer("192.0.2.1:4242", identity, local))
    found = set()
    for name, verb in VERBS.items():
        try:
            verb(rights, network)
        except Forbidden:
            continue
        found.add(name)
    return found


def refusal(policy: Policy, identity: Identity | None, verb: str, network: str = "blue") -> Forbidden:
    with pytest.raises(Forbidden) as caught:
        VERBS[verb](Rights(policy, Peer("192.0.2.1:4242", identity)), network)
    assert "\n" not in caught.value.reason
    return caught.value


EVERYTHING = set(VERBS)
AS_V1 = EVERYTHING - {"configure"}
AS_HOST = {"read", "hold own"}
MATRIX: dict[str, tuple[Policy, Identity | None, str, set[str]]] = {
    "no certificates, no tables: v1 as in flannel": (NONE, None, "blue", AS_V1),
    "anonymous elsewhere": ({"anonymous": Grant(networks=("green",))}, None, "blue", set()),
    "anonymous here": ({"anonymous": Grant(networks=("blue",))}, None, "blue", AS_V1),
    "anonymous admin": ({"anonymous": Grant(admin=True)}, None, "blue", EVERYTHING),
    "tables for others do not touch the anonymous": (BLUE, None, "green", AS_V1),
    "a host, no tables": (NONE, WEB, "blue", AS_HOST),
    "a host without an address": (NONE, BARE, "blue", {"read"}),
    "a host without a name": (NONE, NAMELESS, "blue", {"read"}),
    "a host in its network": (BLUE, WEB, "blue", AS_HOST),
    "a host in another network": (BLUE, WEB, "green", set()),
    "a host in the unnamed network": (BLUE, WEB, "_", set()),
    "a host that no table names": (BLUE, Identity(("db",), frozenset((OWN,))), "blue", set()),
    "a host that the table for any names": ({**BLUE, "*": Grant()}, Identity(("db",), frozenset((OWN,))), "x", AS_HOST),
    "its own table wins over the one for any": ({**BLUE, "*": Grant(admin=True)}, WEB, "green", set()),
    "a table by a DNS name": ({"web-1.example.org": Grant(networks=("b*",))}, WEB, "blue", AS_HOST),
    "two tables add up": (
        {"web-1": Grant(("green",)), "web-1.example.org": Grant(("blue",))}, WEB, "blue", AS_HOST
    ),
    "admin of one network only": (
        {"web-1": Grant(("green",), admin=True), "web-1.example.org": Grant(("blue",))}, WEB, "blue", AS_HOST
    ),
    "addresses of one network only": (
        {"web-1": Grant(("green",), ((OTHER, 32),)), "web-1.example.org": Grant(("blue",))}, WEB, "blue", AS_HOST
    ),
    "an address by the policy": ({"web-1": Grant(public_ips=((OTHER, 32),))}, BARE, "blue", {"read", "hold other"}),
    "a range by the policy": ({"web-1": Grant(public_ips=((OWN & ~255, 24),))}, BARE, "blue", AS_HOST | {"hold other"}),
    "admin": ({"web-1": Grant(admin=True)}, BARE, "blue", EVERYTHING),
    "glob": ({"web-1": Grant(networks=("bl[uv]?",))}, WEB, "blue", AS_HOST),
    "glob that misses": ({"web-1": Grant(networks=("bl[uv]",))}, WEB, "blue", set()),
    "no network": ({"web-1": Grant(networks=())}, WEB, "blue", set()),
    "a network in other letters": (BLUE, WEB, "Blue", set()),
    "a certificate called anonymous": ({"anonymous": Grant(admin=True)}, Identity(("anonymous",)), "blue", set()),
}  # fmt: skip


@pytest.mark.parametrize(("policy", "identity", "network", "may"), MATRIX.values(), ids=MATRIX.keys())
def test_the_matrix(policy: Policy, identity: Identity | None, network: str, may: set[str]) -> None:
    assert allowed(policy, identity, network) == may


def test_who_comes_by_a_unix_socket_may_do_everything() -> None:
    assert allowed({"anonymous": Grant(networks=())}, None, local=True) == EVERYTHING


@pytest.mark.parametrize(
    ("policy", "identity", "verb", "named"),
    [
        (BLUE, Identity(("db",)), "read", 'networks in [policy."db"]'),
        (NONE, WEB, "hold other", 'public-ips in [policy."web-1"]'),
        (NONE, WEB, "hold other", "10.9.0.8"),
        (NONE, WEB, "arrange", 'admin = true in [policy."web-1"]'),
        (NONE, None, "configure", "admin = true in [policy.anonymous]"),
        ({"anonymous": Grant(networks=())}, None, "read", "[policy.anonymous]"),
        ({"web-1.example.org": Grant()}, WEB, "configure", '[policy."web-1.example.org"]'),
        (NONE, NAMELESS, "hold own", '[policy."*"]'),
        (NONE, Identity(('a"b\\c',)), "hold own", r'[policy."a\"b\\c"]'),
    ],
)
def test_a_refusal_names_what_would_allow_it(policy: Policy, identity: Identity | None, verb: str, named: str) -> None:
    assert named in refusal(policy, identity, verb).reason


def test_a_refusal_names_who_was_refused() -> None:
    assert refusal(NONE, WEB, "hold other").identity == "web-1"
    assert refusal(NONE, None, "configure").identity == "anonymous"
