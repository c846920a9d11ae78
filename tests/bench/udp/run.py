"""The benchmark behind `make bench-udp`: the udp backend's data paths beside kernel vxlan and a plain loop.

Every path stands on hosts of its own (sites.py), all over the same kind of link, and they take turns round by round:
what else the machine does hits all alike. Read the ratios: both hosts, sender and receiver share this machine's cores.
Exit status 0 when everything was measured, 1 when something failed (with --strict: or a goal was missed), 2 for a
wrong command line.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from tests.bench.run import machine, pause
from tests.bench.udp.measures import Sample, Seconds, busy_s, sample
from tests.bench.udp.programs import build
from tests.bench.udp.proofs import prove_intact, prove_link
from tests.bench.udp.report import Verdict, goals_table, table, verdicts
from tests.bench.udp.sites import BUFFERED, KINDS, PATHS, STEM, Sites
from tests.lab.world import Inventory, LabError, run

FAILED, USAGE = 1, 2
QUICK = Seconds(1.0, 1.0, 1.0)
IDLE_S = 0.5
NOISE = 0.15  # of a CPU; etcd and idle daemons need 0.05
LEGEND = (
    "raw: no overlay; plain: a C loop with one packet for each system call and the kernel's default socket buffers, as "
    "flannel's own proxy; buffered (on request): the same loop with flanneld's receive buffer. 64 B is the inner IP "
    "packet; CPU seconds are the whole machine's, for both hosts, iperf3 included."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the tables; returns the exit status."""
    options = _options(argv)
    if os.geteuid() != 0:
        print("bench-udp: it makes network namespaces: run it as root", file=sys.stderr)
        return USAGE
    signal.signal(signal.SIGTERM, _interrupted)
    inventory = Inventory(STEM)
    lines: list[str] = []
    found: list[Verdict] = []
    fault = ""
    try:
        with tempfile.TemporaryDirectory(prefix="flannel-bench-udp-") as folder:
            for line in _measured(options, Path(folder), found):
                print(line, flush=True)
                lines.append(line)
    except KeyboardInterrupt:
        fault = "interrupted"
    except (LabError, AssertionError, OSError) as error:
        fault = str(error)
    faults = [*([fault] if fault else []), *(f"left behind: {item}" for item in inventory.leftovers())]
    for text in faults:
        print(f"bench-udp: {text}", file=sys.stderr)
    if options.markdown and not faults:
        options.markdown.write_text("".join(f"{line}\n" for line in lines))
    missed = options.strict and not all(verdict.holds for verdict in found)
    return FAILED if faults or missed else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-udp", description="measures the udp backend on this machine")
    parser.add_argument("paths", nargs="*", help=f"of {', '.join(PATHS)}, which is the default, and {BUFFERED}")
    parser.add_argument("--links", default=",".join(KINDS), help=f"of {','.join(KINDS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each path (default 5)")
    parser.add_argument("--quick", action="store_true", help="one round, one second for each measure: a trial")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when a goal is missed")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="writes the tables to FILE too")
    options = parser.parse_args(argv)
    options.links = options.links.split(",")
    for given, known in ((options.paths, (*PATHS, BUFFERED)), (options.links, KINDS)):
        if unknown := sorted(set(given) - set(known)):
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    options.paths = [path for path in (*PATHS, BUFFERED) if path in (options.paths or PATHS)]
    options.seconds = QUICK if options.quick else Seconds()
    options.rounds = 1 if options.quick else options.rounds
    return options


def _measured(options: argparse.Namespace, folder: Path, found: list[Verdict]) -> Iterator[str]:
    """The report's lines, as they come; `found` gathers what the goals' table shows."""
    plain, flood = build("plain", folder), build("flood", folder)
    yield f"{machine()}, {' '.join(run('iperf3', '--version').split()[:2])}"
    yield from ("", LEGEND)
    for name in options.links:
        paths = [path for path in options.paths if path not in KINDS[name].without]
        samples: dict[str, list[Sample]] = {path: [] for path in paths}
        with Sites(KINDS[name], paths, plain, folder) as sites:
            frame = _proved(sites)
            idle = []
            for number in range(options.rounds):
                idle.append(_idle_load())
                _turns(sites, number, flood, options, samples)
        yield from ("", f"**{KINDS[name].title}.** {_note(frame, max(idle))}", "")
        yield from table(samples)
        found += verdicts(name, samples)
    if found:
        yield from ("", f"**What was wanted**, and what was measured (medians, n = {options.rounds}):", "")
        yield from goals_table(found)


def _proved(sites: Sites) -> float:
    """Link and paths are right. Returns the mean TCP frame on the link, in bytes."""
    frames = [prove_link(site, nic=sites.kind.nic) for site in sites.sites]
    for site in sites.sites:
        prove_intact(site)
    return max(frames)


def _idle_load() -> float:
    """CPU seconds a second that are spent while nobody measures: what idle daemons cost, and strangers."""
    before_s = busy_s()
    pause(IDLE_S)
    return (busy_s() - before_s) / IDLE_S


def _note(frame: float, idle: float) -> str:
    """What one should know about a table's figures."""
    text = f"Mean TCP frame on the link: {frame:.0f} bytes. CPU used between the rounds: {idle:.0%} at most."
    return text if idle <= NOISE else f"{text} **Something else was running: these figures are rough.**"


def _turns(
    sites: Sites, number: int, flood: Path, options: argparse.Namespace, samples: dict[str, list[Sample]]
) -> None:
    """One round: a turn of each path, beginning with another one each time."""
    first = number % len(sites.sites)
    for site in sites.sites[first:] + sites.sites[:first]:
        one = sample(site, flood, options.seconds)
        samples[site.path].append(one)
        text = f"{one.tcp1.gbit:.2f} and {one.tcp4.gbit:.2f} Gbit/s, {one.kpps:.0f} kpps, {one.p50_us:.0f} µs"
        print(f"{sites.kind.name:<10} {number + 1}/{options.rounds} {site.path}: {text}", file=sys.stderr, flush=True)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
