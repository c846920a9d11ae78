"""How long to wait before the next attempt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.backoff import next_backoff_s

JITTER = st.floats(0, 1, exclude_max=True)
FLOOR = st.floats(0.001, 10)
CAP = st.floats(10, 1000)


@given(st.integers(-5, 10**9), FLOOR, CAP, JITTER)
def test_a_wait_is_never_shorter_than_the_floor_nor_longer_than_the_cap(
    failures: int, floor: float, cap: float, jitter: float
) -> None:
    assert floor <= next_backoff_s(failures, floor_s=floor, cap_s=cap, jitter=jitter) <= cap


def test_the_ceiling_doubles_from_floor_to_cap() -> None:
    waits = [round(next_backoff_s(failures, jitter=0.9999999), 3) for failures in range(1, 10)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_without_jitter_every_wait_is_the_floor() -> None:
    assert {next_backoff_s(failures, jitter=0.0) for failures in range(1, 100)} == {0.5}
