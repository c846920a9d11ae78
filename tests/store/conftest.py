"""One etcd for all tests that leave it running; those that break it start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.etcd import Etcd


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    """A single member without TLS or authentication."""
    with Etcd() as running:
        yield running
