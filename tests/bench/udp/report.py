"""The tables of `make bench-udp`: medians and ratios, and what was wanted beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.bench.udp.measures import Sample

Samples = Mapping[str, Sequence[Sample]]  # by path, in the order they are shown
Measure = Callable[[Sample], float]

MEASURES: Mapping[str, Measure] = {
    "TCP, 1 stream": lambda sample: sample.tcp1.gbit,
    "TCP, 4 streams": lambda sample: sample.tcp4.gbit,
    "64-byte packets/s": lambda sample: sample.kpps,
}
TCP1, TCP4, SMALL = MEASURES
BASES = ("plain", "vxlan")


class Goal(NamedTuple):
    """`path` must reach `least` times what `base` does, over one kind of link."""

    kind: str
    path: str
    measure: str
    base: str
    least: float


GOALS = (
    Goal("ideal", "user", TCP1, "plain", 8.0),
    Goal("ideal", "user", TCP4, "plain", 9.0),
    Goal("ideal", "user", SMALL, "plain", 3.0),
    Goal("nic", "user", TCP1, "plain", 5.5),
    Goal("nic", "user", TCP1, "vxlan", 0.75),
    Goal("nic", "user", TCP4, "plain", 6.0),
    Goal("nic", "user", SMALL, "plain", 3.0),
    Goal("nic", "user", SMALL, "vxlan", 2.0),
    Goal("containers", "user", TCP1, "vxlan", 0.8),
    Goal("ideal", "bpf", TCP1, "vxlan", 1.0),
    Goal("ideal", "bpf", TCP4, "vxlan", 0.85),
    Goal("ideal", "bpf", SMALL, "vxlan", 0.8),
    Goal("nic", "bpf", TCP1, "vxlan", 0.75),
    Goal("nic", "xdp", TCP1, "vxlan", 0.9),
    Goal("nic", "bpf", TCP4, "vxlan", 0.75),
    Goal("nic", "bpf", SMALL, "vxlan", 1.0),
    Goal("containers", "bpf", TCP1, "vxlan", 0.75),
)


class Verdict(NamedTuple):
    goal: Goal
    ratio: float

    @property
    def holds(self) -> bool:
        return self.ratio >= self.goal.least


def table(samples: Samples) -> Iterator[str]:
    """Lines of one table; every figure is a median, ratios are those of medians."""
    bases = [base for base in BASES if samples.get(base)]
    ratio_of = " / ".join(f"× {base}" for base in bases)
    head = ["path", "n", "TCP 1 Gbit/s (min–max)", "TCP 4 Gbit/s (min–max)", "CPU-s/GB, 1 / 4 streams"]
    head += ["64 B kpps (min–max) [sent]", "round trip p50 / p99 µs"]
    head += [f"{name} {ratio_of}" for name in ("TCP 1", "TCP 4", "64 B") if bases]
    yield _row(head)
    yield _row(["---"] * len(head))
    for path, taken in samples.items():
        if taken:
            yield _row([path, str(len(taken)), *_figures(taken), *_ratios(samples, path, bases)])


def verdicts(kind: str, samples: Samples) -> list[Verdict]:
    """The goals over this kind of link that can be judged: both paths were measured."""
    return [
        Verdict(goal, ratio(samples, goal.path, goal.base, MEASURES[goal.measure]))
        for goal in GOALS
        if goal.kind == kind and samples.get(goal.path) and samples.get(goal.base)
    ]


def goals_table(found: Sequence[Verdict]) -> Iterator[str]:
    """Lines of the table that judges."""
    yield _row(["link", "path", "what", "wanted", "measured", ""])
    yield _row(["---"] * 6)
    for verdict in found:
        goal = verdict.goal
        yield _row(
            [
                goal.kind,
                goal.path,
                goal.measure,
                f"≥ {goal.least:g} × {goal.base}",
                f"{verdict.ratio:.2f} ×",
                "holds" if verdict.holds else "missed",
            ]
        )


def ratio(samples: Samples, path: str, base: str, measure: Measure) -> float:
    """Median of `path` to median of `base`."""
    return _median(samples[path], measure) / _median(samples[base], measure)


def _figures(taken: Sequence[Sample]) -> list[str]:
    return [
        _spread(taken, MEASURES[TCP1], 2),
        _spread(taken, MEASURES[TCP4], 2),
        f"{_median(taken, lambda one: one.tcp1.cpu_s_per_gb):.2f} / "
        f"{_median(taken, lambda one: one.tcp4.cpu_s_per_gb):.2f}",
        f"{_spread(taken, MEASURES[SMALL], 0)} [{_median(taken, lambda one: one.sent_kpps):.0f}]",
        f"{_median(taken, lambda one: one.p50_us):.0f} / {_median(taken, lambda one: one.p99_us):.0f}",
    ]


def _ratios(samples: Samples, path: str, bases: Sequence[str]) -> list[str]:
    if not bases:
        return []
    return [" / ".join(f"{ratio(samples, path, base, measure):.2f}" for base in bases) for measure in MEASURES.values()]


def _spread(taken: Sequence[Sample], measure: Measure, digits: int) -> str:
    figures = [measure(one) for one in taken]
    return f"{statistics.median(figures):.{digits}f} ({min(figures):.{digits}f}–{max(figures):.{digits}f})"


def _median(taken: Sequence[Sample], measure: Measure) -> float:
    return statistics.median(measure(one) for one in taken)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
