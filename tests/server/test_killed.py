"""What a server has acknowledged is in the store: through a kill amid ten thousand writes, and a full disk."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab.server import Answer, Asking, Server
from tests.lab.small_disk import on_small_disk
from tests.lab.store_file import StoreFile
from tests.server.pollers import NETWORK, Store, store_of

WRITERS = 8
WRITES = 10_000  # of all writers together
KILLED_AT = 4_000
AFTERWARDS = 400  # writes once it is back: over etcd the thousands that were left would take ten seconds
STANDING = 25  # hosts of one writer, that write again and again
NEWCOMER = 20  # every so many writes a new host comes
LEASES = f"/v1/{NETWORK}/leases"


@pytest.fixture(params=["etcd", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with store_of(request.param, tmp_path) as made:
        yield made


class Tally:
    """How many writes were acknowledged. `reached` is set at `mark`."""

    def __init__(self, mark: int) -> None:
        self.count, self.reached = 0, threading.Event()
        self._mark, self._lock = mark, threading.Lock()

    def add(self) -> None:
        with self._lock:
            self.count += 1
            if self.count == self._mark:
                self.reached.set()


class Writer:
    """Hosts that take leases and write them again over one connection, write after write: number N bears N in its
    BackendData. A run ends when the connection breaks; the next one begins with the write that was cut."""

    def __init__(self, number: int, server: Server, tally: Tally) -> None:
        self.subnets: dict[str, str] = {}  # of each host, as acknowledged
        self.acked: dict[str, int] = {}
        self.sent: dict[str, int] = {}
        self.faults: list[str] = []
        self._number, self._server, self._tally = number, server, tally
        self._next = 0

    def run(self, writes: int) -> None:
        end = self._next + writes
        connection = http.client.HTTPConnection(self._server.host, self._server.port, timeout=20)
        try:
            while self._next < end:
                self._write(connection)
                self._next += 1
                self._tally.add()
        except (OSError, http.client.HTTPException):
            pass  # the server was killed
        except AssertionError as fault:
            self.faults.append(str(fault))
        finally:
            connection.close()

    def _write(self, connection: http.client.HTTPConnection) -> None:
        at = self._next
        host_at = at % STANDING if at % NEWCOMER else STANDING + at // NEWCOMER
        host = f"198.18.{self._number}.{host_at}"
        attrs = {"PublicIP": host, "BackendType": "vxlan", "BackendData": {"VNI": at}}
        self.sent[host] = at
        if (subnet := self.subnets.get(host)) is None:
            connection.request("POST", LEASES, json.dumps(attrs))
        else:
            body = json.dumps({"Subnet": subnet, "Attrs": attrs})
            connection.request("PUT", f"{LEASES}/{subnet.replace('/', '-')}", body)
        reply = connection.getresponse()
        said = reply.read()
        assert reply.status == 200, f"{host}: {reply.status} {said!r}"
        lease = json.loads(said)
        assert lease["Attrs"] == attrs
        assert subnet in (None, lease["Subnet"])
        self.subnets[host], self.acked[host] = lease["Subnet"], at


def test_a_server_killed_in_the_middle_of_writes_keeps_all_it_acknowledged_and_goes_on(store: Store) -> None:
    tally = Tally(KILLED_AT)
    with store.server() as server:
        writers = [Writer(number, server, tally) for number in range(WRITERS)]
        threads = started(writers, WRITES)
        assert tally.reached.wait(30), f"{tally.count} writes in 30 s: {faults(writers)} {server.log[-2000:]}"
        server.kill()
        join(threads)
        assert not faults(writers)
        assert KILLED_AT <= tally.count < WRITES, "it was killed when all was done"

        server.start()
        check(writers, held(server))
        before = tally.count
        join(started(writers, AFTERWARDS))
        assert not faults(writers)
        assert tally.count == before + AFTERWARDS
        found = held(server)
    for writer in writers:
        assert writer.acked == writer.sent
        assert all(found[host] == (writer.subnets[host], at) for host, at in writer.acked.items())
    assert len(found) == sum(len(writer.acked) for writer in writers)


def check(writers: Sequence[Writer], found: dict[str, tuple[str, int]]) -> None:
    """Every host has what was acknowledged to it last, or the one write that it had sent after that."""
    unknown = set(found)
    for writer in writers:
        unknown -= set(writer.sent)
        for host, at in writer.acked.items():
            assert host in found, f"{host}: lost its lease {writer.subnets[host]}"
            subnet, value = found[host]
            assert subnet == writer.subnets[host]
            assert value in (at, writer.sent[host]), f"{host} was told {at}, and the store has {value}"
    assert not unknown


def held(server: Server) -> dict[str, tuple[str, int]]:
    """Subnet and number of each host; a host has one lease, and a lease one host."""
    leases = json.loads(server.ask("GET", LEASES).body)["snapshot"]
    found = {lease["Attrs"]["PublicIP"]: (lease["Subnet"], lease["Attrs"]["BackendData"]["VNI"]) for lease in leases}
    assert len(found) == len(leases), "a host has two leases"
    assert len({subnet for subnet, _ in found.values()}) == len(leases), "a lease is there twice"
    return found


def started(writers: Sequence[Writer], writes: int) -> list[threading.Thread]:
    """`writes` are those of all together."""
    threads = [threading.Thread(target=writer.run, args=(writes // WRITERS,), daemon=True) for writer in writers]
    for thread in threads:
        thread.start()
    return threads


def join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a writer hangs"


def faults(writers: Sequence[Writer]) -> list[str]:
    return [fault for writer in writers for fault in writer.faults]


BLOB_BYTES = 8000


def test_a_server_on_a_full_disk_says_so_reads_on_and_writes_again_once_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()

    def story() -> None:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(200 << 10))
        there = StoreFile(disk / "store.db")
        there.put_config(NETWORK, b'{"Network":"10.50.0.0/16"}')
        with Server(there.url, tmp_path) as server:  # its log is on the other disk
            pid = server.pid
            acked = fill(server)
            assert len(acked) > 3
            assert blobs(server) == acked
            cursor = json.loads(server.ask("GET", LEASES).body)["cursor"]
            waiting = Asking(server, f"{LEASES}?next={cursor}")
            for _ in range(3):
                refused = put(server, 200)
                assert refused.status == 500
                assert f"no space left for store file {there.path}: free some in {disk}" in refused.body.decode()
                assert "writing goes on once there is room" in refused.body.decode()
            assert waiting.waits
            assert blobs(server) == acked
            assert server.ask("GET", f"/v1/{NETWORK}/config").status == 200

            ballast.unlink()
            assert put(server, 200).status == 200
            acked["10.50.200.0/24"] = "x" * BLOB_BYTES
            assert json.loads(waiting.answer().body)["events"][0]["lease"]["Subnet"] == "10.50.200.0/24"
            assert blobs(server) == acked
            assert server.pid == pid
            assert server.process is not None
            assert server.process.poll() is None
            server.kill()
            server.start()
            assert blobs(server) == acked

    on_small_disk(disk, 800, story)


def fill(server: Server) -> dict[str, str]:
    """Puts leases until one is refused; BackendData of those that were acknowledged."""
    acked: dict[str, str] = {}
    for number in range(1, 200):
        answer = put(server, number)
        if answer.status != 200:
            assert answer.status == 500, answer
            return acked
        acked[f"10.50.{number}.0/24"] = "x" * BLOB_BYTES
    raise AssertionError("the disk did not become full")


def put(server: Server, number: int) -> Answer:
    attrs = {"PublicIP": f"198.18.0.{number}", "BackendType": "alloc", "BackendData": "x" * BLOB_BYTES}
    body = json.dumps({"Subnet": f"10.50.{number}.0/24", "Attrs": attrs})
    return server.ask("PUT", f"{LEASES}/10.50.{number}.0-24", body)


def blobs(server: Server) -> dict[str, str]:
    answer = server.ask("GET", LEASES)
    assert answer.status == 200, answer
    return {lease["Subnet"]: lease["Attrs"]["BackendData"] for lease in json.loads(answer.body)["snapshot"]}
