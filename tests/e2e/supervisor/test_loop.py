"""The supervisor with real forks, signals and socketpairs; the worker's life is a few lines of each test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from flannel_multi.model.messages import Beat, Said
from flannel_multi.options import NetworkOptions
from tests.e2e.supervisor.rig import PATIENCE_S, children, gone_within, is_alive, obedient, open_files, say, supervised


def test_sigterm_stops_every_worker_and_exits_0() -> None:
    with supervised(obedient) as supervisor:
        supervisor.await_line("blue: ready")
        supervisor.await_line("green: ready")
        os.kill(supervisor.pid, signal.SIGTERM)
        assert supervisor.wait() == 0
        supervisor.await_line("green: stopped")


def test_a_killed_worker_is_back_at_once_and_its_sibling_keeps_its_pid() -> None:
    with supervised(obedient) as supervisor:
        supervisor.await_line("green: ready")
        green = supervisor.worker("green")
        os.kill(supervisor.worker("blue"), signal.SIGKILL)
        supervisor.await_line("blue: killed by SIGKILL; next start in 0.0 s")
        supervisor.await_line("blue: ready", times=2)
        assert supervisor.worker("green") == green


def test_ps_and_top_tell_the_networks_apart() -> None:
    with supervised(obedient) as supervisor:
        supervisor.await_line("blue: ready")
        pid = supervisor.worker("blue")
        shown = subprocess.run(["ps", "-o", "comm=,args=", "-p", str(pid)], capture_output=True, text=True, check=True)
        assert shown.stdout.split() == ["fl:blue", "flanneld:", "blue"]


def test_a_worker_keeps_no_descriptor_of_its_siblings_or_parent() -> None:
    with supervised(obedient) as supervisor:
        supervisor.await_line("green: ready")
        assert len(set(open_files(supervisor.worker("green"))) - {0, 1, 2}) == 1


def test_the_supervisors_death_ends_its_workers_even_a_stopped_one() -> None:
    with supervised(obedient) as supervisor:
        supervisor.await_line("green: ready")
        blue, green = supervisor.worker("blue"), supervisor.worker("green")
        os.kill(blue, signal.SIGSTOP)
        os.kill(supervisor.pid, signal.SIGKILL)
        assert gone_within(blue, 2.0)
        assert gone_within(green, 2.0)


def test_a_hung_worker_shows_its_stack_and_is_replaced() -> None:
    def stuck_once(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        if options.name == "blue":
            say(sock, Beat(1), Said("ready", "", True))
            threading.Event().wait()
        return obedient(options, sock, kept)

    with supervised(stuck_once, "--liveness-timeout=300ms") as supervisor:
        supervisor.await_line("blue: hung: no progress for 0.3 s")
        supervisor.await_line("in stuck_once")
        supervisor.await_line("blue: killed by SIGABRT")
        supervisor.await_line("blue: ready", times=2)


def test_a_stopped_worker_is_ended_too() -> None:
    with supervised(obedient, "--liveness-timeout=300ms") as supervisor:
        supervisor.await_line("blue: ready")
        os.kill(supervisor.worker("blue"), signal.SIGSTOP)
        supervisor.await_line("blue: killed by SIGABRT")


def test_a_worker_that_ignores_the_stop_is_killed_after_the_timeout() -> None:
    def deaf(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        say(sock, Beat(1), Said("ready", "", True))
        threading.Event().wait()
        return 0

    with supervised(deaf, "--stop-timeout=200ms") as supervisor:
        supervisor.await_line("blue: ready")
        supervisor.await_line("green: ready")
        os.kill(supervisor.pid, signal.SIGTERM)
        assert supervisor.wait() == 0
        supervisor.await_line("blue: did not stop in time: killing it")


def test_what_a_dead_worker_left_running_is_killed_and_no_zombie_stays(tmp_path: Path) -> None:
    def with_family(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        kept = tmp_path / options.name
        if not kept.exists():
            inside = subprocess.Popen(["sleep", "600"])
            outside = subprocess.Popen(["setsid", "sleep", "600"])
            kept.write_text(f"{inside.pid} {outside.pid}")
        return obedient(options, sock, kept)

    with supervised(with_family) as supervisor:
        supervisor.await_line("blue: ready")
        family = [int(pid) for pid in (tmp_path / "blue").read_text().split()]
        os.kill(supervisor.worker("blue"), signal.SIGKILL)
        supervisor.await_line("blue: ready", times=2)
        assert all(gone_within(pid, 2.0) for pid in family)
        deadline_s = time.monotonic() + 2.0
        while len(children(supervisor.pid)) > 2 and time.monotonic() < deadline_s:
            time.sleep(0.005)
        assert len(children(supervisor.pid)) == 2
        os.kill(supervisor.pid, signal.SIGTERM)
        assert supervisor.wait() == 0
        assert all(gone_within(int(pid), 2.0) for pid in (tmp_path / "green").read_text().split())


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda: os._exit(7), "exited with status 7"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "killed by SIGSEGV"),
        (lambda: [][1], "exited with status 70"),
        (lambda: os.kill(os.getpid(), 40), "killed by signal 40"),
    ],
    ids=["exit", "segfault", "exception", "a signal without a name"],
)
def test_every_kind_of_death_is_named_and_slows_down_a_worker_that_never_settles(
    end: Callable[[], None], told: str
) -> None:
    def dying(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        if options.name == "blue":
            end()
        return obedient(options, sock, kept)

    with supervised(dying, "--restart-floor=100ms", "--restart-cap=150ms") as supervisor:
        supervisor.await_line(f"blue: {told}; next start in 0.0 s")
        supervisor.await_line(f"blue: {told}; next start in 0.1 s", times=2)
        assert not any("green" in line and "next start" in line for line in supervisor.lines())


def test_a_child_from_before_the_supervisor_is_left_alone() -> None:
    with supervised(obedient, before=lambda: subprocess.Popen(["sleep", "600"])) as supervisor:
        supervisor.await_line("green: ready")
        stranger = next(pid for pid in children(supervisor.pid) if "sleep" in Path(f"/proc/{pid}/comm").read_text())
        os.kill(supervisor.worker("blue"), signal.SIGKILL)
        supervisor.await_line("blue: ready", times=2)
        assert is_alive(stranger)
        os.kill(stranger, signal.SIGKILL)


def test_a_worker_that_talks_nonsense_is_killed_alone() -> None:
    def babbling(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        if options.name == "blue":
            sock.send(b"\xff\x00{")
        return obedient(options, sock, kept)

    with supervised(babbling, "--restart-floor=10s") as supervisor:
        supervisor.await_line("blue: killed, since it does not speak our language")
        supervisor.await_line("green: ready")
        supervisor.await_line("blue: killed by SIGKILL")


def test_a_mistake_of_ours_that_one_worker_provokes_ends_that_worker_alone() -> None:
    def absurd(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        if options.name == "blue":
            say(sock, Said("a phase that there is not"))
        return obedient(options, sock, kept)

    with supervised(absurd, "--restart-floor=10s") as supervisor:
        supervisor.await_line("blue: ValueError: 'a phase that there is not' is not a valid Phase")
        supervisor.await_line("blue: killed by SIGKILL")
        supervisor.await_line("green: ready")


def test_all_that_a_worker_said_is_heard_before_its_death() -> None:
    def last_words(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        if options.name == "blue":
            os.kill(os.getppid(), signal.SIGSTOP)
            say(sock, *(Beat(number) for number in range(100)), Said("degraded", "the hundred-and-first word", True))
            os.posix_spawn("/bin/sh", ["sh", "-c", f"sleep 0.1; kill -CONT {os.getppid()}"], {}, setsid=True)
            return 0
        return obedient(options, sock, kept)

    with supervised(last_words, "--restart-floor=10s") as supervisor:
        supervisor.await_line("blue: degraded: the hundred-and-first word")


def test_the_service_manager_hears_status_and_watchdog_but_never_ready(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(PATIENCE_S)
        with supervised(obedient, notify=path):
            heard: list[bytes] = []
            while b"STATUS=blue ready, green ready" not in heard or b"WATCHDOG=1" not in heard:
                heard.append(manager.recv(4096))
    assert b"READY=1" not in heard
