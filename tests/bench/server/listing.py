"""Ten thousand leases in one network, and how long and how much it takes to list them."""

from __future__ import annotations

import http.client
import json
import selectors
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.bench.server.stage import Stage
from tests.lab.etcd import Etcd, b64
from tests.lab.storehosts import PREFIX

NETWORK = "big"
LEASES = 10_000
TTL_S = 86400
GRANTERS = 8  # etcd's gateway answers one call at a time on a connection
_TOGETHER = 100  # puts of one transaction


def fill(stage: Stage, count: int) -> None:
    """`count` leases, each with an end of its own, written to the store behind the server's back."""
    if stage.file is not None:
        stage.file.put_leases(NETWORK, ((f"{base}-24", value) for base, value in _leases(count)))
    elif stage.etcd is not None:
        _fill_etcd(stage.etcd, count)


def _leases(count: int) -> Iterator[tuple[str, str]]:
    for number in range(count):
        high, low = divmod(number, 256)
        data = {"VNI": 1, "VtepMAC": f"02:00:00:00:{high:02x}:{low:02x}"}
        value = {"PublicIP": f"198.18.{high}.{low}", "BackendType": "vxlan", "BackendData": data}
        yield f"10.{64 + high}.{low}.0", json.dumps(value, separators=(",", ":"))


def _fill_etcd(etcd: Etcd, count: int) -> None:
    with ThreadPoolExecutor(GRANTERS) as pool:
        list(pool.map(lambda first: _grant(etcd, range(first, count, GRANTERS)), range(GRANTERS)))
    puts = [
        {
            "requestPut": {
                "key": b64(f"{PREFIX}/{NETWORK}/subnets/{base}-24"),
                "value": b64(value),
                "lease": str(1 + number),
            }
        }
        for number, (base, value) in enumerate(_leases(count))
    ]
    for at in range(0, count, _TOGETHER):
        etcd.call("/v3/kv/txn", {"success": puts[at : at + _TOGETHER]})


def _grant(etcd: Etcd, numbers: range) -> None:
    connection = http.client.HTTPConnection(etcd.host, etcd.members[0].ports[0], timeout=30)
    for number in numbers:
        connection.request("POST", "/v3/lease/grant", json.dumps({"ID": str(1 + number), "TTL": str(TTL_S)}))
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
    connection.close()


class Listed(NamedTuple):
    """`took_ms`: from sending to the last byte, of each client, sorted."""

    took_ms: list[float]
    bytes: int


def list_at_once(port: int, clients: int) -> Listed:
    """So many clients ask for the list at one time."""
    request = f"GET /v1/{NETWORK}/leases HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
    selector = selectors.DefaultSelector()
    had, want = dict.fromkeys(socks, 0), dict.fromkeys(socks, 0)
    began_s = time.monotonic()
    for sock in socks:
        selector.register(sock, selectors.EVENT_READ, sock)
        sock.send(request)
    took_ms: list[float] = []
    while len(took_ms) < clients:
        for key, _ in selector.select(60):
            ready: socket.socket = key.data
            data = ready.recv(1 << 20)
            assert data, "the server has closed a connection"
            if not want[ready]:
                head, _, _ = data.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 "), head
                want[ready] = len(head) + 4 + int(head.rpartition(b"Content-Length: ")[2].split()[0])
            had[ready] += len(data)
            if had[ready] == want[ready]:
                took_ms.append(1000 * (time.monotonic() - began_s))
                selector.unregister(ready)
                ready.close()
    selector.close()
    return Listed(took_ms, max(had.values()))
