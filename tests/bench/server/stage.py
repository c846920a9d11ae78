"""What a run of the benchmark stands on: a store with its configs, a server over it, and processes of clients."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import psutil

from tests.bench.server.crowd import Report, Settings
from tests.lab.etcd import Etcd
from tests.lab.server import Server
from tests.lab.store_file import StoreFile
from tests.lab.storehosts import config_key

ETCD, SQLITE = "etcd", "sqlite"
STORES = (ETCD, SQLITE)
CONFIG = '{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}'
MB = 1 << 20


class Stage(NamedTuple):
    """One of `etcd` and `file` is there."""

    server: Server
    etcd: Etcd | None
    file: StoreFile | None


@contextmanager
def stage(store: str, networks: Sequence[str]) -> Iterator[Stage]:
    """A server that was just started, over a store of its own."""
    with TemporaryDirectory(prefix="flannel-bench-server-") as name:
        folder = Path(name)
        if store == SQLITE:
            file = StoreFile(folder / "store.db")
            for network in networks:
                file.put_config(network, CONFIG.encode())
            with Server(file.url, folder) as server:
                yield Stage(server, None, file)
            return
        with Etcd(folder) as etcd:
            etcd.put_each((config_key(network), CONFIG) for network in networks)
            with Server("etcd", folder, flags=[f"--etcd-endpoints={etcd.url}"]) as server:
                yield Stage(server, etcd, None)


class Usage(NamedTuple):
    """Of the server's process. `uss`: bytes that are its own; `peak`: the most that it ever had in memory."""

    cpu_s: float
    uss: int
    peak: int

    @classmethod
    def of(cls, server: Server) -> Usage:
        process = psutil.Process(server.pid)
        times = process.cpu_times()
        status = Path(f"/proc/{server.pid}/status").read_text()
        peak = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))
        return cls(times.user + times.system, process.memory_full_info().uss, peak)


class Tally(NamedTuple):
    cpu_s: float
    reports: list[Report]


class CrowdProcess:
    """A crowd, which waits for news once this is made."""

    def __init__(self, settings: Settings) -> None:
        command = [sys.executable, "-m", "tests.bench.server.crowd", json.dumps(settings._asdict())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def reset(self) -> None:
        self._say("reset")
        self._answer()

    def report(self) -> Tally:
        self._say("report")
        answer = self._answer()
        return Tally(
            answer["cpu_s"],
            [Report(**{**report, "sums": [tuple(one) for one in report["sums"]]}) for report in answer["reports"]],
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError("a process of clients has died")
        answer: dict[str, Any] = json.loads(line)
        return answer
