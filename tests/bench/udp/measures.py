"""What is measured on a path that is up: TCP by iperf3, small packets and round trips by flood.c.

Every figure is taken from outside the data path: at the applications and from /proc/stat.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from tests.bench.udp.programs import output, rest, running
from tests.bench.udp.sites import Site
from tests.lab.world import LabError

IPERF_PORT, FLOOD_PORT, ECHO_PORT = "5201", "5301", "5302"
SETTLING_S = 0.3  # the receiver's time begins when the flood has settled; the flood must outlast it
TICKS = os.sysconf("SC_CLK_TCK")


class Seconds(NamedTuple):
    """How long each measure of a turn takes."""

    tcp: float = 3.0
    flood: float = 2.0
    ping: float = 1.0


class Tcp(NamedTuple):
    gbit: float  # a second, as the receiver counts
    cpu_s_per_gb: float  # of the whole machine, iperf3 included


class Sample(NamedTuple):
    """One turn of one path."""

    tcp1: Tcp
    tcp4: Tcp
    kpps: float  # that arrive
    sent_kpps: float
    p50_us: float
    p99_us: float


def sample(site: Site, flood: Path, seconds: Seconds) -> Sample:
    """One turn. Raises LabError when a program fails or nothing passes."""
    tcp1, tcp4 = tcp(site, 1, seconds.tcp), tcp(site, 4, seconds.tcp)
    kpps, sent_kpps = small_packets(site, flood, seconds.flood)
    return Sample(tcp1, tcp4, kpps, sent_kpps, *round_trips(site, flood, seconds.ping))


def tcp(site: Site, streams: int, seconds: float) -> Tcp:
    """iperf3 from the client to the server."""
    with running(site.server, "iperf3", "-s", "-1", "-p", IPERF_PORT, "--forceflush", until="listening"):
        before_s = busy_s()
        client = ("iperf3", "-J", "-c", site.target, "-p", IPERF_PORT, "-t", f"{seconds:g}", "-P", str(streams))
        reply = json.loads(output(site.client, seconds, *client))
        spent_s = busy_s() - before_s
    got = reply["end"]["sum_received"]
    if not got["bytes"]:
        raise LabError(f"{site.path}: iperf3 received nothing")
    return Tcp(got["bits_per_second"] / 1e9, spent_s / (got["bytes"] / 1e9))


def small_packets(site: Site, flood: Path, seconds: float) -> tuple[float, float]:
    """Thousands of 64-byte packets a second: that arrive, and that the sender could send."""
    with running(
        site.server, str(flood), "receive", site.target, FLOOD_PORT, f"{seconds:g}", until="ready"
    ) as receiver:
        sent_s = seconds + SETTLING_S
        sent = output(site.client, sent_s, str(flood), "send", site.target, FLOOD_PORT, f"{sent_s:g}").split()
        received = rest(receiver).split()
    if received[:1] != ["received"]:
        raise LabError(f"{site.path}: no small packet arrived")
    return int(received[1]) / seconds / 1e3, int(sent[1]) / sent_s / 1e3


def round_trips(site: Site, flood: Path, seconds: float) -> tuple[float, float]:
    """p50 and p99 of 64-byte packets sent back by the server, one at a time, in microseconds."""
    with running(site.server, str(flood), "echo", site.target, ECHO_PORT, until="ready"):
        words = output(site.client, seconds, str(flood), "ping", site.target, ECHO_PORT, f"{seconds:g}").split()
    return float(words[3]), float(words[4])


def busy_s() -> float:
    """CPU seconds that the whole machine has spent so far, interrupts included, what the hypervisor took not."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + irq + softirq) / TICKS
