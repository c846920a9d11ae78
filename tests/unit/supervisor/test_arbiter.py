"""Clashes between networks of one host: who keeps, who waits, who is told when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.claims import Claim, Clash, clash
from flannel_multi.supervisor.arbiter import (
    Answer,
    Arbiter,
    AskAgain,
    GiveWay,
    Ruling,
    ask,
    drop,
    gone,
    next_wake_s,
    settle,
    spoke,
    tick,
)

FRESH = Arbiter(("blue", "green", "red"), started_at_s=0.0)
VNI = (Claim("vni-port", "1/8472"),)
TEN = (Claim("cidr", "10.0.0.0/8"),)
PART_OF_TEN = (Claim("cidr", "10.1.0.0/16"),)


def new(arbiter: Arbiter, name: str, claims: tuple[Claim, ...], at_s: float) -> tuple[Arbiter, list[Ruling]]:
    return ask(arbiter, name, 1, claims, held=False, now_s=at_s)


def refusal(name: str, holder: str, claim: Claim = VNI[0], held: str = "1/8472") -> Answer:
    return Answer(name, 1, (Clash(claim, holder, held),))


def test_networks_that_share_nothing_are_all_granted() -> None:
    arbiter, first = new(FRESH, "blue", PART_OF_TEN, 0.1)
    _, second = new(arbiter, "green", (Claim("cidr", "10.2.0.0/16"),), 0.1)
    assert first == [Answer("blue", 1)]
    assert second == [Answer("green", 1)]


def test_the_present_holder_wins_after_the_first_second() -> None:
    arbiter, _ = new(FRESH, "green", VNI, 5.0)
    _, rulings = new(arbiter, "blue", VNI, 5.1)
    assert rulings == [refusal("blue", "green")]


def test_in_the_first_second_a_later_network_gives_way_before_the_earlier_one_is_granted() -> None:
    arbiter, _ = new(FRESH, "green", VNI, 0.1)
    arbiter, rulings = new(arbiter, "blue", VNI, 0.2)
    assert rulings == [GiveWay("green")]
    arbiter, rulings = drop(arbiter, "green", now_s=0.3)
    assert rulings == [Answer("blue", 1)]
    _, rulings = new(arbiter, "green", VNI, 0.4)
    assert rulings == [refusal("green", "blue")]


def test_one_that_was_ready_when_told_to_give_way_stays_and_the_other_is_refused() -> None:
    arbiter, _ = new(FRESH, "green", VNI, 0.1)
    arbiter, _ = new(arbiter, "blue", VNI, 0.2)
    _, rulings = settle(arbiter, "green", now_s=0.3)
    assert rulings == [refusal("blue", "green")]


def test_one_that_dies_instead_of_giving_way_has_given_way() -> None:
    arbiter, _ = new(FRESH, "green", VNI, 0.1)
    arbiter, _ = new(arbiter, "blue", VNI, 0.2)
    _, rulings = gone(arbiter, "green", now_s=3.0)
    assert rulings == [Answer("blue", 1)]


def test_a_network_that_is_ready_gives_way_to_nobody() -> None:
    arbiter, _ = new(FRESH, "green", VNI, 0.1)
    arbiter, _ = settle(arbiter, "green", now_s=0.1)
    _, rulings = new(arbiter, "blue", VNI, 0.2)
    assert rulings == [refusal("blue", "green")]


def test_a_ready_network_keeps_what_it_has_across_the_death_of_its_worker() -> None:
    arbiter, _ = new(FRESH, "green", VNI, 0.1)
    arbiter, _ = settle(arbiter, "green", now_s=0.1)
    arbiter, rulings = gone(arbiter, "green", now_s=5.0)
    assert rulings == []
    _, rulings = new(arbiter, "blue", VNI, 5.1)
    assert rulings == [refusal("blue", "green")]


def test_overlapping_prefixes_clash_and_the_refused_one_hears_when_they_go() -> None:
    arbiter, _ = new(FRESH, "red", TEN, 5.0)
    arbiter, rulings = new(arbiter, "blue", PART_OF_TEN, 6.0)
    assert rulings == [refusal("blue", "red", PART_OF_TEN[0], "10.0.0.0/8")]
    _, rulings = drop(arbiter, "red", now_s=7.0)
    assert rulings == [AskAgain("blue")]


def test_one_that_moves_to_other_resources_frees_those_it_had() -> None:
    arbiter, _ = ask(FRESH, "blue", 1, TEN, held=True, now_s=5.0)
    arbiter, _ = new(arbiter, "red", PART_OF_TEN, 5.1)
    _, rulings = ask(arbiter, "blue", 2, (Claim("cidr", "10.200.0.0/16"),), held=True, now_s=5.2)
    assert rulings == [Answer("blue", 2), AskAgain("red")]


def test_what_ran_before_takes_precedence_over_one_that_is_not_ready_yet() -> None:
    arbiter, _ = new(FRESH, "blue", VNI, 0.1)
    _, rulings = ask(arbiter, "green", 1, VNI, held=True, now_s=0.2)
    assert rulings == [GiveWay("blue"), Answer("green", 1)]


def test_of_two_that_ran_before_the_second_is_told_and_stays() -> None:
    arbiter, _ = ask(FRESH, "blue", 1, VNI, held=True, now_s=0.1)
    arbiter, rulings = ask(arbiter, "green", 1, VNI, held=True, now_s=0.2)
    assert rulings == [refusal("green", "blue")]
    assert set(arbiter.holdings) == {"blue", "green"}


def test_a_new_claim_waits_in_the_first_second_for_those_that_ran_before() -> None:
    arbiter, rulings = new(Arbiter(FRESH.order, 0.0, expected=frozenset({"red"})), "blue", VNI, 0.1)
    assert rulings == []
    assert next_wake_s(arbiter, now_s=0.1) == 1.0
    _, rulings = ask(arbiter, "red", 1, VNI, held=True, now_s=0.2)
    assert rulings == [Answer("red", 1), refusal("blue", "red")]
    _, rulings = tick(arbiter, now_s=1.0)
    assert rulings == [Answer("blue", 1)]


def test_a_new_claim_waits_in_the_first_second_until_every_earlier_network_has_said_something() -> None:
    arbiter, rulings = new(Arbiter(FRESH.order, 0.0, silent=frozenset(FRESH.order)), "red", VNI, 0.1)
    assert rulings == []
    arbiter, rulings = spoke(arbiter, "green", now_s=0.1)
    assert rulings == []
    _, rulings = new(arbiter, "blue", VNI, 0.2)
    assert rulings == [Answer("blue", 1), refusal("red", "blue")]


def test_a_network_that_clashes_with_hundreds_still_gets_an_answer_that_fits() -> None:
    arbiter = Arbiter((), started_at_s=0.0)
    for number in range(300):
        arbiter, _ = new(arbiter, f"n{number}", (Claim("cidr", f"10.{number % 256}.{number // 256}.0/24"),), 5.0)
    _, rulings = new(arbiter, "all", TEN, 6.0)
    assert [len(ruling.clashes) for ruling in rulings if isinstance(ruling, Answer)] == [10]


NAMES = st.sampled_from(FRESH.order)
CLAIMS = st.lists(
    st.sampled_from([*VNI, *TEN, *PART_OF_TEN, Claim("device", "flannel.1")]), min_size=1, max_size=3, unique=True
).map(tuple)
STEPS = st.lists(st.tuples(NAMES, CLAIMS | st.sampled_from(["drop", "gone", "settle"])), max_size=30)


@given(STEPS, st.floats(0.01, 0.5))
def test_no_two_networks_ever_hold_what_clashes_and_nobody_is_forgotten(
    steps: list[tuple[str, tuple[Claim, ...] | str]], pace_s: float
) -> None:
    arbiter = FRESH
    waiting: set[str] = set()
    for turn, (name, what) in enumerate(steps):
        now_s = turn * pace_s
        if what == "drop":
            arbiter, rulings = drop(arbiter, name, now_s=now_s)
        elif what == "gone":
            arbiter, rulings = gone(arbiter, name, now_s=now_s)
        elif what == "settle":
            arbiter, rulings = settle(arbiter, name, now_s=now_s)
        else:
            assert isinstance(what, tuple)
            arbiter, rulings = new(arbiter, name, what, now_s)
            waiting.add(name)
        if isinstance(what, str) and what != "settle":
            waiting.discard(name)
        waiting -= {ruling.name for ruling in rulings if isinstance(ruling, Answer)}
        held = list(arbiter.holdings.items())
        assert not any(clash(a, b) for n, x in held for m, y in held if n < m for a in x.claims for b in y.claims)
        assert all(
            any(clash(a, b) for m, y in held if m != n for a in claims for b in y.claims)
            for n, claims in arbiter.refused.items()
        )
        assert waiting == arbiter.asked.keys()
        assert all(any(h.leaving for h in arbiter.holdings.values()) for _ in arbiter.asked)
