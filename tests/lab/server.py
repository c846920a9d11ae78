"""A `flanneld --listen` process for tests, the demo and benchmarks: started, killed, started again on its address."""

from __future__ import annotations

import http.client
import os
import random
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from tests.lab.flanneld import PROGRAM
from tests.lab.netns import inside

READY_S = 15.0
STOP_S = 10.0
_PORTS = range(33000, 39000)
_LISTENING = re.compile(r" listening on ")


class Answer(NamedTuple):
    """What came back, headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Server:
    """One server process. Leaving a `with` ends it. `log` is its standard error so far."""

    def __init__(
        self,
        store: str,
        folder: Path,
        *,
        flags: Sequence[str] = (),
        host: str = "127.0.0.1",
        netns: str = "",
        name: str = "server",
    ) -> None:
        self.host, self.netns = host, netns
        self.port = _free_port(host, netns)
        self.address = f"{host}:{self.port}"
        self._argv = [*PROGRAM, f"--listen={self.address}", f"--store={store}", *flags]
        self._log_file = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def log(self) -> str:
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        said = len(self.log)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FLANNELD_")}
        with self._log_file.open("ab") as log:
            prefix = ["ip", "netns", "exec", self.netns] if self.netns else []
            self.process = subprocess.Popen(
                [*prefix, *self._argv], stdin=subprocess.DEVNULL, stderr=log, env=environ, start_new_session=True
            )
        for _ in range(int(READY_S / 0.01)):
            if _LISTENING.search(self.log[said:]):
                return
            if self.process.poll() is not None:
                break
            threading.Event().wait(0.01)
        raise AssertionError(f"the server does not listen: {self.log[said:]}")

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """SIGKILL, also of one that is paused."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_S)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # the last thread stops a little after the signal

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def ask(self, method: str, path: str, body: bytes | str | None = None, *, timeout_s: float = 10.0) -> Answer:
        """One exchange on a connection of its own."""

        def exchange() -> Answer:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
            try:
                connection.request(method, path, body.encode() if isinstance(body, str) else body)
                reply = connection.getresponse()
                headers = {name.lower(): value for name, value in reply.getheaders()}
                return Answer(reply.status, headers, reply.read())
            finally:
                connection.close()

        return inside(self.netns, exchange)


class Asking:
    """A request under way in a thread: a long poll whose end a test provokes."""

    def __init__(self, server: Server, path: str) -> None:
        self._answer: Answer | None = None
        self._fault: Exception | None = None

        def ask() -> None:
            try:
                self._answer = server.ask("GET", path, timeout_s=20.0)
            except Exception as error:  # noqa: BLE001  raised again by `answer`
                self._fault = error

        self._thread = threading.Thread(target=ask, daemon=True)
        self._thread.start()

    @property
    def waits(self) -> bool:
        """Still without an answer after a quarter of a second."""
        self._thread.join(0.25)
        return self._thread.is_alive()

    def answer(self) -> Answer:
        self._thread.join(20.0)
        if self._fault is not None:
            raise self._fault
        assert self._answer is not None, "no answer came"
        return self._answer


def _free_port(host: str, netns: str) -> int:
    def look() -> int:
        for port in random.sample(_PORTS, 200):  # by chance: two test runs at once must not meet
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                try:
                    probe.bind((host, port))
                except OSError:
                    continue
                if port not in _given:
                    return port
        raise AssertionError("no free port")

    port: int = inside(netns, look)
    _given.add(port)
    return port


_given: set[int] = set()
