"""What one more network costs a host: the memory of an idle worker that no other process shares with it."""

from __future__ import annotations

import sys
import time

import psutil

from tests.e2e.conftest import MakeOverlay
from tests.lab import collecting
from tests.lab.flanneld import Flanneld, eventually, kill
from tests.lab.overlay import vxlan

MEGABYTE = 1_000_000
OLD = sys.version_info < (3, 12)  # what Debian 12 has; later interpreters write more beside the code that they run
MOST = (4.5 if OLD else 5.0) * MEGABYTE  # of USS for an idle vxlan worker
IDLE_S = 3.0  # the state file is written 1 s after ready, memory given back after 2 s
LOOKS, APART_S = 24, 0.5  # over more than REST_S: an idle worker's size is its largest, in the middle of a heartbeat


def test_an_idle_worker_is_small_and_has_one_thread_also_after_a_collection(make_overlay: MakeOverlay) -> None:
    """Nearly all of a worker's memory is pages of its parent that it wrote on, if only to count references, and has not
    given back; an event loop or a library more shows here at once."""
    overlay = make_overlay(program=collecting.PROGRAM)
    overlay.start()
    daemon = overlay.daemons[0]
    for network in daemon.networks:
        daemon.wait_ready(network)
        eventually(lambda name=network: daemon.state_file(name).exists(), f"the state file of {network}", IDLE_S)  # type: ignore[misc]
    time.sleep(IDLE_S)
    for _ in range(LOOKS):
        assert_small(daemon)
        time.sleep(APART_S)
    mark = daemon.mark()
    for network, pid in daemon.worker_pids().items():
        kill(pid, collecting.COLLECT)
        daemon.wait_line(collecting.COLLECTED, network=network, after=mark)
    assert_small(daemon)


def test_a_network_alone_on_its_host_is_as_small(make_overlay: MakeOverlay) -> None:
    """No sibling shares its pages: only its parent does."""
    overlay = make_overlay(hosts=1, networks={"blue": vxlan("10.101.0.0/16", 101)})
    overlay.start()
    daemon = overlay.daemons[0]
    daemon.wait_ready("blue")
    time.sleep(2 * IDLE_S)
    assert_small(daemon)


def assert_small(daemon: Flanneld) -> None:
    workers = {name: psutil.Process(pid) for name, pid in daemon.worker_pids().items()}
    assert set(workers) == set(daemon.networks)
    sizes = {name: worker.memory_full_info().uss for name, worker in workers.items()}
    assert max(sizes.values()) < MOST, sizes
    assert {worker.num_threads() for worker in workers.values()} == {1}
