"""The one door to lease stores. tests/store/contract.py defines it; every implementation passes it. No code here.

Every call ends within its deadline or raises StoreUnavailable; nothing retries inside, the caller owns backoff.
`network` is "" for the unnamed network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet


class Revision(NamedTuple):
    """A point in one store's history. Numbers of two clusters do not compare."""

    cluster: str
    number: int


@dataclass(frozen=True)
class Snapshot:
    """All of one network at `revision`. `config` is the raw value of the config key, None when absent.

    `skipped` holds one line for each key or value under `subnets/` that is no lease (poison), bounded in number.
    `restored` is True when the store is another cluster than `known`, or older than it: what is missing from it is
    unknown, not removed (spec §0).
    """

    revision: Revision
    config: bytes | None
    leases: Mapping[Subnet, LeaseRecord]
    skipped: tuple[str, ...] = ()
    restored: bool = False


@dataclass(frozen=True)
class Known:
    """What the caller holds already: lets `snapshot` ask the store for the difference only."""

    revision: Revision
    leases: Mapping[Subnet, LeaseRecord] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfigWritten:
    """The config key was written; `config` is its raw value. None: the key was deleted (a delete event)."""

    config: bytes | None
    revision: int


@dataclass(frozen=True)
class LeaseWritten:
    record: LeaseRecord


@dataclass(frozen=True)
class LeaseGone:
    """Deleted or expired."""

    subnet: Subnet
    revision: int


@dataclass(frozen=True)
class Skipped:
    """A key or value that is no lease of ours; `text` is one line for the log. If a known lease's value turned
    bad, a LeaseGone comes before it."""

    text: str


Change = ConfigWritten | LeaseWritten | LeaseGone | Skipped


class Lease(NamedTuple):
    """The own lease. `ttl_s`: seconds it lives from now, None for a reservation."""

    record: LeaseRecord
    ttl_s: int | None


class LeaseStore(Protocol):
    """Where configs and leases live."""

    async def snapshot(self, network: str, *, known: Known | None = None, timeout_s: float = 5.0) -> Snapshot:
        """Config and all leases, true at one revision. Raises StoreUnavailable, StoreRefused.

        With `known` only the difference crosses the network where the store can; the result is whole all the same.
        """

    def watch(self, network: str, *, after: Revision) -> AsyncIterator[Change]:
        """Every change after `after`, in order, without gap, until it raises: Compacted (take a snapshot),
        StoreUnavailable (silent for 10 s, or the connection ended), StoreRefused. Closing the iterator ends it."""

    async def acquire(
        self,
        network: str,
        config: NetworkConfig,
        attrs: LeaseAttrs,
        *,
        prefer: Subnet | None,
        first: Snapshot | None = None,
        timeout_s: float = 5.0,
    ) -> Lease:
        """The own lease (found by public IP, renewed, attributes brought up to date), or a new one.

        `first` serves as the listing of the first round. Deletes leases of this public IP that no longer fit.
        Raises NoSubnetLeft, StoreUnavailable, StoreRefused. A reservation stays without TTL.
        """

    async def renew(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> Lease:
        """Prolongs what is still ours, writing no key. Raises LeaseLost, and has then changed nothing."""

    async def publish(self, network: str, lease: Lease, attrs: LeaseAttrs, *, timeout_s: float = 5.0) -> Lease:
        """New attributes in the own key, by transaction on its revision. Raises LeaseLost when it is not ours."""

    async def release(self, network: str, lease: Lease, *, timeout_s: float = 5.0) -> None:
        """Gives the own lease back, if the key is still ours. A reservation stays."""

    async def close(self) -> None:
        """Ends every connection."""
