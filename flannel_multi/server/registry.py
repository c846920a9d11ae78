"""The networks that clients of this server have asked about: made when first asked for, forgotten when idle."""

from __future__ import annotations

import asyncio
import secrets

from flannel_multi import log
from flannel_multi.model.errors import FlannelError, StoreRefused
from flannel_multi.server.network import Network
from flannel_multi.server.turns import Turns
from flannel_multi.store.protocol import Ledger

MOST = 2000  # networks, each perhaps with a watch of the store: clients may name any
CLUSTER_S = 2.0  # the store's name is believed for so long
IDLE_S = 60.0  # after which one that nobody waits for is forgotten
PRESSED_S = 6.0  # the same when there is no room for another; longer than any request but a long poll takes


class Registry:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._networks: dict[str, Network] = {}
        self._loop = asyncio.get_running_loop()
        self._cluster, self._cluster_until_s = "", 0.0
        self._history = ""
        self.turns = Turns()
        self._sweep()

    def network(self, name: str) -> Network:
        """`name` is "" for the unnamed one. Raises StoreRefused when clients ask about too many."""
        found = self._networks.get(name)
        if found is None:
            if len(self._networks) >= MOST:
                self._forget(PRESSED_S)
                self._dismiss()
            if len(self._networks) >= MOST:
                raise StoreRefused(f"this server follows {MOST} networks already, and network {name} is not among them")
            found = self._networks[name] = Network(self._ledger, name, self.turns, self._store_replaced)
        found.follower.idle_since_s = self._loop.time()
        return found

    def label(self, cluster: str) -> str:
        """The store's name for clients: another one once its data was seen to be replaced. A restored etcd may keep its
        name, and its revisions soon reach those of before; a client must not take them for a sequel."""
        return f"{cluster}{self._history}" if cluster else ""

    def _store_replaced(self) -> None:
        self._history = f"-{secrets.token_hex(4)}"
        log.warning("the store's data was replaced by an older state: clients are told to list again")

    async def cluster(self) -> str:
        """Which store it is, for answers to writes. Asked for now and then: a restored one has another name."""
        if self._loop.time() >= self._cluster_until_s:
            self._cluster = (await self._ledger.read_config("")).revision.cluster
            self._cluster_until_s = self._loop.time() + CLUSTER_S
        return self._cluster

    async def known_cluster(self) -> str:
        """The same, "" while the store does not answer."""
        try:
            return await self.cluster()
        except FlannelError:
            return ""

    def close(self) -> None:
        self._timer.cancel()
        for network in self._networks.values():
            network.close()

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(IDLE_S, self._sweep)
        self._forget(IDLE_S)

    def _dismiss(self) -> None:
        """Whoever waits for made-up names must not keep others out."""
        for name, network in list(self._networks.items()):
            if not network.exists:
                network.dismiss()
                del self._networks[name]

    def _forget(self, idle_s: float) -> None:
        """Those that nobody waits for."""
        before_s = self._loop.time() - idle_s
        for name, network in list(self._networks.items()):
            if not network.follower.waiting and network.follower.idle_since_s < before_s:
                network.close()
                del self._networks[name]
