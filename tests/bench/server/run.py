"""The benchmark behind `make bench-server`: a server with 2,000 clients that wait for news, and 10,000 leases listed.

Server, store, clients and writers are processes of one machine and share its cores, over 127.0.0.1. A run in which a
client was told an event twice, or missed one and got no snapshot, fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from tests.bench.run import machine
from tests.bench.server.fanout import RUNS, Outcome, measure
from tests.bench.server.listing import LEASES, NETWORK, Listed, fill, list_at_once
from tests.bench.server.stage import MB, STORES, Usage, stage

LEGEND = (
    "Latency is from the sending of a write, a PUT through the same server, to the last byte of a client's answer; "
    "`written` is from the same moment to the writer's own answer. Clients ask as real flannel's do, for one event at "
    "a time, or as ours do, for as many as there are. CPU is the server's, of one core, while events are written."
)
TOGETHER = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the tables; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench-server", description="measures flanneld --listen on this machine")
    parser.add_argument("stores", nargs="*", help=f"of {', '.join(STORES)}; default: all")
    stores = parser.parse_args(argv).stores or list(STORES)
    if unknown := set(stores) - set(STORES):
        parser.error(f"no such store: {', '.join(sorted(unknown))}")
    try:
        for line in _report(stores):
            print(line, flush=True)
    except (AssertionError, OSError) as error:
        print(f"bench-server: {error}", file=sys.stderr)
        return 1
    return 0


def _report(stores: Sequence[str]) -> Iterator[str]:
    yield from (machine(), "", LEGEND, "")
    head = (
        "store | 2,000 clients in | asking | events/s | written p50 / p99 ms | told p50 / p99 ms | another network p50 "
    )
    head += "/ p99 ms | answers/s | snapshots | CPU | MB before / waiting / after | KB a client"
    yield _row(head.split(" | "))
    yield _row(["---"] * 12)
    for store in stores:
        for run in RUNS:
            yield _row([store, run.shape, run.asking, *_figures(measure(store, run))])
    yield from ("", f"{LEASES:,} leases in one network, listed:", "")
    yield _row(["store", "who", "ms", "MB of an answer", "server CPU-s", "server MB before / after / peak"])
    yield _row(["---"] * 6)
    for store in stores:
        yield from _listings(store)


def _figures(outcome: Outcome) -> list[str]:
    told, other = outcome.told, outcome.other
    return [
        f"{outcome.events_s:.0f}",
        f"{outcome.written_p50_ms:.0f} / {outcome.written_p99_ms:.0f}",
        f"{told.p50_ms:.0f} / {told.p99_ms:.0f}",
        f"{other.p50_ms:.0f} / {other.p99_ms:.0f}" if other else "",
        f"{outcome.answers_s:,.0f}",
        f"{told.snapshots:,}",
        f"{outcome.cpu:.0%}",
        " / ".join(f"{size / MB:.1f}" for size in outcome.uss),
        f"{(outcome.uss[1] - outcome.uss[0]) / 1024 / outcome.clients:.1f}",
    ]


def _listings(store: str) -> Iterator[str]:
    with stage(store, [NETWORK]) as made:
        fill(made, LEASES)
        for who, clients in (("the first, after a start", 1), ("the next", 1), (f"{TOGETHER} at once", TOGETHER)):
            before = Usage.of(made.server)
            listed = list_at_once(made.server.port, clients)
            after = Usage.of(made.server)
            sizes = " / ".join(f"{size / MB:.1f}" for size in (before.uss, after.uss, after.peak))
            cpu_s = f"{after.cpu_s - before.cpu_s:.2f}"
            yield _row([store, who, _spread(listed), f"{listed.bytes / MB:.2f}", cpu_s, sizes])


def _spread(listed: Listed) -> str:
    first_ms, last_ms = listed.took_ms[0], listed.took_ms[-1]
    return f"{first_ms:.0f}" if len(listed.took_ms) == 1 else f"{first_ms:.0f}–{last_ms:.0f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    raise SystemExit(main())
