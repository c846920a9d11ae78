"""A udp network's packets wait for the next worker, or go on through the kernel: a kill under load loses none."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.conftest import MakeOverlay
from tests.lab.echo import Echo, Echoed
from tests.lab.flanneld import Flanneld, eventually, kill
from tests.lab.overlay import Overlay
from tests.lab.world import Host


def udp(data_path: str) -> dict[str, Any]:
    return {"blue": {"Network": "10.101.0.0/16", "Backend": {"Type": "udp", "DataPath": data_path}}}


FLAGS = ("--restart-settled=0.05", "--restart-floor=20ms")
KILLS, PAUSE_S = 50, 0.1
DEAD_S = 60.0


@pytest.mark.parametrize("data_path", ["user", "bpf"])
def test_a_worker_killed_fifty_times_under_load_loses_no_datagram_and_no_connection(
    make_overlay: MakeOverlay, data_path: str
) -> None:
    overlay = make_overlay(networks=udp(data_path), flags=FLAGS)
    overlay.start()
    overlay.attach()
    victim, other = overlay.daemons
    if data_path == "bpf":
        wait_for_the_kernel_path(victim, other)
    seconds = KILLS * 2 * PAUSE_S + 2
    read_before = read_from_tun(victim)
    with streaming(overlay, seconds=seconds + 1) as stream:
        echo = Echo(other.host, victim.host, overlay.container(victim, "blue"), seconds)
        back_s = [kill_and_wait(victim) for _ in range(KILLS)]
        echoed = echo.result()
        each_second = megabytes(stream)
    read = read_from_tun(victim) - read_before
    assert_nothing_lost(echoed, seconds)
    assert max(back_s) < 1.0, back_s
    assert min(each_second) > 1, "the TCP stream never stood still"
    if data_path == "bpf":
        assert read < echoed.sent / 100, "the kernel carried them: hardly one came to the device's reader"
    else:
        assert read > echoed.sent


def test_through_the_kernel_traffic_goes_on_while_the_whole_daemon_is_dead(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(networks=udp("bpf"), flags=FLAGS)
    overlay.start()
    overlay.attach()
    victim, other = overlay.daemons
    wait_for_the_kernel_path(victim, other)
    with streaming(overlay, seconds=DEAD_S + 4) as stream:
        echo = Echo(other.host, victim.host, overlay.container(victim, "blue"), DEAD_S + 2)
        victim.kill()
        victim.wait_all_gone(timeout_s=5.0)
        time.sleep(DEAD_S)
        assert "flannel0" in victim.host.links()
        echoed = echo.result()
        each_second = megabytes(stream)
        victim.start()
        victim.wait_ready("blue", timeout_s=20.0)
    assert_nothing_lost(echoed, DEAD_S + 2)
    assert echoed.twice == 0
    assert min(each_second) > 1, "the TCP stream never stood still"


def wait_for_the_kernel_path(*daemons: Flanneld) -> None:
    """Until both have their programs in place; that each then knows the other for one of its kind, the test shows."""
    for daemon in daemons:
        eventually(lambda host=daemon.host: "tun_egress" in egress_of(host), "the programs")  # type: ignore[misc]


def read_from_tun(daemon: Flanneld) -> int:
    """Packets and super-packets that the device handed to user space."""
    (link,) = json.loads(daemon.host.ip("-s", "-j", "link", "show", "dev", "flannel0"))
    return int(link["stats64"]["tx"]["packets"])


def egress_of(host: Host) -> str:
    return host.run("tc", "filter", "show", "dev", "flannel0", "egress")


def kill_and_wait(daemon: Flanneld) -> float:
    """Kills the worker of blue; seconds until the next one is ready."""
    mark, since = daemon.mark(), time.monotonic()
    kill(daemon.worker_pid("blue"), signal.SIGKILL)
    daemon.wait_ready("blue", after=mark)
    took_s = time.monotonic() - since
    time.sleep(PAUSE_S)
    return took_s


def assert_nothing_lost(echoed: Echoed, seconds: float) -> None:
    """Twice is allowed: what was in a dying worker's hands is sent again by the next."""
    assert echoed.lost == 0, echoed
    assert echoed.sent >= 1_900 * seconds, echoed


@contextmanager
def streaming(overlay: Overlay, *, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """One TCP stream as fast as it goes, from the first host to the second."""
    here, there = overlay.daemons
    address = overlay.container(there, "blue")
    server = there.host.spawn("iperf3", "-s", "-1", "-B", address, "--forceflush", stdout=subprocess.PIPE)
    assert server.stdout is not None
    while b"listening" not in (line := server.stdout.readline()):
        assert line, "iperf3 did not start"
    client = here.host.spawn("iperf3", "-c", address, "-t", str(round(seconds)), "-J", stdout=subprocess.PIPE)
    try:
        yield client
    finally:
        for process in (client, server):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def megabytes(stream: subprocess.Popen[bytes]) -> list[float]:
    """What was sent in each second, once the stream has ended by itself."""
    said, _ = stream.communicate()
    report = json.loads(said)
    assert "error" not in report, report["error"]
    return [interval["sum"]["bytes"] / 1e6 for interval in report["intervals"]]
