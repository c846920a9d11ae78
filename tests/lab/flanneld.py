"""A flanneld process on a host of the lab: started, signalled, and read line by line."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.lab.world import Host, LabError, read_env

PROGRAM = (str(Path(sys.executable).with_name("flanneld")),)
POLL_S = 0.005
_LINE = re.compile(r"(\S+) ([EWID]) ([^\s\[]*)\[(\d+)(?:/(\d+))?\] (.*)")


class Line(NamedTuple):
    """One log line. `at_s` is the daemon's own stamp as Unix time (to the millisecond), `network` is "supervisor" for
    the parent; a line that is not in the daemon's format (a traceback, say) has only `text`."""

    at_s: float
    level: str
    network: str
    pid: int
    incarnation: int
    text: str


def parse_line(raw: str) -> Line:
    """The parts of a log line."""
    found = _LINE.match(raw)
    if found is None:
        return Line(0.0, "", "", 0, 0, raw)
    stamp, level, network, pid, incarnation, text = found.groups()
    at_s = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
    return Line(at_s, level, network, int(pid), int(incarnation or 0), text)


class Flanneld:
    """One daemon with folders of its own under `folder`. `networks` empty: single-network mode. `store`: the flags that
    say where leases live.

    `start` again after an end is the next run of the same daemon; `lines` goes on over all runs.
    """

    def __init__(
        self,
        host: Host,
        folder: Path,
        *,
        networks: Sequence[str],
        store: Sequence[str],
        flags: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.host = host
        self.networks = tuple(networks)
        self.folder = folder / host.name
        self.run_dir, self.state_dir = self.folder / "run", self.folder / "state"
        self.log_file = self.folder / "flanneld.log"
        self.flags = list(flags)
        self.store = list(store)
        self.lines: list[Line] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._environ = dict(environ or {})
        self._program = list(program)
        self._news = threading.Condition(threading.RLock())
        self._reader: threading.Thread | None = None
        self._silent = False  # nobody is left who could write a line
        self.folder.mkdir(parents=True, exist_ok=True)

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> Flanneld:
        """Starts it; returns at once."""
        argv = [*self._program, *([f"--networks={','.join(self.networks)}"] if self.networks else [])]
        argv += [*self.store, f"--run-dir={self.run_dir}", f"--state-dir={self.state_dir}"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FLANNELD_")}
        self.process = self.host.spawn(
            *argv, *self.flags, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**environ, **self._environ}, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self._silent = False
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM; returns the exit status, negative for a signal."""
        self.send(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL to the supervisor, and the wait for its end."""
        self.send(signal.SIGKILL)
        self.wait(5.0)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """The exit status. Raises LabError when it still runs."""
        assert self.process is not None
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"flanneld on {self.host.name} still runs after {timeout_s:g} s\n{self.tail()}") from None

    def wait_all_gone(self, timeout_s: float) -> None:
        """Until standard error has no writer any more: supervisor, workers and theirs are gone. Raises LabError."""
        assert self._reader is not None
        self._reader.join(timeout_s)
        if self._reader.is_alive():
            raise LabError(f"processes of flanneld on {self.host.name} stay after {timeout_s:g} s\n{self.tail()}")

    def close(self) -> None:
        """Ends it and everything it left, by force."""
        pids = self.worker_pids()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if self._reader is not None:
            self._reader.join(3.0)
            if self._reader.is_alive():
                for pid in pids.values():
                    kill(pid, signal.SIGKILL)
                self._reader.join(3.0)

    # -- what it says --------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """A place in `lines`: what comes after it is new."""
        with self._news:
            return len(self.lines)

    def wait_line(self, pattern: str, *, network: str | None = None, after: int = 0, timeout_s: float = 10.0) -> Line:
        """The first line from place `after` on whose text matches, of one network or of "supervisor" if said so.

        Raises LabError with the end of the log.
        """
        wanted = re.compile(pattern)
        end_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                for line in self.lines[after:]:
                    if wanted.search(line.text) and network in (None, line.network):
                        return line
                after = len(self.lines)
                if self._silent:
                    raise LabError(f"flanneld on {self.host.name} ended without a line like {pattern!r}\n{self.tail()}")
                if not self._news.wait(max(0.0, end_s - time.monotonic())) and time.monotonic() >= end_s:
                    where = f" of {network}" if network else ""
                    raise LabError(f"no line{where} matches {pattern!r} within {timeout_s:g} s\n{self.tail()}")

    def wait_phase(self, network: str, phase: str, *, after: int = 0, timeout_s: float = 10.0) -> Line:
        """The supervisor's line that says that `network` is in `phase` now."""
        pattern = rf"^{re.escape(network or '_')}: {phase}(?::|$)"
        return self.wait_line(pattern, network="supervisor", after=after, timeout_s=timeout_s)

    def wait_ready(self, network: str = "", *, after: int = 0, timeout_s: float = 10.0) -> Line:
        """The ready line of `network`; the env file stands by then."""
        line = self.wait_phase(network, "ready", after=after, timeout_s=timeout_s)
        if not self.env_file(network).exists():
            raise LabError(f"{network} said ready before its env file stood")
        return line

    def tail(self, count: int = 40) -> str:
        """The last lines, for the message of a failed test."""
        with self._news:
            return "\n".join(
                f"  {self.host.name} {line.level} {line.network} {line.text}" for line in self.lines[-count:]
            )

    # -- what it leaves ------------------------------------------------------------------------------------------

    def env_file(self, network: str = "") -> Path:
        return self.run_dir / "networks" / f"{network}.env" if network else self.run_dir / "subnet.env"

    def env(self, network: str = "") -> Mapping[str, str]:
        return read_env(self.env_file(network))

    def lock_file(self, network: str = "") -> Path:
        return self.run_dir / "networks" / f"{network or '_'}.lock"

    def state_file(self, network: str = "") -> Path:
        return self.state_dir / f"{network or '_'}.json"

    def worker_pid(self, network: str = "") -> int:
        """The worker that holds the network's lock. Raises LabError when there is no lock file yet."""
        try:
            return int(self.lock_file(network).read_text())
        except (OSError, ValueError):
            raise LabError(f"no worker holds {self.lock_file(network)}") from None

    def worker_pids(self) -> dict[str, int]:
        """Worker by network, as far as they have their locks."""
        return {name: self.worker_pid(name) for name in (self.networks or ("",)) if self._has_worker(name)}

    def _has_worker(self, network: str) -> bool:
        try:
            return alive(self.worker_pid(network))
        except LabError:
            return False

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr, self.log_file.open("ab") as file:
            for raw in process.stderr:
                file.write(raw)
                file.flush()
                with self._news:
                    self.lines.append(parse_line(raw.decode(errors="replace").rstrip("\n")))
                    self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()


def alive(pid: int) -> bool:
    """True while the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> set[int]:
    """Pids of the children of a single-threaded process, zombies too; none when it is gone."""
    try:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return set()


def kill(pid: int, number: int) -> None:
    """Sends a signal to a process by pidfd; one that is gone already is no error."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def wait_gone(pid: int, timeout_s: float) -> float:
    """Seconds until the process had ended. Raises LabError when it has not after `timeout_s`."""
    start_s = time.monotonic()
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return 0.0
    try:
        if not select.select([handle], [], [], timeout_s)[0]:
            raise LabError(f"process {pid} still runs after {timeout_s:g} s")
    finally:
        os.close(handle)
    return time.monotonic() - start_s


def eventually(check: Callable[[], bool], what: str, timeout_s: float = 5.0) -> float:
    """Looks every 5 ms until `check` holds; returns the seconds it took. Raises LabError that names `what`."""
    start_s = time.monotonic()
    while not check():
        if time.monotonic() - start_s > timeout_s:
            raise LabError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)
    return time.monotonic() - start_s
