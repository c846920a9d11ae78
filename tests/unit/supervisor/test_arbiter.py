"""Clashes between networks of one host: who keeps, who waits, who is told when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.claims import Claim, clash
from flannel_multi.supervisor.arbiter import Arbiter, ask, drop, settle

FRESH = Arbiter(("blue", "green", "red"), started_at_s=0.0)
VNI = (Claim("vni-port", "1/8472"),)


def test_networks_that_share_nothing_are_all_granted() -> None:
    arbiter, _ = ask(FRESH, "blue", (Claim("cidr", "10.1.0.0/16"),), held=False, now_s=0.1)
    _, verdict = ask(arbiter, "green", (Claim("cidr", "10.2.0.0/16"),), held=False, now_s=0.1)
    assert verdict.clashes == ()


def test_the_present_holder_wins_after_the_first_second() -> None:
    arbiter, _ = ask(FRESH, "green", VNI, held=False, now_s=5.0)
    _, verdict = ask(arbiter, "blue", VNI, held=False, now_s=5.1)
    assert [(c.holder, c.held) for c in verdict.clashes] == [("green", "1/8472")]
    assert verdict.evicted == ()


def test_in_the_first_second_the_earlier_network_in_the_list_wins() -> None:
    arbiter, _ = ask(FRESH, "green", VNI, held=False, now_s=0.1)
    arbiter, verdict = ask(arbiter, "blue", VNI, held=False, now_s=0.2)
    assert verdict.clashes == ()
    assert [(name, clashes[0].holder) for name, clashes in verdict.evicted] == [("green", "blue")]
    assert set(arbiter.holdings) == {"blue"}


def test_a_network_that_is_ready_gives_way_to_nobody() -> None:
    arbiter, _ = ask(FRESH, "green", VNI, held=False, now_s=0.1)
    _, verdict = ask(settle(arbiter, "green"), "blue", VNI, held=False, now_s=0.2)
    assert [c.holder for c in verdict.clashes] == ["green"]


def test_overlapping_prefixes_clash_and_the_refused_one_hears_when_they_go() -> None:
    arbiter, _ = ask(FRESH, "red", (Claim("cidr", "10.0.0.0/8"),), held=False, now_s=5.0)
    arbiter, verdict = ask(arbiter, "blue", (Claim("cidr", "10.1.0.0/16"),), held=False, now_s=6.0)
    assert verdict.clashes[0].held == "10.0.0.0/8"
    _, freed = drop(arbiter, "red")
    assert freed == ("blue",)


def test_what_runs_already_is_told_and_stays() -> None:
    arbiter, _ = ask(FRESH, "blue", VNI, held=False, now_s=0.1)
    arbiter, verdict = ask(arbiter, "green", VNI, held=True, now_s=0.2)
    assert [c.holder for c in verdict.clashes] == ["blue"]
    assert set(arbiter.holdings) == {"blue", "green"}


NAMES = st.sampled_from(FRESH.order)
CLAIMS = st.lists(
    st.sampled_from([*VNI, Claim("cidr", "10.0.0.0/8"), Claim("cidr", "10.1.0.0/16"), Claim("device", "flannel.1")]),
    min_size=1,
    max_size=3,
    unique=True,
).map(tuple)


@given(st.lists(st.tuples(NAMES, st.none() | CLAIMS, st.booleans()), max_size=30))
def test_no_two_networks_ever_hold_what_clashes(steps: list[tuple[str, tuple[Claim, ...] | None, bool]]) -> None:
    arbiter = FRESH
    for tick, (name, claims, ready) in enumerate(steps):
        if claims is None:
            arbiter, _ = drop(arbiter, name)
        else:
            arbiter, verdict = ask(arbiter, name, claims, held=False, now_s=tick / 10)
            assert (name in arbiter.holdings) == (not verdict.clashes)
        arbiter = settle(arbiter, name) if ready else arbiter
        held = list(arbiter.holdings.items())
        assert not any(clash(a, b) for n, x in held for m, y in held if n < m for a in x.claims for b in y.claims)
        assert all(blockers & arbiter.holdings.keys() for blockers in arbiter.refused.values())
