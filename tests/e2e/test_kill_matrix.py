"""Every way for a worker to die, a hundred times, under pings: its network is back, and the others never notice."""

from __future__ import annotations

import resource
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable

from tests.e2e.conftest import MakeOverlay, assert_nothing_lost
from tests.lab import sabotage
from tests.lab.flanneld import Flanneld, children_of, eventually, kill, wait_gone
from tests.lab.kernel import kernel_state
from tests.lab.overlay import THREE, Overlay, crowd, vxlan

VICTIM, OTHERS = "blue", ("green", "red")
SETTLED_S = 0.1
FLAGS = (f"--restart-settled={SETTLED_S}", "--restart-floor=50ms", "--liveness-timeout=1s")
MEGABYTE = 1 << 20


def by_signal(number: int) -> Callable[[int], None]:
    return lambda pid: kill(pid, number)


def by_memory_limit(pid: int) -> None:
    """Leaves the worker 8 MB of data above what it has, then makes it want more."""
    with open(f"/proc/{pid}/statm") as statm:
        data = int(statm.read().split()[5]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_DATA, (data + 8 * MEGABYTE, data + 8 * MEGABYTE))
    kill(pid, sabotage.EAT)


# what is done, how often, and what the supervisor must call it
ROUNDS: tuple[tuple[Callable[[int], None], int, str], ...] = (
    (by_signal(signal.SIGKILL), 40, "killed by SIGKILL"),
    (by_signal(signal.SIGSEGV), 20, "killed by SIGSEGV"),
    (by_signal(sabotage.EXIT), 15, f"exited with status {sabotage.STATUS}"),
    (by_signal(sabotage.RAISE), 12, "exited with status 70"),
    (by_memory_limit, 10, "exited with status 70"),
    (by_signal(signal.SIGSTOP), 3, "killed by SIGABRT"),
)


