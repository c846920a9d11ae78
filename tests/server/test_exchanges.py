"""The exchanges that flannel's protocol v1 is known by, replayed byte for byte against our server on each store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from flannel_multi.options import EtcdOptions, SqliteOptions, StoreOptions
from flannel_multi.store.opening import open_ledger
from tests.lab.etcd import Etcd
from tests.lab.server import Answer, Asking, Server
from tests.lab.store_file import StoreFile
from tests.lab.storehosts import PREFIX
from tests.store.rig import options as etcd_options
from tests.store.rig import run

CONFIGS = {
    "": b'{"Network":"10.50.0.0/16","Backend":{"Type":"alloc"}}',
    "nil": b'{"Network":"10.1.0.0/16","Backend":null}',
    "bare": b'{"Network":"10.1.0.0/16"}',
    "t": b'{"Network":"10.1.0.0/16","SubnetLen":15}',
    "full": b'{"Network":"10.60.0.0/16","SubnetMin":"10.60.1.0","SubnetMax":"10.60.1.0","Backend":{"Type":"alloc"}}',
    "kept": b'{"Network":"10.70.0.0/16","Backend":{"Type":"alloc"}}',
}
PATTERNS = {
    "time": r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z",
    "cursor": r"\d+",
    "number": r"\d+",
    "s": r"\d+\.\d+\.\d+\.\d+",
    "any": r".*",
}
_NAME = re.compile("«([a-z]+)([0-9a-z]*)»")


class Exchange(NamedTuple):
    """`before`: what is done before it is sent, `during`: while it `waits`, an action each."""

    name: str
    method: str
    path: str
    body: str | None
    before: list[str]
    waits: bool
    during: list[str]
    status: int
    content_type: str
    answer: str


def read_exchanges(text: str) -> Iterator[Exchange]:
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(" "):
            blocks.append([])
        blocks[-1].append(line.strip())
    for first, *rest in blocks:
        name, method, path = first.split()
        at = next(number for number, line in enumerate(rest) if re.fullmatch(r"\d\d\d( .*)?", line))
        asked, (status, _, content_type) = rest[:at], rest[at].partition(" ")
        before, during = (
            [line.removeprefix(word) for line in asked if line.startswith(word)] for word in ("first ", "then ")
        )
        bodies = [line for line in asked if line != "wait" and not line.startswith(("first ", "then "))]
        yield Exchange(
            name, method, path, bodies[0] if bodies else None, before, "wait" in asked, during,
            int(status), content_type, "".join(rest[at + 1 :]).replace("⏎", "\n"),
        )  # fmt: skip


EXCHANGES = list(read_exchanges((Path(__file__).with_name("exchanges.txt")).read_text("utf-8")))


class Behind(Protocol):
    """Another process that writes to the store."""

    def put(self, key: str, value: str) -> None:
        """Any value to a key below the prefix, such as `blue/subnets/foo`."""

    def compact(self) -> None:
        """All history up to now is forgotten."""


class BehindEtcd:
    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self.compact = etcd.compact

    def put(self, key: str, value: str) -> None:
        self._etcd.put(f"{PREFIX}/{key}", value)


class BehindFile:
    def __init__(self, path: Path) -> None:
        self._file = StoreFile(path)
        self.compact = self._file.forget

    def put(self, key: str, value: str) -> None:
        match key.split("/"):
            case [network, "config"]:
                self._file.put_config(network, value.encode())
            case [network, "subnets", name]:
                self._file.put_lease(network, name, value, permanent=True)
            case _:
                raise AssertionError(f"no key of a named network: {key}")


class Replay:
    """Sends exchanges, and keeps what the names in them stand for."""

    def __init__(self, server: Server, behind: Behind, write_config: Callable[[str, bytes | None], None]) -> None:
        self._server = server
        self._behind = behind
        self._write_config = write_config
        self._names: dict[str, str] = {}

    def play(self, exchange: Exchange) -> None:
        for action in exchange.before:
            self._act(self._filled(action))
        path = self._filled(exchange.path)
        if exchange.waits:
            asking = Asking(self._server, path)
            assert asking.waits, f"{exchange.name} was answered at once"
            for action in exchange.during:
                assert asking.waits, f"{exchange.name} was answered before {action}"
                self._act(self._filled(action))
            answer = asking.answer()
        else:
            body = None if exchange.body is None else self._filled(exchange.body)
            answer = self._server.ask(exchange.method, path, body)
        self._compare(exchange, answer)

    def _compare(self, exchange: Exchange, answer: Answer) -> None:
        assert (answer.status, answer.body.decode()) == (exchange.status, self._matched(exchange, answer))
        assert answer.headers.get("content-type", "") == exchange.content_type
        assert answer.headers["content-length"] == str(len(answer.body))
        assert "date" in answer.headers
        if exchange.status == 404:
            assert answer.headers["x-content-type-options"] == "nosniff"
        if exchange.status == 301:
            assert answer.headers["location"] == "/v1/_/config"

    def _matched(self, exchange: Exchange, answer: Answer) -> str:
        """What the body should be, with this answer's own words for names that come up for the first time."""
        said = answer.body.decode()
        pattern = "".join(self._pattern(part) for part in re.split("(«[^»]+»)", exchange.answer))
        found = re.fullmatch(pattern, said, re.DOTALL)
        if found is None:
            return self._filled(exchange.answer)
        self._names.update(found.groupdict())
        return said

    def _pattern(self, part: str) -> str:
        name = _NAME.fullmatch(part)
        if name is None:
            return re.escape(part)
        known = self._names.get(name[1] + name[2])
        return re.escape(known) if known is not None else f"(?P<{name[1]}{name[2]}>{PATTERNS[name[1]]})"

    def _filled(self, text: str) -> str:
        return _NAME.sub(lambda found: self._names.get(found[1] + found[2], found[0]), text)

    def _act(self, action: str) -> None:
        match action.split(" ", 3):
            case ["config", network, *rest]:
                self._write_config(network, " ".join(rest).encode())
            case ["no", "config", network]:
                self._write_config(network, None)
            case ["raw", key, *rest]:
                self._behind.put(key, " ".join(rest))
            case ["compact"]:
                self._behind.compact()
            case [method, path, *rest]:
                assert self._server.ask(method, path, " ".join(rest)).status == 200


