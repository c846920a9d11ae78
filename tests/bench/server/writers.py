"""Lease events at a steady rate: hosts that renew by PUT through the server, as flannel's clients do."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

THREADS = 8
HOSTS = 200  # leases of a network that take turns


class Told(NamedTuple):
    """What was written. `counts` and `sums` by network: of events, and of their sequence numbers."""

    counts: Counter[str]
    sums: Counter[str]
    took_ms: list[float]  # from sending a PUT to its answer
    lasted_s: float


class Writers:
    """Writes `rate` events a second for `seconds`, over `networks` by turns."""

    def __init__(self, port: int, networks: Sequence[str], rate: float, seconds: float) -> None:
        self._port, self._networks, self._rate = port, networks, rate
        self._total = int(rate * seconds)
        self._told = Told(Counter(), Counter(), [], 0.0)
        self._lock = threading.Lock()
        self._next = 0
        self._faults: list[Exception] = []

    def run(self) -> Told:
        """Returns when the last write is answered. Raises what a writer raised."""
        began_s = time.monotonic()
        threads = [threading.Thread(target=self._write, args=(began_s,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._faults:
            raise self._faults[0]
        return self._told._replace(lasted_s=time.monotonic() - began_s)

    def _write(self, began_s: float) -> None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            while (number := self._take()) is not None:
                due_s = began_s + number / self._rate - time.monotonic()
                if due_s > 0:
                    threading.Event().wait(due_s)
                put(connection, self._networks[number % len(self._networks)], number, self._told, self._lock)
            connection.close()
        except Exception as error:  # noqa: BLE001  raised again by `run`
            self._faults.append(error)

    def _take(self) -> int | None:
        with self._lock:
            number, self._next = self._next, self._next + 1
        return number if number < self._total else None


def put(connection: http.client.HTTPConnection, network: str, number: int, told: Told, lock: threading.Lock) -> None:
    """One renewal, whose event bears its number and the time."""
    host = number % HOSTS
    path, subnet = f"/v1/{network}/leases/10.7.{host}.0-24", f"10.7.{host}.0/24"
    sent_s = time.monotonic()
    data = {"Seq": number, "SentUs": int(sent_s * 1e6)}
    attrs = {"PublicIP": f"198.18.0.{host}", "BackendType": "vxlan", "BackendData": data}
    connection.request("PUT", path, json.dumps({"Subnet": subnet, "Attrs": attrs}))
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, f"{path}: {answer.status} {body!r}"
    with lock:
        told.counts[network] += 1
        told.sums[network] += number
        told.took_ms.append(1000 * (time.monotonic() - sent_s))
