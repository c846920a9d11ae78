"""The one door to lease stores. tests/store/contract.py defines it; every implementation passes it. No code here.

`LeaseStore` is what a worker needs of its own network, `Ledger` what a server and flannelctl need of all of them.
Every call ends within its deadline or raises StoreUnavailable; nothing retries inside, the caller owns backoff.
`network` is "" for the unnamed network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.expiries import Expiries
from flannel_multi.store.keys import NetworkKeys


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
    """What the caller holds already: lets `snapshot` ask the store for the difference only. `doubt`: the store was away
    since, and may have been replaced by an older state whose numbers have caught up: every key is compared."""

    revision: Revision
    leases: Mapping[Subnet, LeaseRecord] = field(default_factory=dict)
    doubt: bool = False


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


class ConfigRead(NamedTuple):
    """The raw value of a network's config key, None when it is absent, and where in the store's history."""

    config: bytes | None
    revision: Revision


class NetworkList(NamedTuple):
    """Named networks that have a config, sorted. The unnamed network is never among them (spec §6.6)."""

    names: tuple[str, ...]
    revision: Revision


class NetworkWritten(NamedTuple):
    """The config of a named network was written, for the first time or again."""

    name: str
    revision: int


class NetworkGone(NamedTuple):
    """The config key of a named network was deleted."""

    name: str
    revision: int


NetworkChange = NetworkWritten | NetworkGone


class Ledger(LeaseStore, Protocol):
    """All networks of a store: their configs, leases and reservations. A store keeps no state that another process
    with the same options would not find again, but for `expiries`, which is a cache."""

    expiries: Expiries

    def keys(self, network: str) -> NetworkKeys:
        """Where the network's keys are, as errors and log lines name them."""

    async def read_config(self, network: str, *, timeout_s: float = 5.0) -> ConfigRead:
        """Raises StoreUnavailable, StoreRefused."""

    async def write_config(self, network: str, raw: bytes, *, timeout_s: float = 5.0) -> int:
        """Writes the value as it is, and returns the revision of the write. Raises StoreUnavailable, StoreRefused."""

    async def delete_config(self, network: str, *, timeout_s: float = 5.0) -> int:
        """Deletes the config key; leases stay. Raises KeyAbsent, StoreUnavailable, StoreRefused."""

    async def networks(self, *, timeout_s: float = 5.0) -> NetworkList:
        """Raises StoreUnavailable, StoreRefused."""

    def watch_networks(self, *, after: Revision) -> AsyncIterator[NetworkChange]:
        """Every change after `after`, in order, until it raises as `watch` does."""

    async def replay(self, network: str, *, after: int, upto: Snapshot, timeout_s: float = 5.0) -> list[Change]:
        """What happened to leases after revision `after` and up to `upto`, of the same history, in order; of a
        subnet that changed more than once in it, the last change at least. Raises Compacted when that is
        forgotten, StoreUnavailable, StoreRefused."""

    async def grant(
        self,
        network: str,
        config: NetworkConfig,
        attrs: LeaseAttrs,
        *,
        first: Snapshot | None = None,
        timeout_s: float = 5.0,
    ) -> Lease:
        """As `acquire`, but the key is written even when nothing in it changes, so that watchers see it (spec §6.4)."""

    async def put_lease(
        self,
        network: str,
        subnet: Subnet,
        attrs: LeaseAttrs,
        *,
        replaces: int | None = None,
        ttl_s: int | None = LEASE_TTL_S,
        timeout_s: float = 5.0,
    ) -> Lease:
        """Writes the lease of `subnet`, to end in LEASE_TTL_S seconds. One that stands stays on its etcd lease if that
        is of so many seconds (and on none, a reservation), by transaction on its revision; one that is absent is
        created, to end in `ttl_s` seconds (None: a reservation). Raises LeaseHeld when it stands with a public IP
        that is neither the one of `attrs` nor `replaces`, and has then changed nothing; StoreUnavailable,
        StoreRefused."""

    async def revoke(self, network: str, subnet: Subnet, *, holder: int | None = None, timeout_s: float = 5.0) -> int:
        """Deletes the lease or reservation; its revision. Raises KeyAbsent; LeaseHeld when it has a public IP other
        than `holder`, if that is given; StoreUnavailable, StoreRefused."""

    async def reserve(self, network: str, subnet: Subnet, public_ip: int, *, timeout_s: float = 5.0) -> LeaseRecord:
        """A key without end for `subnet`: created, or the lease of the same public IP loses its end and keeps its
        attributes. Raises LeaseHeld, StoreUnavailable, StoreRefused. Checks nothing else (see `reserving.py`)."""

    async def unreserve(self, network: str, subnet: Subnet, *, timeout_s: float = 5.0) -> LeaseRecord:
        """Gives the key an end in LEASE_TTL_S seconds (anew if it has one); its attributes stay. Raises KeyAbsent,
        StoreUnavailable, StoreRefused."""

    async def learn_expiries(self, records: Iterable[LeaseRecord], *, timeout_s: float = 5.0) -> None:
        """Asks for the ends of those `records` that `expiries` does not know. What cannot be had stays unknown.
        Raises StoreUnavailable, StoreRefused."""
