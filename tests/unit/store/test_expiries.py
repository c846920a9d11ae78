"""The cache of leases' ends."""

from __future__ import annotations

from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.expiries import MOST, NEVER, Expiries

SUBNET = Subnet.parse("10.1.5.0/24")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.9

    def __call__(self) -> float:
        return self.now_s


def record(lease_id: int, revision: int = 1) -> LeaseRecord:
    return LeaseRecord(SUBNET, LeaseAttrs(1), lease_id, revision)


def test_an_end_that_was_noted_is_known_of_every_revision_of_the_lease() -> None:
    known = Expiries(Clock())
    assert known.note(record(7), 60) == 1060
    assert known.of(record(7, revision=99)) == 1060
    assert known.of(record(8)) is None


def test_a_later_word_replaces_an_earlier_one() -> None:
    clock = Clock()
    known = Expiries(clock)
    known.note(record(7), 60)
    clock.now_s += 30
    known.note(record(7), 60)
    assert known.of(record(7)) == 1090


def test_an_end_that_has_passed_is_forgotten_since_the_lease_was_prolonged_or_is_gone() -> None:
    clock = Clock()
    known = Expiries(clock)
    known.note(record(7), 60)
    clock.now_s = 1060.0
    assert known.of(record(7)) == 1060
    clock.now_s = 1060.1
    assert known.of(record(7)) is None
    clock.now_s = 1000.0  # not even a clock that is set back brings it back
    assert known.of(record(7)) is None


def test_a_reservation_never_ends_whatever_is_said_of_it() -> None:
    known = Expiries(Clock())
    assert known.note(record(0), 60) == NEVER
    assert known.of(record(0)) == NEVER
    assert known.note(record(7), None) == NEVER
    assert known.of(record(7)) is None


def test_what_is_unknown_is_told_in_order() -> None:
    known = Expiries(Clock())
    known.note(record(7), 60)
    assert known.unknown([record(9), record(7), record(0), record(8)]) == [record(9), record(8)]


def test_no_more_ends_are_remembered_than_memory_has_room_for() -> None:
    known = Expiries(Clock())
    for lease_id in (*range(1, MOST + 1), 2):
        known.note(record(lease_id), 60)
    assert not known.unknown(record(lease_id) for lease_id in (1, 2, MOST))
    known.note(record(MOST + 1), 60)
    assert known.of(record(MOST + 1)) == 1060
    assert len(known.unknown(record(lease_id) for lease_id in range(1, MOST + 1))) == MOST
