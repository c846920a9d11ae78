"""The networks that clients of this server have asked about: made when first asked for, forgotten when idle."""

from __future__ import annotations

import asyncio

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
        self.turns = Turns()
        self._sweep()

    def network(self, name: str) -> Network:
        """`name` is "" for the unnamed one. Raises StoreRefused when clients ask about too many."""
        found = self._networks.get(name)
        if found is None:
            if len(self._networks) >= MOST:
                self._forget(PRESSED_S)
            if len(self._networks) >= MOST:
                raise StoreRefused(f"this server follows {MOST} networks already, and network {name} is not among them")
            found = self._networks[name] = Network(self._ledger, name, self.turns)
        found.follower.idle_since_s = self._loop.time()
        return found

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

    def _forget(self, idle_s: float) -> None:
        """Whoever asks for made-up names must not keep others out, nor those who wait be forgotten."""
        before_s = self._loop.time() - idle_s
        for name, network in list(self._networks.items()):
            if not network.follower.waiting and network.follower.idle_since_s < before_s:
                network.close()
                del self._networks[name]
