"""The supervisor with real forks, signals and socketpairs; the worker's life is a few lines of each test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flannel_multi.model.messages import Beat, Down, Said, Stop, decode, encode
from flannel_multi.options import Exit, NetworkOptions, read_options

PATIENCE_S = 10.0
Life = Callable[[NetworkOptions, socket.socket], int]


def say(sock: socket.socket, *messages: Beat | Said) -> None:
    for message in messages:
        sock.send(encode(message))


def listen(sock: socket.socket) -> Down | None:
    """The next word of the supervisor, None at the end of file."""
    sock.setblocking(True)
    datagram = sock.recv(60_000)
    return decode(datagram) if datagram else None  # type: ignore[return-value]


def obedient(options: NetworkOptions, sock: socket.socket) -> int:
    """Ready at once, beats, and ends when told or when the supervisor is gone."""
    say(sock, Beat(1), Said("ready", "", True))
    word = listen(sock)
    return 0 if word is None or isinstance(word, Stop) else 1


class Supervisor:
    """A supervisor in a process of its own, its log read by lines."""

    def __init__(self, life: Life, *flags: str, notify: str = "", before: Callable[[], object] = int) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(writing, 2)
            os.closerange(3, 256)
            try:
                os._exit(_supervise(life, flags, notify, before))
            except BaseException:  # noqa: BLE001  # a fork must not run on as a second pytest
                os.write(2, traceback.format_exc().encode())
                os._exit(99)
        os.close(writing)
        self._log = os.fdopen(reading, "rb", buffering=0)
        self._seen: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        pending = b""
        while chunk := self._log.read(65536):
            *lines, pending = (pending + chunk).split(b"\n")
            with self._news:
                self._seen += [line.decode() for line in lines]
                self._news.notify_all()
        with self._news:
            self._seen.append("(end)")
            self._news.notify_all()

    def lines(self) -> list[str]:
        with self._news:
            return list(self._seen)

    def await_line(self, text: str, *, times: int = 1) -> str:
        def count() -> int:
            return sum(text in line for line in self._seen)

        with self._news:
            assert self._news.wait_for(lambda: count() >= times, PATIENCE_S), "\n".join(self._seen)
            return [line for line in self._seen if text in line][times - 1]

    def worker(self, name: str) -> int:
        """The pid of the child that bears the network's name."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            for pid in children(self.pid):
                if f"flanneld: {name}" in Path(f"/proc/{pid}/cmdline").read_text():
                    return pid
            time.sleep(0.005)
        raise AssertionError(f"no worker {name}")

    def close(self) -> None:
        """The log ends with the last worker, which dies with its supervisor."""
        self._reader.join(PATIENCE_S)
        self._log.close()

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _supervise(life: Life, flags: tuple[str, ...], notify: str, before: Callable[[], object]) -> int:
    from flannel_multi import log
    from flannel_multi.supervisor import process
    from flannel_multi.supervisor.loop import Loop, Wiring
    from flannel_multi.supervisor.notify import Notifier

    os.environ["NOTIFY_SOCKET"] = notify
    options = read_options(["--networks=blue,green", "--config=", *flags], {}, lambda path: None if path else b"")
    assert not isinstance(options, Exit), options
    log.configure(fmt="text", verbosity=0)
    child = before()
    strangers = process.become_supervisor()
    notifier = Notifier(watchdog_s=0.2 if notify else None)
    Loop(options, Wiring(life, notifier, lambda: None, kills_strays=not strangers)).run()
    del child
    return 0


@contextmanager
def supervised(life: Life, *flags: str, notify: str = "", before: Callable[[], object] = int) -> Iterator[Supervisor]:
    supervisor = Supervisor(life, *flags, notify=notify, before=before)
    try:
        yield supervisor
    finally:
        try:
            os.kill(supervisor.pid, signal.SIGKILL)
            os.waitpid(supervisor.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        supervisor.close()


def children(pid: int) -> list[int]:
    try:
        return [int(item) for item in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def gone_within(pid: int, limit_s: float) -> bool:
    deadline_s = time.monotonic() + limit_s
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return not is_alive(pid)


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
        descriptors = {int(fd.name) for fd in Path(f"/proc/{supervisor.worker('green')}/fd").iterdir()}
        assert len(descriptors - {0, 1, 2}) == 1


def test_the_supervisors_death_ends_its_workers_even_a_stopped_one() -> None:
    with supervised(obedient) as supervisor:
        supervisor.await_line("green: ready")
        blue, green = supervisor.worker("blue"), supervisor.worker("green")
        os.kill(blue, signal.SIGSTOP)
        os.kill(supervisor.pid, signal.SIGKILL)
        assert gone_within(blue, 2.0)
        assert gone_within(green, 2.0)


def test_a_hung_worker_shows_its_stack_and_is_replaced() -> None:
    def stuck_once(options: NetworkOptions, sock: socket.socket) -> int:
        if options.name == "blue":
            say(sock, Beat(1), Said("ready", "", True))
            threading.Event().wait()
        return obedient(options, sock)

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
    def deaf(options: NetworkOptions, sock: socket.socket) -> int:
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
    def with_family(options: NetworkOptions, sock: socket.socket) -> int:
        kept = tmp_path / options.name
        if not kept.exists():
            inside = subprocess.Popen(["sleep", "600"])
            outside = subprocess.Popen(["setsid", "sleep", "600"])
            kept.write_text(f"{inside.pid} {outside.pid}")
        return obedient(options, sock)

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
    def dying(options: NetworkOptions, sock: socket.socket) -> int:
        if options.name == "blue":
            end()
        return obedient(options, sock)

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
    def babbling(options: NetworkOptions, sock: socket.socket) -> int:
        if options.name == "blue":
            sock.send(b"\xff\x00{")
        return obedient(options, sock)

    with supervised(babbling, "--restart-floor=10s") as supervisor:
        supervisor.await_line("blue: killed, since it does not speak our language")
        supervisor.await_line("green: ready")
        supervisor.await_line("blue: killed by SIGKILL")


def test_a_mistake_of_ours_that_one_worker_provokes_ends_that_worker_alone() -> None:
    def absurd(options: NetworkOptions, sock: socket.socket) -> int:
        if options.name == "blue":
            say(sock, Said("a phase that there is not"))
        return obedient(options, sock)

    with supervised(absurd, "--restart-floor=10s") as supervisor:
        supervisor.await_line("blue: ValueError: 'a phase that there is not' is not a valid Phase")
        supervisor.await_line("blue: killed by SIGKILL")
        supervisor.await_line("green: ready")


def test_all_that_a_worker_said_is_heard_before_its_death() -> None:
    def last_words(options: NetworkOptions, sock: socket.socket) -> int:
        if options.name == "blue":
            os.kill(os.getppid(), signal.SIGSTOP)
            say(sock, *(Beat(number) for number in range(100)), Said("degraded", "the hundred-and-first word", True))
            os.posix_spawn("/bin/sh", ["sh", "-c", f"sleep 0.1; kill -CONT {os.getppid()}"], {}, setsid=True)
            return 0
        return obedient(options, sock)

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
