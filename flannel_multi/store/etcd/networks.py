"""Which networks there are, and which come, change and go: the keys `<prefix>/NAME/config` whose name is valid.

A listing asks for keys without values, a thousand at a time, and leaps to the next folder where a page ends among a
network's leases. Every range request of etcd walks its index to the end of the range, whatever the limit, so few
requests are what is cheap: of 1,000 networks with 20 leases each 0.2 s (with limit 1, from folder to folder, 3 s),
with 100 leases each 1.3 s (8.5 s), and 20 networks with 10,000 leases each 0.4 s.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

from flannel_multi.model.errors import Compacted, StoreUnavailable
from flannel_multi.model.names import valid_name
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd.answers import BadAnswer, pair_of
from flannel_multi.store.etcd.events import Line
from flannel_multi.store.etcd.gateway import Gateway
from flannel_multi.store.etcd.pairs import PAGE, read_first
from flannel_multi.store.etcd.watching import Watch, follow
from flannel_multi.store.keys import Range, folder_range
from flannel_multi.store.protocol import NetworkChange, NetworkGone, NetworkList, NetworkWritten, Revision

TRIES = 3  # a listing whose revision is compacted between two pages begins anew


async def listed(gateway: Gateway, prefix: str, deadline: Deadline) -> NetworkList:
    """See `Ledger.networks`."""
    for _ in range(TRIES):
        try:
            return await _listed(gateway, _folder(prefix), deadline)
        except Compacted:
            continue
    raise StoreUnavailable(f"the listing of {prefix or '/'} was compacted away {TRIES} times while it was read")


async def _listed(gateway: Gateway, folder: bytes, deadline: Deadline) -> NetworkList:
    rest, names = folder_range(folder), []
    at: dict[str, str] = {}  # the revision of the first page, for those that follow
    while True:
        outcome = await read_first(gateway, rest, deadline=deadline, limit=str(PAGE), keys_only=True, **at)
        at = at or {"revision": str(outcome.header.revision)}
        page = outcome.pages[0]
        names += [name for pair in page.pairs if (name := network_of(folder, pair.key))]
        if not page.more or not page.pairs:
            return NetworkList(tuple(sorted(names)), Revision(outcome.header.cluster, int(at["revision"])))
        rest = Range(_next(folder, page.pairs[-1].key), rest.end)


def watch(gateway: Gateway, prefix: str, after: Revision) -> AsyncGenerator[NetworkChange, None]:
    """See `Ledger.watch_networks`. etcd tells every key under the prefix; it cannot choose by how a key ends."""
    return follow(_NetworksWatch(gateway, _folder(prefix), after))


def network_of(folder: bytes, key: bytes) -> str:
    """The named network whose config key `key` is, "" when it is none. `folder` ends with a slash."""
    name, slash, rest = key.removeprefix(folder).partition(b"/")
    if not key.startswith(folder) or slash + rest != b"/config" or not name.isascii():
        return ""
    return text if valid_name(text := name.decode("ascii")) else ""


class _NetworksWatch(Watch[NetworkChange]):
    def __init__(self, gateway: Gateway, folder: bytes, after: Revision) -> None:
        super().__init__(gateway, (folder_range(folder),), folder + b"config", after)
        self._folder = folder

    def read(self, line: Line) -> Iterator[NetworkChange]:
        for event in line.events:
            kv = event.get("kv")
            if type(kv) is not dict:
                raise BadAnswer("an event has no key")
            pair = pair_of(kv)
            self._settled = max(self._settled, pair.revision)
            if name := network_of(self._folder, pair.key):
                gone = event.get("type") in ("DELETE", 1)
                yield NetworkGone(name, pair.revision) if gone else NetworkWritten(name, pair.revision)


def _folder(prefix: str) -> bytes:
    return prefix.rstrip("/").encode() + b"/"


def _next(folder: bytes, key: bytes) -> bytes:
    """Where a listing goes on after `key`: behind the folder of its leases, in which no config can be."""
    name, slash, rest = key[len(folder) :].partition(b"/")
    if slash and rest.startswith(b"subnets/"):
        return folder_range(folder + name + b"/").end
    return key + b"\0"