@pytest.fixture(scope="module", params=["etcd", "sqlite"])
def replay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """A server on a store that holds CONFIGS."""
    folder = tmp_path_factory.mktemp("exchanges")
    if request.param == "etcd":
        with Etcd() as etcd:
            flag = f"--etcd-endpoints={','.join(etcd.urls)}"
            yield from _served(folder, etcd_options(etcd), BehindEtcd(etcd), flag)
    else:
        path = folder / "store.db"
        yield from _served(folder, SqliteOptions(str(path)), BehindFile(path))


def _served(folder: Path, store: StoreOptions, behind: Behind, *flags: str) -> Iterator[Replay]:
    def write(network: str, raw: bytes | None) -> None:
        async def story() -> None:
            ledger = open_ledger(store)
            await (ledger.delete_config(network) if raw is None else ledger.write_config(network, raw))
            await ledger.close()

        run(story())

    for network, raw in CONFIGS.items():
        write(network, raw)
    url = "etcd" if isinstance(store, EtcdOptions) else f"sqlite://{folder / 'store.db'}"
    with Server(url, folder, flags=flags) as server:
        yield Replay(server, behind, write)
        assert " E " not in server.log


@pytest.mark.parametrize("exchange", EXCHANGES, ids=[exchange.name for exchange in EXCHANGES])
def test_an_exchange_is_answered_to_the_byte(replay: Replay, exchange: Exchange) -> None:
    replay.play(exchange)
