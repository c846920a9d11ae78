"""Stores of every kind, empty, by their URLs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.lab.etcd import Etcd
from tests.lab.server import Server

_numbers = count()
MakeStore = Callable[[str], str]


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    with Etcd() as running:
        yield running


@pytest.fixture
def make_store(etcd: Etcd, tmp_path: Path) -> Iterator[MakeStore]:
    """Makes an empty store of a kind: etcd (a prefix of its own), sqlite, or a flanneld server over either."""
    servers: list[Server] = []

    def make(kind: str) -> str:
        number = next(_numbers)
        if kind == "etcd":
            return f"etcd://{etcd.url.removeprefix('http://')}/ctl{number}"
        if kind == "sqlite":
            return f"sqlite://{tmp_path}/store{number}.db"
        store = make(kind.removeprefix("server over "))
        server = Server(store, tmp_path, name=f"server{number}", flags=[f"--config={policy(tmp_path)}"])
        server.start()
        servers.append(server)
        return server.url

    yield make
    for server in servers:
        server.kill()


@pytest.fixture(params=["etcd", "sqlite", "server over etcd", "server over sqlite"])
def url(request: pytest.FixtureRequest, make_store: MakeStore) -> str:
    """An empty store of each kind."""
    return make_store(request.param)


def policy(folder: Path) -> Path:
    """Settings of a server that lets clients without a certificate write configs."""
    path = folder / "policy.toml"
    path.write_text("[policy.anonymous]\nadmin = true\n")
    return path
