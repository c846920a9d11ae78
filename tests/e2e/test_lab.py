"""The measuring instruments themselves: a count of lost packets that could not be wrong is worth no test."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.e2e.conftest import PREFIX
from tests.lab.pinger import Count, Pinger, count
from tests.lab.world import Inventory, LabError, World

MS = 1_000_000


def test_the_pinger_counts_every_packet_of_an_outage_and_none_beside_it() -> None:
    with World(PREFIX, hosts=3) as world:
        here, there, other = world.hosts
        pinger = Pinger(here)
        pinger.add("there", here.address, there.address)
        pinger.add("other", here.address, other.address)
        pinger.add("nobody", here.address, "192.0.2.99")
        signal.sigtimedwait((), 0.5)
        there.ip("link", "set", "eth0", "down")
        signal.sigtimedwait((), 0.3)
        there.ip("link", "set", "eth0", "up")
        signal.sigtimedwait((), 0.5)
        counts = pinger.stop()
    assert counts["other"].sent >= 100
    assert counts["other"][1:] == (0, 0.0, ())
    assert 25 <= counts["there"].lost <= 60
    assert 0.25 < counts["there"].longest_gap_s < 0.7
    assert counts["nobody"].lost == counts["nobody"].sent


def test_a_late_reply_counts_up_to_one_second() -> None:
    sent = [number * 10 * MS for number in range(1, 5)]
    assert count(sent, [at + 999 * MS for at in sent]) == Count(4, 0, 0.0, ())
    assert count(sent, [sent[0] + MS, sent[1] + 1001 * MS, 0, sent[3] + MS]) == Count(4, 2, 0.03, (0.02, 0.03))


def test_a_pinger_refuses_a_source_that_the_host_has_not() -> None:
    with World(PREFIX, hosts=2) as world:
        pinger = Pinger(world.hosts[0])
        with pytest.raises(LabError):
            pinger.add("x", "192.0.2.2", "192.0.2.1")
        pinger.kill()


def test_leaving_a_world_ends_its_processes_and_removes_its_namespaces() -> None:
    inventory = Inventory(PREFIX)
    with World(PREFIX, hosts=2) as world:
        sleeper = world.hosts[0].spawn("sleep", "1000", stdin=subprocess.DEVNULL)
        hidden = world.hosts[1].run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!").strip()
        left = inventory.leftovers()
        assert len([item for item in left if item.startswith("namespace")]) == 3
        assert any(hidden in item for item in left)
    assert sleeper.wait(1.0) == -signal.SIGKILL
    assert inventory.leftovers() == []
