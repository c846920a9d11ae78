"""Requests and store contents that mean harm, at a real server: each is answered in words, and others are served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.server import Answer, Asking, Server
from tests.lab.store_file import StoreFile
from tests.store.remote_rig import admin

CONFIG = b'{"Network":"10.50.0.0/16","Backend":{"Type":"alloc"}}'
MIB = 1 << 20


class Served:
    """A server, its store, and a bystander whose long poll in another network waits all the while."""

    def __init__(self, server: Server, store: StoreFile) -> None:
        self.server, self.store = server, store

    def ask(self, method: str, path: str, body: bytes | str | None = None) -> Answer:
        return self.server.ask(method, path, body)

    def leases(self, network: str = "blue") -> dict[str, Any]:
        answer = self.ask("GET", f"/v1/{network}/leases")
        assert answer.status == 200, answer
        return {lease["Subnet"]: lease["Attrs"] for lease in json.loads(answer.body)["snapshot"]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("hostile")
    store = StoreFile(folder / "store.db")
    for network in ("blue", "green"):
        store.put_config(network, CONFIG)
    with Server(store.url, folder, flags=admin(folder)) as server:
        yield Served(server, store)


@pytest.fixture
def served(running: Served) -> Iterator[Served]:
    """After the test: the same process, no mistake of its own in the log, and the bystander has missed nothing."""
    pid = running.server.pid
    cursor = json.loads(running.ask("GET", "/v1/green/leases").body)["cursor"]
    bystander = Asking(running.server, f"/v1/green/leases?next={cursor}")
    yield running
    assert running.ask("POST", "/v1/green/leases", '{"PublicIP":"10.9.0.1"}').status == 200
    told = bystander.answer()
    assert (told.status, json.loads(told.body)["events"][0]["lease"]["Attrs"]) == (200, {"PublicIP": "10.9.0.1"})
    assert running.server.pid == pid
    assert running.server.process is not None
    assert running.server.process.poll() is None
    assert [line for line in running.server.log.splitlines() if " E " in line or "Traceback" in line] == []


@pytest.mark.parametrize("path", ["/v1/", "/v1/blue/leases", "/v1/blue/leases/10.50.1.0-24"])
@pytest.mark.parametrize(
    "cursor",
    ["-1", "abc", "", "1.5", "1e3", "0x1", "%00", "%FF%FE", "%D9%A1%D9%A2", "%F0%9F%98%80", "1%0A",
     "18446744073709551616", "9" * 5000, "%2B1", "+1", "1;drop"],
)  # fmt: skip
def test_a_bad_cursor_is_refused_in_gos_words(served: Served, path: str, cursor: str) -> None:
    answer = served.ask("GET", f"{path}?next={cursor}")
    assert (answer.status, answer.headers["content-type"]) == (500, "text/plain; charset=utf-8")
    assert answer.body.startswith(b"failed to parse cursor: strconv.ParseUint: parsing ")
    assert len(answer.body) < 700


@pytest.mark.parametrize("cursor", ["18446744073709551615", "99999999999", "9223372036854775808"])
@pytest.mark.parametrize("path", ["/v1/", "/v1/blue/leases", "/v1/blue/config"])
def test_a_cursor_of_a_far_future_is_a_snapshot_at_once(served: Served, path: str, cursor: str) -> None:
    assert served.ask("GET", f"{path}?raw=1&next={cursor}").status == 200


BODIES: dict[str, bytes] = {
    "empty": b"", "space": b" \r\n", "NUL": b"\0", "no UTF-8": b"\xff\xfe",
    "UTF-16": '{"PublicIP":"1.2.3.4"}'.encode("utf-16"),
    "BOM": b"\xef\xbb\xbf{}", "word": b"zzz", "cut": b'{"PublicIP":"1', "single quotes": b"{'PublicIP':'1.2.3.4'}",
    "comma": b'{"PublicIP":"1.2.3.4",}', "array": b"[]", "number": b"1", "text": b'"x"', "NaN": b"NaN",
    "nested in arrays": b"[" * 100_000, "nested and closed": b"[" * 100_000 + b"]" * 100_000,
    "nested in objects": b'{"a":' * 100_000, "just below the bound": b"[" * 65_000,
    "digits": b'{"PublicIP":' + b"9" * 60_000 + b"}", "half a pair": b'{"PublicIP":"\\ud800","Subnet":"\\ud800"}',
    "data nested 1,000 deep": b'{"BackendData":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "data without end": b'{"BackendData":1e999}',
    "1 MiB of text": b'{"BackendData":"' + b"x" * (MIB - 20) + b'"}',
    "1 MiB of arrays": b"[" + b"[]," * (MIB // 3 - 2) + b"[]]",
    "1 MiB of keys": json.dumps(dict.fromkeys(range(MIB // 14), 0)).encode(),
    "1 MiB of space": b" " * MIB,
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/blue/leases"), ("PUT", "/v1/blue/leases/10.50.1.0-24"), ("POST", "/v1/blue/reservations"),
     ("PUT", "/v1/blue/config")],
)  # fmt: skip
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_bad_body_of_any_shape_is_refused_in_words_and_writes_nothing(
    served: Served, method: str, path: str, body: bytes
) -> None:
    before = served.leases()
    wrapped = b'{"Subnet":"10.50.1.0/24","Attrs":' + body + b"}" if method == "PUT" and b"BackendData" in body else body
    answer = served.ask(method, path, wrapped)
    passed_over = path.endswith("reservations") and b"BackendData" in body  # it reserves 0.0.0.0/0, which is refused
    assert answer.status in ((400, 500) if passed_over else (400,)), answer
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert 0 < len(answer.body) < 300
    assert served.leases() == before
    assert served.ask("GET", "/v1/blue/config").status == 200


def test_a_config_of_a_mebibyte_is_a_config(served: Served) -> None:
    body = CONFIG[:-1] + b',"x":"' + b"y" * (MIB - len(CONFIG) - 8) + b'"}'
    served.store.put_config("large", CONFIG)
    assert served.ask("PUT", "/v1/large/config", body).status == 200
    assert json.loads(served.ask("GET", "/v1/large/config").body)["Network"] == "10.50.0.0/16"
    assert served.ask("GET", "/v1/large/config?raw=1").body == body
    assert served.ask("PUT", "/v1/large/config", body + b" " * 2048).status in (400, 413)


@pytest.mark.parametrize(
    "path",
    ["/v1/%FF/config", "/v1/a%2F..%2Fb/config", "/v1/../../etc/passwd", "/v1/%2e%2e/config", "/v1/blue%00/config",
     "/v1/" + "x" * 5000 + "/config", "/v1/blue/leases/10.50.1.0-24/x", "/%", "/v1/config/config",
     "/v1/" + "a/" * 4000],
)  # fmt: skip
def test_a_bad_path_is_no_route(served: Served, path: str) -> None:
    answer = served.ask("GET", path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


@pytest.mark.parametrize("subnet", ["bogus", "10.50.1.1-24", "10.50.1.0-33", "010.50.1.0-24", "10.50.1.0-24%00", "%FF"])
def test_a_bad_subnet_is_said_to_be_one(served: Served, subnet: str) -> None:
    for method, collection in (("GET", "leases"), ("PUT", "leases"), ("DELETE", "leases"), ("DELETE", "reservations")):
        answer = served.ask(method, f"/v1/blue/{collection}/{subnet}", "{}")
        assert answer.status == (404 if subnet == "%FF" else 400), (method, answer)


def test_thousands_of_options_are_refused(served: Served) -> None:
    answer = served.ask("GET", "/v1/blue/config?" + "&".join(f"a{number}" for number in range(2500)))
    assert (answer.status, answer.body) == (400, b"more than 50 options in the query")


def test_thousands_of_made_up_networks_do_not_keep_a_real_one_out(served: Served) -> None:
    for number in range(300):
        assert served.ask("GET", f"/v1/made-up-{number}/leases").status == 200
    assert served.ask("GET", "/v1/blue/leases").status == 200


# -- poison in the store ---------------------------------------------------------------------------------------------

POISON: dict[str, tuple[str | bytes, str | bytes]] = {
    "a key that is no subnet": ("foo", '{"PublicIP":"10.9.0.1"}'),
    "a key with bits of a host": ("10.50.1.1-24", '{"PublicIP":"10.9.0.1"}'),
    "a key that is no text": (b"\xff\xfe", '{"PublicIP":"10.9.0.1"}'),
    "no JSON": ("10.50.1.0-24", "notjson"),
    "no UTF-8": ("10.50.1.0-24", b"\xff"),
    "no object": ("10.50.1.0-24", "[]"),
    "no address": ("10.50.1.0-24", '{"PublicIP":"zz"}'),
    "nested": ("10.50.1.0-24", "[" * 100_000),
    "data nested": ("10.50.1.0-24", '{"PublicIP":"10.9.0.1","BackendData":' + "[" * 500 + "]" * 500 + "}"),
    "data without end": ("10.50.1.0-24", '{"PublicIP":"10.9.0.1","BackendData":1e999}'),
    "NaN": ("10.50.1.0-24", '{"PublicIP":"10.9.0.1","BackendData":NaN}'),
    "digits": ("10.50.1.0-24", '{"PublicIP":"10.9.0.1","BackendData":' + "9" * 5000 + "}"),
}


@pytest.mark.parametrize(("key", "value"), POISON.values(), ids=POISON.keys())
def test_what_is_no_lease_is_skipped_in_listings_and_watches(
    served: Served, key: str | bytes, value: str | bytes, request: pytest.FixtureRequest
) -> None:
    network = f"poisoned-{list(POISON).index(request.node.callspec.id)}"
    served.store.put_config(network, CONFIG)
    cursor = json.loads(served.ask("GET", f"/v1/{network}/leases").body)["cursor"]
    served.store.put_lease(network, key, value)
    served.store.put_lease(network, "10.50.9.0-24", '{"PublicIP":"10.9.0.9"}')
    told: list[Any] = []
    while not told or told[-1]["lease"]["Subnet"] != "10.50.9.0/24":
        answer = json.loads(served.ask("GET", f"/v1/{network}/leases?next={cursor}").body)
        told, cursor = told + answer["events"], answer["cursor"]
    before = {(event["type"], event["lease"]["Subnet"]) for event in told[:-1]}
    assert before <= {("removed", "10.50.1.0/24")}  # as far as the store can tell, a lease stood there
    assert served.leases(network) == {"10.50.9.0/24": {"PublicIP": "10.9.0.9"}}
    assert served.ask("POST", f"/v1/{network}/leases", '{"PublicIP":"10.9.0.77"}').status == 200


def test_a_lease_with_half_a_surrogate_pair_does_not_spoil_the_listing(served: Served) -> None:
    served.store.put_config("pairs", CONFIG)
    served.store.put_lease("pairs", "10.50.1.0-24", '{"PublicIP":"10.9.0.1","BackendType":"\\ud800"}')
    taken = served.ask("POST", "/v1/pairs/leases", '{"PublicIP":"10.9.0.2","BackendData":{"\\udfff":"\\ud800x"}}')
    assert taken.status == 200
    assert json.loads(taken.body)["Attrs"]["BackendData"] == {"\udfff": "\ud800x"}
    assert len(served.leases("pairs")) == 2


@pytest.mark.parametrize("config", [b"", b"zzz", b"\xff", b"null", b"[]", b"{}", b"[" * 100_000, b'{"Network":"x"}'])
def test_a_config_that_is_none_is_a_500_in_words_and_leases_are_listed_all_the_same(
    served: Served, config: bytes
) -> None:
    served.store.put_config("broken", config)
    served.store.put_lease("broken", "10.50.1.0-24", '{"PublicIP":"10.9.0.1"}')
    for method, path, body in (
        ("GET", "config", None), ("POST", "leases", '{"PublicIP":"10.9.0.2"}'),
        ("POST", "reservations", '{"Subnet":"10.50.2.0/24","PublicIP":"10.9.0.2"}'),
    ):  # fmt: skip
        answer = served.ask(method, f"/v1/broken/{path}", body)
        assert (answer.status, answer.headers["content-type"]) == (500, "text/plain; charset=utf-8")
        assert 0 < len(answer.body) < 300
        assert answer.body != b"internal error"
    assert set(served.leases("broken")) == {"10.50.1.0/24"}
    assert served.ask("GET", "/v1/broken/config?raw=1").body == config
