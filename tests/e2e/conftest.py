"""Whole daemons on hosts made of network namespaces. Needs root, iproute2, ping and etcd: without them tests fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.lab.overlay import Overlay
from tests.lab.pinger import Count

PREFIX = "fle2e"
MakeOverlay = Callable[..., Overlay]


def assert_nothing_lost(counts: Mapping[str, Count]) -> None:
    """All three networks were pinged for a while, and every packet came back."""
    assert {network: count.lost for network, count in counts.items()} == {"blue": 0, "green": 0, "red": 0}, counts
    assert min(count.sent for count in counts.values()) >= 50, counts


@pytest.fixture(autouse=True)
def _root() -> None:
    assert os.geteuid() == 0, "these tests make network namespaces: run them as root"


@pytest.fixture
def make_overlay(tmp_path: Path) -> Iterator[MakeOverlay]:
    """Makes an Overlay (not started); all of them are taken down at the end of the test."""
    made: list[Overlay] = []

    def make(**options: Any) -> Overlay:
        overlay = Overlay(PREFIX, tmp_path / str(len(made)), **options)
        made.append(overlay)
        return overlay

    yield make
    for overlay in made:
        overlay.close()
