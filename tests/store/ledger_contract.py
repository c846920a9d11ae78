"""The definition of a ledger: what every implementation passes, on top of the contract of a lease store.

Both classes hold that contract too: an implementation's test module subclasses one of them, and no other, and fills in
the hooks of `contract.py` and `ledger_hooks.py`.
"""

from __future__ import annotations

from tests.store.ledger_configs import ConfigsContract
from tests.store.ledger_leases import LeasesContract
from tests.store.ledger_replay import HistoryContract
from tests.store.ledger_reservations import ReservationsContract


class LedgerContract(ConfigsContract, LeasesContract, ReservationsContract):
    """All but `replay`: for a store that no server serves from, and so need not tell its history."""


class ReplayContract(LedgerContract, HistoryContract):
    """The whole of it."""
