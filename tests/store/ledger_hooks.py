"""What the parts of the ledger's contract share: hooks, names, and two looks at a ledger."""

from __future__ import annotations

import itertools
from contextlib import AbstractAsyncContextManager
from time import time

import pytest

from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.expiries import NEVER
from flannel_multi.store.protocol import Ledger
from tests.store.contract import LeaseStoreContract

_numbers = itertools.count()
FIVE = Subnet.parse("10.1.5.0/24")
SIX = Subnet.parse("10.1.6.0/24")
ONE, TWO = "192.0.2.1", "192.0.2.2"
SLACK_S = 3  # two clocks of whole seconds, and a busy machine


def ends_in(ledger: Ledger, record: LeaseRecord, ttl_s: int) -> bool:
    """True when the ledger knows that `record` ends `ttl_s` seconds from now."""
    end_s = ledger.expiries.of(record)
    return end_s is not None and end_s != NEVER and abs(end_s - time() - ttl_s) <= SLACK_S


async def lease_of(ledger: Ledger, network: str, subnet: Subnet) -> LeaseRecord | None:
    """The lease as anybody reads it."""
    return (await ledger.snapshot(network)).leases.get(subnet)


class LedgerHooks(LeaseStoreContract):
    """Beside the hooks of LeaseStoreContract. Network "" is the unnamed one in all of them."""

    def open(self) -> AbstractAsyncContextManager[Ledger]:
        """A ledger with nothing known."""
        raise NotImplementedError

    def compact(self) -> None:
        """Makes the store forget its history up to now."""
        raise NotImplementedError

    @pytest.fixture
    def fresh(self) -> str:
        """A name that no test has used, without a config."""
        return f"ledger{next(_numbers)}"
