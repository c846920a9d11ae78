"""Lease events at a steady rate, and 2,000 clients that wait for them."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.run import pause
from tests.bench.server.crowd import Group, Report, Settings
from tests.bench.server.stage import CrowdProcess, Tally, Usage, stage
from tests.bench.server.writers import Told, Writers

CLIENTS = 2000
RATE = 100.0  # events a second
DRAIN_S = 10.0  # for the last events to be told
CROWDED, QUIET = "crowded", "quiet"
QUIET_CLIENTS = 10
ONE, MANY = "", "&max=1000"


class Run(NamedTuple):
    """`turns`: the networks that are written to, by turns."""

    shape: str
    asking: str
    query: str
    groups: Sequence[Group]
    turns: Sequence[str]
    rate: float
    seconds: float


def _spread(asking: str, query: str) -> Run:
    groups = [Group(f"net{number}", CLIENTS // 20) for number in range(20)]
    return Run("20 networks", asking, query, groups, [group.network for group in groups], RATE, 5.0)


def _crowded(asking: str, query: str, seconds: float) -> Run:
    groups = [Group(CROWDED, CLIENTS), Group(QUIET, QUIET_CLIENTS)]
    return Run("one network", asking, query, groups, [CROWDED] * 20 + [QUIET], RATE * 21 / 20, seconds)


RUNS = (
    _spread("one event", ONE),
    _spread("many events", MANY),
    _crowded("one event", ONE, 14.0),  # until those who fall behind are behind enough for a snapshot
    _crowded("many events", MANY, 5.0),
)


class Latency(NamedTuple):
    p50_ms: float
    p99_ms: float
    snapshots: int


class Outcome(NamedTuple):
    """`told`: all clients, or those of the crowded network; `other`: of the quiet one. `cpu`: of one core. `uss`: the
    server's own bytes before there were clients, when all waited, and at the end."""

    clients: int
    events_s: float
    written_p50_ms: float
    written_p99_ms: float
    told: Latency
    other: Latency | None
    answers_s: float
    cpu: float
    uss: tuple[int, int, int]


def measure(store: str, run: Run) -> Outcome:
    """Raises AssertionError when a client was told wrong."""
    settings = Settings(0, run.groups, run.query)
    with stage(store, [group.network for group in run.groups]) as made:
        before = Usage.of(made.server)
        with CrowdProcess(settings._replace(port=made.server.port)) as crowd:
            pause(0.5)
            waiting = Usage.of(made.server)
            began_s = time.monotonic()
            told = Writers(made.server.port, run.turns, run.rate, run.seconds).run()
            written = Usage.of(made.server)
            tally = crowd.report()
            lasted_s = time.monotonic() - began_s
            answers = sum(report.answers for report in tally.reports)
            tally = _drained(crowd, run, told)
            after = Usage.of(made.server)
    print(f"{store}: {run.shape}, {run.asking}: clients used {tally.cpu_s:.1f} CPU-s", file=sys.stderr, flush=True)
    _check(run, told, tally)
    ordered = sorted(told.took_ms)
    other = next((report for report in tally.reports if report.network == QUIET), None)
    return Outcome(
        sum(group.clients for group in run.groups), len(ordered) / told.lasted_s,
        statistics.median(ordered), ordered[int(len(ordered) * 0.99)],
        _latency([report for report in tally.reports if report is not other]), _latency([other]) if other else None,
        answers / lasted_s, (written.cpu_s - waiting.cpu_s) / told.lasted_s, (before.uss, waiting.uss, after.uss),
    )  # fmt: skip


def _drained(crowd: CrowdProcess, run: Run, told: Told) -> Tally:
    """When every client that keeps up has every event."""
    until_s = time.monotonic() + DRAIN_S
    while True:
        tally = crowd.report()
        if not _missing(run, told, tally) or time.monotonic() > until_s:
            return tally
        pause(0.1)


def _check(run: Run, told: Told, tally: Tally) -> None:
    backwards = [report.network for report in tally.reports if report.backwards]
    assert not backwards, f"answers went back in time in {backwards}"
    assert not (missing := _missing(run, told, tally)), f"events were lost or told twice: {'; '.join(missing)}"


def _missing(run: Run, told: Told, tally: Tally) -> list[str]:
    """What clients that keep up were told amiss. Those of the crowded network who ask for one event at a time are
    behind, and would need minutes to the end."""
    found = []
    for group, report in zip(run.groups, tally.reports, strict=True):
        due = [(group.clients, told.counts[group.network], told.sums[group.network])]
        if (run.query == MANY or group.network != CROWDED) and report.sums != due:
            found.append(f"{group.network}: (clients, events, their sum) {report.sums} are not {due}")
    return found


def _latency(reports: Sequence[Report]) -> Latency:
    """Of several networks alike: the mean of the medians, the worst 99th percentile."""
    return Latency(
        statistics.mean(report.p50_ms for report in reports),
        max(report.p99_ms for report in reports),
        sum(report.snapshots for report in reports),
    )
