"""Every test here has a network namespace of its own, so it needs root."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel import place


@pytest.fixture(autouse=True)
def _host() -> Iterator[None]:
    with place.namespace():
        place.furnish()
        yield
