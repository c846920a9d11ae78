"""Whose the lease is, and when it is renewed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord
from flannel_multi.store.protocol import Lease
from flannel_worker.tenure import CALM_S, RIVAL_FLOOR_S, Claim, Rivalry, Tenure, boot_s, judge, renew_at_s
from tests.unit.worker.place import subnet

SPOT = subnet("10.5.1.0/24")
ME, OTHER = LeaseAttrs(1, "alloc"), LeaseAttrs(2, "alloc")
HELD = LeaseRecord(SPOT, ME, 7, 10)

CASES = {
    "as it was": (HELD, ME, Claim.OURS),
    "rewritten alike": (HELD._replace(revision=11), ME, Claim.MOVED),
    "on another etcd lease with our IP": (HELD._replace(lease_id=8, revision=11), ME, Claim.MOVED),
    "made a reservation": (HELD._replace(lease_id=0, revision=11), ME, Claim.MOVED),
    "our IP changed since": (HELD, LeaseAttrs(3, "alloc"), Claim.STALE),
    "our MAC changed since": (HELD, LeaseAttrs(1, "vxlan", {"VtepMAC": "x"}), Claim.STALE),
    "gone": (None, ME, Claim.GONE),
    "another's": (HELD._replace(attrs=OTHER, lease_id=8), ME, Claim.FOREIGN),
    "another's reservation": (HELD._replace(attrs=OTHER, lease_id=0), ME, Claim.FOREIGN),
    "a foreign value on our etcd lease": (HELD._replace(attrs=OTHER, revision=11), ME, Claim.STALE),
}


@pytest.mark.parametrize(("seen", "attrs", "claim"), CASES.values(), ids=CASES.keys())
def test_the_key_says_whose_the_lease_is(seen: LeaseRecord | None, attrs: LeaseAttrs, claim: Claim) -> None:
    assert judge(HELD, seen, attrs) is claim


def test_a_reservation_does_not_make_another_reservation_ours() -> None:
    held = HELD._replace(lease_id=0)
    assert judge(held, held._replace(attrs=OTHER, revision=11), ME) is Claim.FOREIGN


@given(st.floats(0, 1e9), st.floats(1, 1e6), st.floats(0, 1e6))
def test_a_renewal_is_before_the_end_and_never_before_half_of_it(granted: float, ttl: float, margin: float) -> None:
    at = renew_at_s(granted, ttl, margin_s=margin)
    assert granted + ttl / 2 <= at <= granted + ttl


def test_a_lease_is_renewed_its_margin_before_the_end() -> None:
    tenure = Tenure(margin_s=3600)
    tenure.hold(Lease(HELD, LEASE_TTL_S))
    assert tenure.confirmed
    assert tenure.renew_at_s == pytest.approx(boot_s() + LEASE_TTL_S - 3600, abs=1)
    assert tenure.expires_at == pytest.approx(time.time() + LEASE_TTL_S, abs=2)
    assert not tenure.due()
    tenure.later(-1.0)
    assert tenure.due()


def test_a_reservation_is_never_due_and_never_ends() -> None:
    tenure = Tenure(margin_s=3600)
    tenure.hold(Lease(HELD._replace(lease_id=0), None))
    assert (tenure.renew_at_s, tenure.expires_at, tenure.due()) == (None, 0, False)


def test_a_lease_made_a_reservation_is_not_renewed_and_one_made_a_lease_is_at_once() -> None:
    tenure = Tenure(margin_s=3600)
    tenure.hold(Lease(HELD, LEASE_TTL_S))
    tenure.follow(HELD._replace(lease_id=0))
    assert (tenure.renew_at_s, tenure.expires_at) == (None, 0)
    tenure.follow(HELD)
    assert tenure.due()


def test_a_remembered_lease_waits_for_the_stores_word() -> None:
    tenure = Tenure(margin_s=3600)
    tenure.remember(HELD)
    assert tenure.lease is not None
    assert (tenure.confirmed, tenure.due(), tenure.expires_at) == (False, False, 0)


def test_a_lost_lease_stays_as_the_subnet_to_prefer() -> None:
    tenure = Tenure(margin_s=3600)
    tenure.hold(Lease(HELD, LEASE_TTL_S))
    tenure.lose()
    assert tenure.lease is not None
    assert (tenure.confirmed, tenure.due()) == (False, False)


def test_a_rival_is_answered_at_once_then_ever_later_and_after_a_calm_at_once_again() -> None:
    rivalry, answered = Rivalry(), []
    for now_s in range(200):
        fresh = rivalry.meets(float(now_s), jitter=0.999)
        if fresh is not None:
            answered.append(now_s)
            rivalry = fresh
    assert answered == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert rivalry.meets(rivalry.until_s + CALM_S + 1.0, jitter=0.0) == Rivalry(
        1, rivalry.until_s + CALM_S + 1.0 + RIVAL_FLOOR_S
    )


def test_the_recorded_end_of_a_lease_is_kept_until_the_store_says_another() -> None:
    tenure = Tenure(margin_s=60.0)
    tenure.remember(LeaseRecord(subnet("10.5.1.0/24"), LeaseAttrs(1), 7, 9), expires_at=1_800_000_000)
    assert tenure.expires_at == 1_800_000_000
