"""The packet code is built once, with sanitizers, for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packets.building import HERE, PURE, build
from tests.packets.driver import Driver


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    program: Path = build(HERE / "driver.c", tmp_path_factory.mktemp("packets") / "driver", PURE)
    with Driver(program) as driver:
        yield driver