def test_a_hundred_deaths_of_one_worker_cost_nobody_a_packet(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(flags=FLAGS, program=sabotage.PROGRAM)
    overlay.start()
    overlay.attach()
    before = [Bystanders(overlay, daemon) for daemon in overlay.daemons]
    pings = overlay.ping()
    back_s: dict[str, list[float]] = {}
    causes: Counter[str] = Counter()
    for number, (die, cause) in enumerate(interleaved()):
        daemon = overlay.daemons[number % len(overlay.daemons)]
        took_s, said = one_round(daemon, die)
        back_s.setdefault(cause, []).append(took_s)
        causes[said] += 1
    counts = pings.stop()
    assert causes == Counter({cause: len(times) for cause, times in back_s.items()})
    assert sum(causes.values()) == 100
    assert_nothing_lost(counts)
    assert [Bystanders(overlay, daemon) for daemon in overlay.daemons] == before
    assert any("MemoryError" in line.text for daemon in overlay.daemons for line in daemon.lines)
    assert statistics.median(back_s["killed by SIGKILL"]) < 0.050, back_s["killed by SIGKILL"]


def test_a_killed_worker_with_five_thousand_peers_is_back_within_a_quarter_of_a_second(
    make_overlay: MakeOverlay,
) -> None:
    overlay = make_overlay(hosts=1, networks={VICTIM: vxlan("10.128.0.0/10", 101)}, flags=FLAGS)
    overlay.etcd.start()
    overlay.publish(VICTIM, overlay.networks[VICTIM])
    overlay.etcd.put_many(crowd(overlay, VICTIM, 5_000))
    overlay.start_daemons(timeout_s=30.0)
    daemon = overlay.daemons[0]
    before = kernel_state(daemon.host)
    assert len([line for line in before if line.startswith("route 10.1")]) == 5_000
    back_s = [one_round(daemon, by_signal(signal.SIGKILL))[0] for _ in range(9)]
    assert kernel_state(daemon.host) == before
    assert statistics.median(back_s) < 0.250, back_s


def test_a_stopped_worker_is_noticed_by_default_within_ten_seconds(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1)
    overlay.start()
    daemon = overlay.daemons[0]
    mark, began_s = daemon.mark(), time.time()
    kill(daemon.worker_pid(VICTIM), signal.SIGSTOP)
    hung = daemon.wait_line("^blue: hung: ", network="supervisor", after=mark, timeout_s=15.0)
    daemon.wait_line("Fatal Python error: Aborted", after=mark)
    daemon.wait_line("^  File .* in ", after=mark)  # the stacks, as faulthandler prints them
    daemon.wait_ready(VICTIM, after=mark)
    assert 7.5 < hung.at_s - began_s < 10.5


def test_a_worker_that_dies_again_and_again_waits_up_to_a_ceiling_that_doubles(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(
        hosts=1, networks={"blue": THREE["blue"]}, flags=("--restart-floor=200ms", "--restart-cap=500ms")
    )
    overlay.start()
    daemon = overlay.daemons[0]
    waits_s = []
    for _ in range(4):
        mark = daemon.mark()
        kill(daemon.worker_pid(VICTIM), signal.SIGKILL)
        line = daemon.wait_line(r"^blue: killed by SIGKILL; next start in", after=mark)
        waits_s.append(float(line.text.split()[-2]))
        daemon.wait_ready(VICTIM, after=mark)
    at_once, floor_s, *random_s = waits_s  # the second has no room for chance: floor and ceiling are one
    assert (at_once, floor_s) == (0.0, 0.2)
    assert 0.2 <= random_s[0] <= 0.4
    assert 0.2 <= random_s[1] <= 0.5


def test_what_a_dead_worker_had_started_dies_with_it(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1, flags=FLAGS, program=sabotage.PROGRAM)
    overlay.start()
    daemon = overlay.daemons[0]
    worker = daemon.worker_pid(VICTIM)
    kill(worker, sabotage.BREED)
    eventually(lambda: len(children_of(worker)) == 2, "the worker has two children")
    grandchildren = children_of(worker)
    kill(worker, signal.SIGKILL)
    for pid in grandchildren:
        wait_gone(pid, 1.0)
    workers = set(daemon.worker_pids().values())
    eventually(lambda: children_of(daemon.pid) == set(daemon.worker_pids().values()), "no zombie stays")
    assert grandchildren.isdisjoint(workers)


def one_round(daemon: Flanneld, die: Callable[[int], None]) -> tuple[float, str]:
    """Kills the victim's worker on one host; returns the seconds until it was ready, and the cause that was logged."""
    mark, pid, began_s = daemon.mark(), daemon.worker_pid(VICTIM), time.time()
    die(pid)
    ready = daemon.wait_ready(VICTIM, after=mark, timeout_s=10.0)
    said = daemon.wait_line(r"^blue: .*; next start in 0\.0 s$", network="supervisor", after=mark)
    assert daemon.worker_pid(VICTIM) != pid
    settle(daemon)
    return ready.at_s - began_s, said.text.removeprefix("blue: ").partition(";")[0]


def settle(daemon: Flanneld) -> None:
    """Until the worker has been ready for so long that its next restart is at once again."""
    signal.sigtimedwait((), SETTLED_S * 1.5)


def interleaved() -> list[tuple[Callable[[int], None], str]]:
    """All rounds, each kind spread over the whole."""
    spread = [
        ((at + 0.5) / times, order, die, cause)
        for order, (die, times, cause) in enumerate(ROUNDS)
        for at in range(times)
    ]
    return [(die, cause) for _, _, die, cause in sorted(spread, key=lambda item: item[:2])]


class Bystanders:
    """What must not change: the other networks' workers and env files, and the whole host's kernel state."""

    def __init__(self, overlay: Overlay, daemon: Flanneld) -> None:
        self.pids = {name: daemon.worker_pid(name) for name in OTHERS}
        self.env = {name: env_stat(daemon, name) for name in (*OTHERS, VICTIM)}
        self.kernel = kernel_state(daemon.host)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bystanders) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


def env_stat(daemon: Flanneld, network: str) -> tuple[int, int, bytes]:
    """Inode, mtime in ns and content of an env file."""
    path = daemon.env_file(network)
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, path.read_bytes()
