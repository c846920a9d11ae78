"""What the store said last, and what of it changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.protocol import ConfigWritten, LeaseGone, LeaseWritten, Revision, Skipped, Snapshot
from flannel_worker.mirror import Delta, Mirror
from tests.unit.worker.place import peer, subnet

A, B = peer("10.5.1.0/24"), peer("10.5.2.0/24", "192.0.2.3")


def listing(*records: LeaseRecord, at: int = 10, config: bytes | None = b"{}", restored: bool = False) -> Snapshot:
    return Snapshot(Revision("c", at), config, {one.subnet: one for one in records}, restored=restored)


def test_a_listing_says_what_changed_and_no_more() -> None:
    mirror = Mirror()
    assert mirror.listed(listing(A, B), now_s=0.0) == Delta(frozenset((A.subnet, B.subnet)))
    assert mirror.listed(listing(A, B), now_s=0.0) == Delta()
    moved = B._replace(revision=12)
    assert mirror.listed(listing(moved), now_s=0.0).subnets == {A.subnet, B.subnet}
    assert mirror.leases == {B.subnet: moved}


def test_events_change_one_lease_and_carry_the_revision_on() -> None:
    mirror = Mirror()
    mirror.listed(listing(A), now_s=0.0)
    late = B._replace(revision=11)
    assert mirror.changed(LeaseWritten(late)).subnets == {B.subnet}
    assert mirror.changed(LeaseWritten(late)) == Delta()
    assert mirror.changed(LeaseGone(A.subnet, 12)).subnets == {A.subnet}
    assert mirror.changed(LeaseGone(A.subnet, 13)) == Delta()
    assert mirror.revision == Revision("c", 13)
    assert mirror.changed(Skipped("odd key")).lines == ("odd key",)


def test_a_deleted_config_is_told_from_one_that_was_never_there() -> None:
    mirror = Mirror()
    mirror.listed(listing(config=None), now_s=0.0)
    mirror.changed(ConfigWritten(b"{}", 11))
    mirror.changed(ConfigWritten(None, 12))
    assert mirror.config is None
    mirror.listed(listing(at=13), now_s=0.0)


def test_what_a_restored_store_lacks_is_kept_for_the_grace_and_then_given_up() -> None:
    mirror = Mirror()
    mirror.listed(listing(A, B), now_s=0.0)
    assert mirror.listed(listing(B, at=3, restored=True), now_s=100.0).subnets == frozenset()
    assert mirror.is_missing(A.subnet)
    assert mirror.known() is None
    mirror.listed(listing(B, at=4), now_s=200.0)  # the next listing does not begin the grace anew
    assert mirror.expired(now_s=699.0, grace_s=600.0) == Delta()
    assert mirror.expired(now_s=700.0, grace_s=600.0).subnets == {A.subnet}
    assert mirror.leases.keys() == {B.subnet}
    assert mirror.known() is not None


def test_what_comes_back_within_the_grace_was_never_missing() -> None:
    mirror = Mirror()
    mirror.listed(listing(A, B), now_s=0.0)
    mirror.listed(listing(at=3, restored=True), now_s=0.0)
    mirror.changed(LeaseWritten(A._replace(revision=4)))
    mirror.listed(listing(A._replace(revision=4), B._replace(revision=5), at=5), now_s=1.0)
    assert not mirror.is_missing(A.subnet)
    assert mirror.expired(now_s=9999.0, grace_s=600.0) == Delta()


def test_an_own_write_is_ahead_until_shown_and_never_ahead_of_a_restored_store() -> None:
    mirror = Mirror()
    mirror.listed(listing(at=10), now_s=0.0)
    mine = A._replace(revision=12)
    mirror.wrote(mine)
    assert mirror.is_ahead(mine)
    assert not mirror.is_ahead(B._replace(revision=99))
    mirror.changed(LeaseWritten(mine))
    assert not mirror.is_ahead(mine)
    mirror.wrote(A._replace(revision=14))
    mirror.listed(listing(at=3, restored=True), now_s=0.0)
    assert not mirror.is_ahead(A._replace(revision=14))
    assert mirror.is_missing(A.subnet)


def test_an_older_own_write_does_not_hide_a_newer_record() -> None:
    mirror = Mirror()
    mirror.listed(listing(A._replace(revision=20)), now_s=0.0)
    mirror.wrote(A._replace(revision=12))
    assert mirror.leases[A.subnet].revision == 20


SUBNETS = st.integers(0, 5).map(lambda n: subnet(f"10.5.{n}.0/24"))
EVENTS = st.lists(st.tuples(SUBNETS, st.booleans()), max_size=30)


@given(EVENTS)
def test_following_events_and_listing_at_the_end_are_the_same(events: list[tuple[Subnet, bool]]) -> None:
    followed, truth = Mirror(), dict[Subnet, LeaseRecord]()
    followed.listed(listing(at=0), now_s=0.0)
    touched: set[Subnet] = set()
    for number, (spot, there) in enumerate(events, start=1):
        if there:
            truth[spot] = LeaseRecord(spot, LeaseAttrs(number), 7, number)
            touched |= followed.changed(LeaseWritten(truth[spot])).subnets
        else:
            truth.pop(spot, None)
            touched |= followed.changed(LeaseGone(spot, number)).subnets
    assert followed.leases == truth
    assert followed.listed(listing(*truth.values(), at=len(events)), now_s=0.0).subnets == frozenset()
    assert truth.keys() <= touched
