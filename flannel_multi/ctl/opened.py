"""A store as a command meets it: the ledger, what it is called, and how long one request may take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flannel_multi.ctl.outcome import NOT_FOUND, Refused
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.options.values import StoreOptions
from flannel_multi.store.opening import described
from flannel_multi.store.protocol import Ledger, Snapshot

A_CALL = 100  # leases whose ends are asked for in one call: etcd's ledger looks at no more


@dataclass(frozen=True)
class Opened:
    ledger: Ledger
    options: StoreOptions
    timeout_s: float

    async def snapshot(self, network: str) -> Snapshot:
        return await self.ledger.snapshot(network, timeout_s=self.timeout_s)

    async def learn(self, records: Iterable[LeaseRecord]) -> None:
        """Asks for the ends of all `records`; what the store cannot tell stays unknown."""
        unknown = self.ledger.expiries.unknown(records)
        for at in range(0, len(unknown), A_CALL):
            await self.ledger.learn_expiries(unknown[at : at + A_CALL], timeout_s=self.timeout_s)

    def absent(self, network: str) -> Refused:
        """For a network without a config."""
        return Refused(f"no such network: {described(self.options, network)} does not exist", NOT_FOUND)
