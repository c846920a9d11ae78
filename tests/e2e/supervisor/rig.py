"""A supervisor in a process of its own, whose workers live a few lines of the test."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flannel_multi.model.messages import Beat, Down, Said, Stop, decode, encode
from flannel_multi.options import Exit, NetworkOptions, read_options

PATIENCE_S = 10.0
Life = Callable[[NetworkOptions, socket.socket, Mapping[str, int]], int]


def say(sock: socket.socket, *messages: Beat | Said) -> None:
    for message in messages:
        sock.send(encode(message))


def listen(sock: socket.socket) -> Down | None:
    """The next word of the supervisor, None at the end of file."""
    sock.setblocking(True)
    datagram = sock.recv(60_000)
    return decode(datagram) if datagram else None  # type: ignore[return-value]


def obedient(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
    """Ready at once, beats, and ends when told or when the supervisor is gone."""
    say(sock, Beat(1), Said("ready", "", True))
    word = listen(sock)
    return 0 if word is None or isinstance(word, Stop) else 1


class Supervisor:
    """A supervisor in a process of its own, its log read by lines."""

    def __init__(self, life: Life, *flags: str, notify: str = "", before: Callable[[], object] = int) -> None:
        """Of networks blue and green, unless `flags` name others."""
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
    from flannel_multi.service_manager import Notifier
    from flannel_multi.supervisor import process
    from flannel_multi.supervisor.loop import Loop, Wiring

    os.environ["NOTIFY_SOCKET"] = notify
    named = any(flag.startswith("--networks=") for flag in flags)
    networks = [] if named else ["--networks=blue,green"]
    options = read_options([*networks, "--config=", *flags], {}, lambda path: None if path else b"")
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


def open_files(pid: int) -> dict[int, str]:
    """What the process has open, by number: a path, or as in `socket:[1234]`."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(link.name)] = str(link.readlink())
        except FileNotFoundError:
            pass  # closed meanwhile
    return found


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
