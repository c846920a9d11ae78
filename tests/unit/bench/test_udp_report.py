"""The tables of `make bench-udp`."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.udp.measures import Sample, Tcp
from tests.bench.udp.report import GOALS, goals_table, table, verdicts
from tests.bench.udp.sites import KINDS, PATHS


def turns(*gbit: float, kpps: float = 100.0) -> Sequence[Sample]:
    return [Sample(Tcp(one, 2.0), Tcp(2 * one, 1.0), kpps, 300.0, 50.0, 200.0) for one in gbit]


def test_a_row_shows_the_median_with_its_spread_and_its_ratio_to_plain_and_vxlan() -> None:
    rows = list(table({"plain": turns(0.5), "vxlan": turns(4.0), "user": turns(1.0, 9.0, 3.0, kpps=250.4)}))
    assert rows[-1] == (
        "| user | 3 | 3.00 (1.00–9.00) | 6.00 (2.00–18.00) | 2.00 / 1.00 | 250 (250–250) [300] | 50 / 200 "
        "| 6.00 / 0.75 | 6.00 / 0.75 | 2.50 / 2.50 |"
    )


def test_every_row_has_as_many_cells_as_the_head() -> None:
    for samples in ({"raw": turns(1.0)}, {"raw": turns(1.0), "vxlan": turns(1.0)}):
        assert len({row.count("|") for row in table(samples)}) == 1


def test_without_a_base_there_are_no_ratios() -> None:
    assert "×" not in "".join(table({"raw": turns(1.0), "user": turns(1.0)}))


def test_a_goal_holds_from_its_very_figure_on_and_is_missed_below() -> None:
    base = {"plain": turns(0.5, kpps=10.0), "vxlan": turns(4.0, kpps=10.0)}
    held = verdicts("nic", {**base, "user": turns(3.0, kpps=30.0)})
    assert len(held) == 5
    assert all(verdict.holds for verdict in held)
    missed = verdicts("nic", {**base, "user": turns(2.999, kpps=29.9)})
    assert [verdict.goal.base for verdict in missed if not verdict.holds] == ["vxlan", "plain", "plain"]
    assert [row.split(" | ")[-1] for row in goals_table(missed)][2:] == [
        "holds |", "missed |", "missed |", "missed |", "holds |",
    ]  # fmt: skip


def test_goals_are_judged_only_where_both_paths_were_measured() -> None:
    assert verdicts("ideal", {"user": turns(9.0), "vxlan": turns(1.0), "plain": []}) == []
    assert {verdict.goal.base for verdict in verdicts("nic", {"user": turns(9.0), "vxlan": turns(1.0)})} == {"vxlan"}


def test_every_goal_speaks_of_a_link_and_paths_that_are_measured() -> None:
    for goal in GOALS:
        assert goal.kind in KINDS
        assert {goal.path, goal.base} <= set(PATHS)
