"""Long-poll clients that come back, and a store that is written to behind the servers' backs."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.lab.etcd import Etcd
from tests.lab.server import Server
from tests.lab.store_file import StoreFile
from tests.lab.storehosts import PREFIX, config_key

NETWORK = "blue"
CONFIG = '{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"alloc"}}'
PATIENCE_S = 30.0
COME_BACK_S = 0.05  # flannel's own clients wait a second
Told = tuple[str, str]  # type of the event, subnet


class Store:
    """One kind of store, that servers are started over and that tests write to themselves."""

    def __init__(self, folder: Path, etcd: Etcd | None) -> None:
        self._folder, self.etcd = folder, etcd
        self._file = None if etcd else StoreFile(folder / "store.db")
        self._lease = etcd.grant(3600) if etcd else 0
        if self._file is not None:
            self._file.put_config(NETWORK, CONFIG.encode())
        elif etcd is not None:
            etcd.put(config_key(NETWORK), CONFIG)

    def server(self, name: str = "server") -> Server:
        """Not started yet."""
        if self.etcd is None:
            return Server(f"sqlite://{self._folder / 'store.db'}", self._folder, name=name)
        return Server("etcd", self._folder, flags=[f"--etcd-endpoints={self.etcd.url}"], name=name)

    def write(self, number: int) -> Told:
        """The lease of host `number`, who has one subnet."""
        high, low = divmod(number, 256)
        value = json.dumps({"PublicIP": f"198.18.{high}.{low}", "BackendType": "alloc"})
        key = f"10.{high}.{low}.0-24"
        if self.etcd is not None:
            self.etcd.put(f"{PREFIX}/{NETWORK}/subnets/{key}", value, lease=self._lease)
        elif self._file is not None:
            self._file.put_lease(NETWORK, key, value)
        return "added", f"10.{high}.{low}.0/24"

    def delete(self, number: int) -> Told:
        high, low = divmod(number, 256)
        key = f"10.{high}.{low}.0-24"
        if self.etcd is not None:
            self.etcd.delete(f"{PREFIX}/{NETWORK}/subnets/{key}")
        elif self._file is not None:
            self._file.delete_lease(NETWORK, key)
        return "removed", f"10.{high}.{low}.0/24"

    def forget(self) -> None:
        """All history up to now."""
        if self.etcd is not None:
            self.etcd.compact()
        elif self._file is not None:
            self._file.forget()


@contextmanager
def store_of(kind: str, folder: Path) -> Iterator[Store]:
    if kind == "sqlite":
        yield Store(folder, None)
        return
    with Etcd(folder) as etcd:
        yield Store(folder, etcd)


class Poller:
    """A client that holds what it was told. It asks one of `servers` at random each time, on a new connection when that
    is another one than before, and comes back with its cursor whatever happens."""

    def __init__(self, servers: Sequence[Server], query: str = "", seed: int = 0) -> None:
        self.events: list[Told] = []
        self.snapshots: list[list[str]] = []  # subnets of each
        self.cursor = -1
        self.news = asyncio.Event()
        self._servers, self._query = servers, query
        self._dice = random.Random(seed)
        self._open: tuple[Server, asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        while True:
            try:
                await self.ask()
            except (OSError, EOFError):
                self.close()
                await asyncio.sleep(COME_BACK_S)

    async def ask(self) -> None:
        """One question, and what the answer tells. Raises OSError, EOFError."""
        next_ = f"?next={self.cursor}{self._query}" if self.cursor >= 0 else ""
        body = json.loads(await self._answer(f"/v1/{NETWORK}/leases{next_}"))
        self.cursor = int(body["cursor"])
        if body["events"]:
            self.events += [(event["type"], event["lease"]["Subnet"]) for event in body["events"]]
        else:
            self.snapshots.append([lease["Subnet"] for lease in body["snapshot"]])
        self.news.set()

    async def has(self, *, events: int = 0, snapshots: int = 0) -> None:
        """Returns when it was told so many."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.events) < events or len(self.snapshots) < snapshots:
                self.news.clear()
                await self.news.wait()

    def close(self) -> None:
        if self._open is not None:
            self._open[2].close()
            self._open = None

    async def _answer(self, target: str) -> bytes:
        server = self._dice.choice(self._servers)
        if self._open is None or self._open[0] is not server:
            self.close()
            self._open = server, *await asyncio.open_connection(server.host, server.port)
        _, reader, writer = self._open
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
        if not head.startswith(b"HTTP/1.1 200 "):
            raise OSError(f"{target}: {head.splitlines()[0]!r} {body!r}")
        return body


@asynccontextmanager
async def polling(servers: Sequence[Server], count: int, query: str = "") -> AsyncIterator[list[Poller]]:
    """`count` clients that have listed and wait for news."""
    pollers = [Poller(servers, query, seed) for seed in range(count)]
    await asyncio.gather(*(poller.ask() for poller in pollers))
    tasks = [asyncio.create_task(poller.run()) for poller in pollers]
    try:
        yield pollers
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for poller in pollers:
            poller.close()
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(90.0):
            await story()

    asyncio.run(main())
