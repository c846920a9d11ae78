"""A host that has no thread left for the path: it says so, and the next table starts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.datapath import traffic
from tests.datapath.site import End, Site

TO_A, TO_B = {"10.77.1.0/24": "192.168.77.1"}, {"10.77.2.0/24": "192.168.77.2"}
TABLE = "swap 10.77.2.0/24=192.168.77.2"
REFUSED = os.strerror(11)  # EAGAIN


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    with ExitStack() as stack:
        site = stack.enter_context(Site())
        yield stack.enter_context(End(site.a, TO_B)), stack.enter_context(End(site.b, TO_A)).start()


def assert_refused_then_served(a: End, b: End) -> None:
    assert a.ask(TABLE) == REFUSED
    a.ask("threads 100")
    assert a.ask(TABLE) is None
    assert traffic.answered_pings(a.host, b.overlay, 20, patience_s=5.0) == 20


def test_a_path_without_a_thread_gets_it_with_a_later_table(ends: tuple[End, End]) -> None:
    a, b = ends
    a.start("threads=1")
    assert_refused_then_served(a, b)


def test_a_path_that_cannot_go_on_with_the_table_of_the_one_before_gets_its_thread_later(ends: tuple[End, End]) -> None:
    a, b = ends
    a.start()
    a.kill()
    a.start("threads=1")
    assert_refused_then_served(a, b)


def test_a_path_that_never_had_a_thread_ends_in_order(ends: tuple[End, End]) -> None:
    a, _ = ends
    a.start("threads=1")
    assert a.stop() == 0
