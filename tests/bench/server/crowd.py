"""Long-poll clients of a server by the thousand, as light as they can be, in a process of their own.

`python -m tests.bench.server.crowd SETTINGS` (JSON, see `Settings`). Says a line of JSON when all have listed and wait;
then for each line on its standard input: `reset` begins the counting anew, `report` tells what was counted. Ends with
its input. A client asks as flannel's do: a list first, then `?next=CURSOR`, one request at a time on one connection.
"""

from __future__ import annotations

import json
import re
import resource
import select
import socket
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

_EVENT = re.compile(rb'"Seq":(\d+),"SentUs":(\d+)')
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")
_CURSOR = b'"cursor":"'
READ_BYTES = 256 << 10


class Group(NamedTuple):
    """So many clients wait for events of this network."""

    network: str
    clients: int


class Settings(NamedTuple):
    """`query` goes behind the cursor, such as `&max=1000`."""

    port: int
    groups: Sequence[Group]
    query: str


@dataclass
class Report:
    """What was counted of one network's clients. `sums`: how many of them had which number of events with which sum of
    sequence numbers (those without a snapshot). Latencies in ms, from the sending of a write to its receipt here."""

    network: str
    answers: int
    events: int
    snapshots: int
    received_bytes: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    least_events: int
    sums: list[tuple[int, int, int]]
    backwards: int  # answers whose cursor did not grow


class Client:
    """One connection with one request under way."""

    __slots__ = (
        "answers",
        "backwards",
        "bytes",
        "cursor",
        "events",
        "group",
        "had",
        "query",
        "snapshots",
        "sock",
        "sum",
        "want",
    )

    def __init__(self, group: _Group, port: int, query: str) -> None:
        self.group, self.query = group, query
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.had: list[bytes] = []
        self.want = 0  # bytes of the answer that are still to come, 0 before its head
        self.cursor = 0
        self.reset()
        self._send(f"/v1/{group.network}/leases")

    def reset(self) -> None:
        self.answers = self.events = self.snapshots = self.sum = self.backwards = 0

    def readable(self) -> bool:
        """Takes what has come; True when that completed an answer."""
        data = self.sock.recv(READ_BYTES)
        if not data:
            raise AssertionError("the server has closed a connection")
        self.group.received_bytes += len(data)
        self.had.append(data)
        if not self.want:
            data = b"".join(self.had)
            at = data.find(b"\r\n\r\n")
            length = _LENGTH.search(data, 0, at + 2)
            if at < 0 or length is None:
                self.had = [data]
                return False
            assert data.startswith(b"HTTP/1.1 200 "), data[:500]
            self.had = [data[at + 4 :]]
            self.want = int(length[1]) - len(data) + at + 4
        else:
            self.want -= len(data)
        if self.want:
            return False
        body = b"".join(self.had)
        self.had.clear()
        self._take(body)
        return True

    def _take(self, body: bytes) -> None:
        at = body.rindex(_CURSOR) + len(_CURSOR)
        cursor = int(body[at : body.index(b'"', at)])
        self.backwards += cursor <= self.cursor
        self.cursor = cursor
        self.answers += 1
        if body.startswith(b'{"events":null'):
            self.snapshots += 1
        else:
            now_us = time.monotonic_ns() // 1000
            for number, sent_us in _EVENT.findall(body):
                self.events += 1
                self.sum += int(number)
                self.group.latencies.append((now_us - int(sent_us)) / 1000)
        self._send(f"/v1/{self.group.network}/leases?next={cursor}{self.query}")

    def _send(self, target: str) -> None:
        self.sock.send(f"GET {target} HTTP/1.1\r\nHost: x\r\nUser-Agent: Go-http-client/1.1\r\n\r\n".encode())


class _Group:
    def __init__(self, network: str) -> None:
        self.network = network
        self.clients: list[Client] = []
        self.reset()

    def reset(self) -> None:
        self.latencies = array("d")
        self.received_bytes = 0
        for client in self.clients:
            client.reset()

    def report(self) -> Report:
        ordered = sorted(self.latencies) or [0.0]
        sums = Counter((client.events, client.sum) for client in self.clients if not client.snapshots)
        return Report(
            self.network, sum(client.answers for client in self.clients), len(self.latencies),
            sum(client.snapshots for client in self.clients), self.received_bytes,
            ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1],
            min(client.events for client in self.clients), [(n, *key) for key, n in sums.items()],
            sum(client.backwards for client in self.clients),
        )  # fmt: skip


class Crowd:
    """All clients of this process."""

    def __init__(self, settings: Settings) -> None:
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._groups: list[_Group] = []
        for name, count in settings.groups:
            group = _Group(name)
            self._groups.append(group)
            for _ in range(count):
                client = Client(group, settings.port, settings.query)
                group.clients.append(client)
                self._clients[client.sock.fileno()] = client
                self._epoll.register(client.sock, select.EPOLLIN)

    def wait_until_listed(self) -> None:
        missing = len(self._clients)
        while missing:
            missing -= self._turn()
        self._reset()

    def serve(self) -> None:
        """Receives, and obeys standard input."""
        self._epoll.register(sys.stdin, select.EPOLLIN)
        while True:
            self._turn()

    def _turn(self) -> int:
        whole = 0
        for fd, _ in self._epoll.poll():
            client = self._clients.get(fd)
            if client is not None:
                whole += client.readable()
            else:
                self._obey(sys.stdin.readline().strip())
        return whole

    def _obey(self, word: str) -> None:
        if not word:
            raise SystemExit(0)
        if word == "reset":
            self._reset()
            say({})
        else:
            used = resource.getrusage(resource.RUSAGE_SELF)
            cpu_s = used.ru_utime + used.ru_stime - self._began_cpu_s
            say({"cpu_s": cpu_s, "reports": [asdict(group.report()) for group in self._groups]})

    def _reset(self) -> None:
        for group in self._groups:
            group.reset()
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._began_cpu_s = used.ru_utime + used.ru_stime


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def main(text: str) -> None:
    value = json.loads(text)
    value["groups"] = [Group(*group) for group in value["groups"]]
    crowd = Crowd(Settings(**value))
    crowd.wait_until_listed()
    say({})
    crowd.serve()


if __name__ == "__main__":
    main(sys.argv[1])
