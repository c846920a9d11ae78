"""A flanneld server as 0.7.1 and 0.5.5 were observed to answer (spec §6), for tests of the client, without extensions.

Its store is in memory. Quirks are kept: PUT writes over whatever stands and ends a reservation, the path's subnet does
not count, `removed` events have a zero lease (0.5.5: no attributes at all).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

NO_END = "0001-01-01T00:00:00Z"
MOST = 1000  # events that etcd v2 remembered
Lease = dict[str, Any]
NO_LEASE = {"Subnet": "0.0.0.0/0", "Attrs": {"PublicIP": "0.0.0.0"}, "Expiration": NO_END}


class Event(NamedTuple):
    index: int
    network: str | None  # None: about the list of networks
    subnet: str
    body: dict[str, Any]


class OldServer:
    """`version` is "0.7" or "0.5.5". `seen`: the requests so far, each `METHOD TARGET`. `skew_s`: its clock's lead."""

    def __init__(self, version: str = "0.7", skew_s: float = 0.0) -> None:
        self.version, self.skew_s = version, skew_s
        self.url = ""
        self.seen: list[str] = []
        self.configs: dict[str, str] = {}
        self.leases: dict[str, dict[str, dict[str, Any]]] = {}
        self.index = 10
        self.failing = ""  # an answer to everything: etcd is away
        self._events: list[Event] = []
        self._news = asyncio.Event()

    # -- the store, as others change it --------------------------------------------------------------------------

    def set_config(self, network: str, text: str | None) -> None:
        self.index += 1
        if text is None:
            self.configs.pop(network, None)
        else:
            self.configs[network] = text
        if network != "_":
            kind = "removed" if text is None else "added"
            self._tell(None, "", {"type": kind, "lease": NO_LEASE, "network": network})

    def set_lease(
        self, network: str, subnet: str, attrs: dict[str, Any], ttl_s: float | None = 86400
    ) -> dict[str, Any]:
        self.index += 1
        end = NO_END if ttl_s is None else _moment(time.time() + self.skew_s + ttl_s)
        lease = {"Subnet": subnet, "Attrs": attrs, "Expiration": end}
        self.leases.setdefault(network, {})[subnet] = lease
        self._tell(network, subnet, {"type": "added", "lease": lease})
        return lease

    def drop_lease(self, network: str, subnet: str) -> None:
        self.index += 1
        del self.leases[network][subnet]
        gone = {**NO_LEASE, "Subnet": subnet, **({"Attrs": None} if self.version == "0.5.5" else {})}
        self._tell(network, subnet, {"type": "removed", "lease": gone})

    def _tell(self, network: str | None, subnet: str, body: dict[str, Any]) -> None:
        self._events.append(Event(self.index, network, subnet, body))
        self._news.set()
        self._news = asyncio.Event()

    # -- HTTP ----------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                method, target, _ = head.split(" ", 2)
                length = next((int(line[15:]) for line in head.splitlines() if line.startswith("Content-Length")), 0)
                body = json.loads(await reader.readexactly(length) or b"null")
                self.seen.append(f"{method} {target}")
                writer.write(_rendered(*await self._answer(method, target, body), self.skew_s))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        url = urlsplit(target)
        cursor = parse_qs(url.query).get("next", [None])[0]
        parts = url.path.split("/")[2:]
        old = self.version == "0.5.5"
        if self.failing:
            return 500, self.failing
        match method, parts:
            case "GET", [network, "config"]:
                return self._config(network)
            case "GET", [network, "leases"]:
                return await self._watch(network, "", cursor)
            case "POST", [network, "leases"]:
                return self._take(network, body)
            case "PUT", [network, "leases", _]:
                return 200, self.set_lease(network, body["Subnet"], body["Attrs"])
            case "GET", [""] if not old:
                return await self._watch(None, "", cursor)
            case "GET", [network, "leases", key] if not old:
                return await self._watch(network, key.replace("-", "/"), cursor)
            case "DELETE", [network, "leases", key] if not old:
                return self._delete(network, key.replace("-", "/"))
            case "POST", [network, "reservations"] if not old:
                return self._reserve(network, body)
            case "DELETE", [network, "reservations", key] if not old:
                return self._unreserve(network, key.replace("-", "/"))
        return 404, "404 page not found\n"

    def _config(self, network: str) -> tuple[int, Any]:
        text = self.configs.get(network)
        if text is None:
            return 500, f"100: Key not found (/coreos.com/network/{network}) [{self.index}]"
        try:
            config = json.loads(text)
        except ValueError:
            return 500, "invalid character 'z' looking for beginning of value"
        base = config["Network"].rpartition(".")[0].rpartition(".")[0]
        return 200, {
            "Network": config["Network"], "SubnetMin": f"{base}.1.0", "SubnetMax": f"{base}.255.0", "SubnetLen": 24,
            **({"Backend": config["Backend"]} if "Backend" in config else {}),
        }  # fmt: skip

    def _take(self, network: str, attrs: dict[str, Any]) -> tuple[int, Any]:
        status, config = self._config(network)
        if status != 200:
            return status, config
        leases = self.leases.setdefault(network, {})
        for subnet, lease in leases.items():
            if lease["Attrs"]["PublicIP"] == attrs["PublicIP"]:
                return 200, self.set_lease(network, subnet, attrs, None if lease["Expiration"] == NO_END else 86400)
        base = config["SubnetMin"].rpartition(".")[0].rpartition(".")[0]
        for at in range(1, 256):
            if (subnet := f"{base}.{at}.0/24") not in leases:
                return 200, self.set_lease(network, subnet, attrs)
        return 500, "out of subnets"

    def _delete(self, network: str, subnet: str) -> tuple[int, Any]:
        if subnet not in self.leases.get(network, {}):
            return self._absent(network, subnet)
        self.drop_lease(network, subnet)
        return 200, None

    def _reserve(self, network: str, body: dict[str, Any]) -> tuple[int, Any]:
        there = self.leases.get(network, {}).get(body["Subnet"])
        if there is not None and there["Attrs"]["PublicIP"] != body["PublicIP"]:
            return 500, "internal error: subnet: lease already taken"
        self.set_lease(network, body["Subnet"], there["Attrs"] if there else {"PublicIP": body["PublicIP"]}, None)
        return 200, None

    def _unreserve(self, network: str, subnet: str) -> tuple[int, Any]:
        there = self.leases.get(network, {}).get(subnet)
        if there is None:
            return self._absent(network, subnet)
        self.set_lease(network, subnet, there["Attrs"])
        return 200, None

    def _absent(self, network: str, subnet: str) -> tuple[int, Any]:
        key = f"/coreos.com/network/{network}/subnets/{subnet.replace('/', '-')}"
        return 500, f"100: Key not found ({key}) [{self.index}]"

    async def _watch(self, network: str | None, subnet: str, cursor: str | None) -> tuple[int, Any]:
        while cursor is not None:
            oldest = self._events[-MOST].index if len(self._events) >= MOST else 0
            if int(cursor) < oldest:
                break
            for event in self._events:
                if event.index > int(cursor) and event.network == network and subnet in ("", event.subnet):
                    return 200, {"events": [event.body], "snapshot": None, "cursor": str(event.index)}
            await self._news.wait()
        if network is None:
            snapshot: list[Any] = sorted(name for name in self.configs if name != "_")
        elif subnet and subnet not in self.leases.get(network, {}):
            return self._absent(network, subnet)
        else:
            leases = self.leases.get(network, {})
            snapshot = [leases[subnet]] if subnet else list(leases.values())
        return 200, {"events": None, "snapshot": snapshot, "cursor": str(self.index)}


def _moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + f"{at_s % 1:.9f}"[1:] + "Z"


def _rendered(status: int, value: Any, skew_s: float) -> bytes:
    if isinstance(value, str):
        kind, body = "text/plain; charset=utf-8", value.encode()
    elif value is None:
        kind, body = "", b""
    else:
        kind, body = "application/json; charset=utf-8", json.dumps(value, separators=(",", ":")).encode() + b"\n"
    phrase = {200: "OK", 404: "Not Found", 500: "Internal Server Error"}[status]
    lines = [f"HTTP/1.1 {status} {phrase}", f"Date: {formatdate(time.time() + skew_s, usegmt=True)}",
             f"Content-Length: {len(body)}", *([f"Content-Type: {kind}"] if kind else [])]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def old_server(version: str = "0.7", *, skew_s: float = 0.0) -> AsyncIterator[OldServer]:
    """One on 127.0.0.1, for the length of a `with`."""
    there = OldServer(version, skew_s)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.get_running_loop().create_task(there.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    there.url = f"http://{host}:{port}"
    try:
        async with server:
            yield there
            for task in tasks:
                task.cancel()
    finally:
        await asyncio.gather(*tasks, return_exceptions=True)
