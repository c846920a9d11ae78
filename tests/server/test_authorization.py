"""Who may do what, on real servers: mutual TLS with a policy, plain HTTP, and a unix socket."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lab.flanneld import eventually
from tests.lab.server import Answer, Server
from tests.lab.store_file import StoreFile
from tests.lab.tls import Certificates, KeyPair, make_certificates, make_client

CONFIG = '{"Network":"10.50.0.0/16","Backend":{"Type":"alloc"}}'
OWN, OTHER, MAPPED = "10.9.0.7", "10.9.0.8", "10.9.3.3"
OWN_LEASE, OTHER_LEASE, MAPPED_LEASE, FREE = "10.50.7.0", "10.50.8.0", "10.50.33.0", "10.50.99.0"
POLICY = """
[policy.web-1]
networks = ["blue", "_"]

[policy."mapped.example.org"]
networks = ["blue"]
public-ips = ["10.9.3.0/24"]

[policy.boss]
admin = true
"""


class Clients(NamedTuple):
    """`host` has the address OWN in its certificate, `mapped` none: the policy gives it some. `stranger` has one, and
    no table; `other_ca` is signed by a CA that the server does not know."""

    host: KeyPair
    mapped: KeyPair
    stranger: KeyPair
    admin: KeyPair
    other_ca: KeyPair


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def clients(pki: Certificates) -> Clients:
    folder = pki.ca.parent
    return Clients(
        make_client(folder, "host", common_name="web-1", addresses=(OWN, "2001:db8::7")),
        make_client(folder, "mapped", common_name="anything", names=("mapped.example.org",)),
        make_client(folder, "stranger", common_name="stranger", addresses=(OWN,)),
        make_client(folder, "admin", common_name="boss"),
        make_client(folder, "other", common_name="boss", addresses=(OWN,), ca="other-ca"),
    )


class Secure(Server):
    """A server that wants client certificates."""

    def __init__(self, store: StoreFile, folder: Path, pki: Certificates, policy: str) -> None:
        self.settings = folder / "flanneld.toml"
        self.settings.write_text(policy)
        self.store = store
        self._ca = pki.ca
        flags = [
            f"--remote-cafile={pki.ca}",
            f"--remote-certfile={pki.server_cert}",
            f"--remote-keyfile={pki.server_key}",
        ]
        super().__init__(store.url, folder, flags=[f"--config={self.settings}", *flags])

    def ask_as(self, who: KeyPair | None, method: str, path: str, body: str | None = None) -> Answer:
        context = ssl.create_default_context(cafile=str(self._ca))
        if who is not None:
            context.load_cert_chain(who.cert, who.key)
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=10.0, context=context)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def hang_up(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def dump(self) -> list[tuple[object, ...]]:
        """Everything in the store."""
        with self.store.sql() as connection:
            found = connection.execute(
                "SELECT CAST(name AS BLOB) FROM sqlite_master WHERE type = 'table' ORDER BY name"
            )
            tables = [bytes(name).decode() for (name,) in found]
            return [row for table in tables for row in connection.execute(f"SELECT * FROM {table}")]


def fill(store: StoreFile) -> None:
    for network in ("", "blue", "green"):
        store.put_config(network, CONFIG.encode())
        for subnet, ip in ((OWN_LEASE, OWN), (OTHER_LEASE, OTHER), (MAPPED_LEASE, MAPPED)):
            store.put_lease(network, f"{subnet}-24", f'{{"PublicIP":"{ip}"}}')


@pytest.fixture
def secure(tmp_path: Path, pki: Certificates) -> Iterator[Secure]:
    store = StoreFile(tmp_path / "store.db")
    fill(store)
    with Secure(store, tmp_path, pki, POLICY) as server:
        yield server


def attrs(ip: str) -> str:
    return f'{{"PublicIP":"{ip}"}}'


def lease(subnet: str, ip: str) -> str:
    return f'{{"Subnet":"{subnet}/24","Attrs":{attrs(ip)}}}'


READS = {
    "config": ("GET", "/config", None),
    "leases": ("GET", "/leases", None),
    "watch": ("GET", "/leases?next=1", None),
    "a lease": ("GET", f"/leases/{OTHER_LEASE}-24", None),
    "reservations": ("GET", "/reservations", None),
}
OWN_WRITES = {
    "take": ("POST", "/leases", attrs(OWN)),
    "renew": ("PUT", f"/leases/{OWN_LEASE}-24", lease(OWN_LEASE, OWN)),
    "renew only": ("PUT", f"/leases/{OWN_LEASE}-24?renew=1", lease(OWN_LEASE, OWN)),
    "revoke": ("DELETE", f"/leases/{OWN_LEASE}-24", None),
}
OTHERS_WRITES = {
    "take another's": ("POST", "/leases", attrs(OTHER)),
    "take nobody's": ("POST", "/leases", "{}"),
    "renew another's": ("PUT", f"/leases/{OTHER_LEASE}-24", lease(OTHER_LEASE, OTHER)),
    "renew only another's": ("PUT", f"/leases/{OTHER_LEASE}-24?renew=1", lease(OTHER_LEASE, OTHER)),
    "create for another": ("PUT", f"/leases/{FREE}-24", lease(FREE, OTHER)),
    "take over by from": ("PUT", f"/leases/{OTHER_LEASE}-24?from={OTHER}", lease(OTHER_LEASE, OWN)),
    "give away by from": ("PUT", f"/leases/{OWN_LEASE}-24?from={OWN}", lease(OWN_LEASE, OTHER)),
    "revoke another's": ("DELETE", f"/leases/{OTHER_LEASE}-24", None),
    "revoke another's by its holder": ("DELETE", f"/leases/{OTHER_LEASE}-24?holder={OTHER}", None),
    "revoke another's by oneself": ("DELETE", f"/leases/{OTHER_LEASE}-24?holder={OWN}", None),
    "a time to live of one's own": ("PUT", f"/leases/{OWN_LEASE}-24?ttl=0", lease(OWN_LEASE, OWN)),
    "reserve for oneself": ("POST", "/reservations", f'{{"Subnet":"{FREE}/24","PublicIP":"{OWN}"}}'),
    "end a reservation": ("DELETE", f"/reservations/{OWN_LEASE}-24", None),
    "write the config": ("PUT", "/config", CONFIG),
    "write the config as it is": ("PUT", "/config?raw=1", CONFIG),
    "delete the config": ("DELETE", "/config", None),
}
EVERYTHING = {**READS, **OWN_WRITES, **OTHERS_WRITES}


def cases(*tables: Mapping[str, tuple[str, str, str | None]]) -> pytest.MarkDecorator:
    verbs = {name: verb for table in tables for name, verb in table.items()}
    return pytest.mark.parametrize("verb", verbs.values(), ids=verbs.keys())


def is_refused(secure: Secure, who: KeyPair, path: str, verb: tuple[str, str, str | None], named: str) -> None:
    """403 with a reason that names what would allow it, and nothing is written."""
    before = secure.dump()
    answer = secure.ask_as(who, verb[0], path + verb[1], verb[2])
    assert answer.status == 403, answer
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    reason = json.loads(answer.body)
    assert set(reason) == {"error", "identity"}
    assert named in reason["error"], reason
    assert secure.dump() == before


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, pki: Certificates) -> Iterator[Secure]:
    """One server for all tests that write nothing."""
    folder = tmp_path_factory.mktemp("standing")
    store = StoreFile(folder / "store.db")
    fill(store)
    with Secure(store, folder, pki, POLICY) as server:
        yield server


@cases(READS, OWN_WRITES)
def test_a_host_reads_its_network_and_has_power_over_its_own_lease(
    secure: Secure, clients: Clients, verb: tuple[str, str, str | None]
) -> None:
    for network in ("blue", "_"):
        answer = secure.ask_as(clients.host, verb[0], f"/v1/{network}{verb[1]}", verb[2])
        assert answer.status == 200, answer


@cases(OTHERS_WRITES)
def test_a_host_has_no_power_over_another_hosts_lease_nor_over_the_network(
    standing: Secure, clients: Clients, verb: tuple[str, str, str | None]
) -> None:
    is_refused(standing, clients.host, "/v1/blue", verb, '[policy."web-1"]')


@pytest.mark.parametrize("option", ["", "?renew=1", f"?from={OWN}"])
def test_a_host_does_not_get_another_hosts_subnet_by_naming_it_its_own(
    standing: Secure, clients: Clients, option: str
) -> None:
    before = standing.dump()
    path = f"/v1/blue/leases/{OTHER_LEASE}-24{option}"
    answer = standing.ask_as(clients.host, "PUT", path, lease(OTHER_LEASE, OWN))
    assert (answer.status, standing.dump()) == (409, before), answer


@cases(EVERYTHING)
def test_a_host_has_no_business_in_another_network(
    standing: Secure, clients: Clients, verb: tuple[str, str, str | None]
) -> None:
    is_refused(standing, clients.host, "/v1/green", verb, 'networks in [policy."web-1"]')


@cases(EVERYTHING)
def test_who_has_no_table_may_nothing_once_there_are_tables(
    standing: Secure, clients: Clients, verb: tuple[str, str, str | None]
) -> None:
    is_refused(standing, clients.stranger, "/v1/blue", verb, '[policy."stranger"]')


def test_a_certificate_without_an_address_holds_what_the_policy_maps_it_to(secure: Secure, clients: Clients) -> None:
    def ask(method: str, path: str, body: str | None = None) -> Answer:
        return secure.ask_as(clients.mapped, method, f"/v1/blue{path}", body)

    assert ask("GET", "/leases").status == 200
    assert ask("PUT", f"/leases/{MAPPED_LEASE}-24", lease(MAPPED_LEASE, MAPPED)).status == 200
    taken = ask("POST", "/leases", attrs("10.9.3.200"))
    assert taken.status == 200
    for verb in (*OWN_WRITES.values(), *OTHERS_WRITES.values()):
        is_refused(secure, clients.mapped, "/v1/blue", verb, '[policy."mapped.example.org"]')
    assert ask("DELETE", f"/leases/{MAPPED_LEASE}-24").status == 200


@cases(EVERYTHING)
def test_an_admin_may_everything_that_the_store_allows(
    secure: Secure, clients: Clients, verb: tuple[str, str, str | None]
) -> None:
    answer = secure.ask_as(clients.admin, verb[0], f"/v1/green{verb[1]}", verb[2])
    held = verb in (OTHERS_WRITES["revoke another's by oneself"],)  # ?holder= is a condition, not a right
    assert answer.status == (409 if held else 200), answer


def test_who_shows_no_certificate_or_one_of_another_ca_is_not_let_in(standing: Secure, clients: Clients) -> None:
    before = standing.dump()
    for who in (None, clients.other_ca):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            standing.ask_as(who, "GET", "/v1/blue/config")
    assert standing.ask_as(clients.host, "GET", "/v1/blue/config").status == 200
    assert standing.dump() == before


def test_the_list_of_networks_shows_each_client_its_own(standing: Secure, clients: Clients) -> None:
    def listed(who: KeyPair) -> list[str]:
        names = json.loads(standing.ask_as(who, "GET", "/v1/").body)["snapshot"]
        assert isinstance(names, list)
        return names

    assert listed(clients.admin) == ["blue", "green"]
    assert listed(clients.host) == ["blue"]
    assert listed(clients.stranger) == []


def test_without_tables_every_certificate_joins_every_network_as_the_host_that_it_names(
    tmp_path: Path, pki: Certificates, clients: Clients
) -> None:
    store = StoreFile(tmp_path / "store.db")
    fill(store)
    with Secure(store, tmp_path, pki, "") as server:
        assert server.ask_as(clients.host, "POST", "/v1/green/leases", attrs(OWN)).status == 200
        for verb in OTHERS_WRITES.values():
            is_refused(server, clients.host, "/v1/green", verb, '[policy."web-1"]')
        is_refused(server, clients.admin, "/v1/green", OWN_WRITES["take"], 'public-ips in [policy."boss"]')


def test_sighup_takes_a_new_policy_in_and_a_broken_file_changes_nothing(secure: Secure, clients: Clients) -> None:
    def status() -> int:
        return secure.ask_as(clients.host, "GET", "/v1/green/config").status

    assert status() == 403
    secure.settings.write_text('[policy.web-1]\nnetworks = ["green"]\n')
    assert status() == 403
    secure.hang_up()
    eventually(lambda: status() == 200, "the new policy")
    assert secure.ask_as(clients.host, "GET", "/v1/blue/config").status == 403
    secure.settings.write_text("[policy.web-1]\nnetworks = 'blue'\n")
    secure.hang_up()
    eventually(lambda: "nothing changes" in secure.log, "a word in the log")
    assert f"{secure.settings}: [policy.web-1] networks: expected a list of strings" in secure.log
    assert status() == 200


# -- without certificates --------------------------------------------------------------------------------------------


def plain_server(tmp_path: Path, policy: str = "", *flags: str) -> Server:
    store = StoreFile(tmp_path / "store.db")
    fill(store)
    (tmp_path / "flanneld.toml").write_text(policy)
    return Server(store.url, tmp_path, flags=[f"--config={tmp_path}/flanneld.toml", *flags])


CONFIG_WRITES = {name: verb for name, verb in OTHERS_WRITES.items() if verb[1].startswith("/config")}


@cases(EVERYTHING)
def test_over_plain_http_v1_is_open_as_in_flannel_and_configs_are_not(
    tmp_path: Path, verb: tuple[str, str, str | None]
) -> None:
    with plain_server(tmp_path) as server:
        answer = server.ask(verb[0], f"/v1/blue{verb[1]}", verb[2])
        if verb in CONFIG_WRITES.values():
            assert answer.status == 403
            assert "admin = true in [policy.anonymous]" in json.loads(answer.body)["error"]
            assert server.ask("GET", "/v1/blue/config").status == 200
        else:
            assert answer.status == (409 if "holder=10.9.0.7" in verb[1] else 200), answer


def test_the_anonymous_table_opens_configs_and_closes_networks(tmp_path: Path) -> None:
    policy = '[policy.anonymous]\nadmin = true\nnetworks = ["blue"]\n'
    with plain_server(tmp_path, policy) as server:
        assert server.ask("PUT", "/v1/blue/config", CONFIG).status == 200
        assert server.ask("DELETE", "/v1/blue/config").status == 200
        for method, path, body in EVERYTHING.values():
            answer = server.ask(method, f"/v1/green{path}", body)
            assert answer.status == 403
            assert "networks in [policy.anonymous]" in json.loads(answer.body)["error"]


class _ByPath(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10.0)
        self.sock.connect(self.host)


@cases(EVERYTHING)
def test_by_a_unix_socket_everything_is_allowed_whatever_the_policy(
    tmp_path: Path, verb: tuple[str, str, str | None]
) -> None:
    path = tmp_path / "v1.sock"
    with plain_server(tmp_path, "[policy.anonymous]\nnetworks = []\n", f"--listen=unix://{path}"):
        connection = _ByPath(str(path))
        connection.request(verb[0], f"/v1/blue{verb[1]}", verb[2])
        assert connection.getresponse().status == (409 if "holder=10.9.0.7" in verb[1] else 200)
        connection.close()
