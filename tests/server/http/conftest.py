"""A log of its own for every test: one that was opened before would write past the capture, and drop after a flood."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flannel_multi import log


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    log.configure(fmt="text", verbosity=0)
    yield
    log.configure(fmt="text", verbosity=0)
