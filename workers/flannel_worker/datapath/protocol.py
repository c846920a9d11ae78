"""What a data path is: it moves packets between a TUN and a UDP socket by itself; Python tells it of peers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Peer(NamedTuple):
    """One row of the peer table: `base`/`length` lies behind the host at `address` (32-bit ints)."""

    base: int
    length: int
    address: int


class PeerCounters(NamedTuple):
    """What went to and came from one peer since its row was made: inner packets and their bytes."""

    base: int
    length: int
    sent_packets: int
    sent_bytes: int
    received_packets: int
    received_bytes: int


class Datapath(Protocol):
    """Packets flow from the first `swap` until `close`; no call waits for a packet."""

    def resumed(self) -> bool:
        """True when packets flow before any `swap`, by the table of the worker before: newer than any on a disk."""

    def swap(self, peers: Iterable[Peer]) -> None:
        """Replaces the peer table while packets flow. Raises OSError without memory."""

    def counters(self) -> dict[str, int]:
        """Packets by what became of them, and the rest; `meanings` explains the names."""

    def meanings(self) -> tuple[tuple[str, str], ...]:
        """Each counter's name, and what it counts."""

    def peer_counters(self) -> list[PeerCounters]:
        """For each peer of the table."""

    def features(self) -> tuple[str, ...]:
        """The offloads that are on, for the log."""

    def failed(self) -> int:
        """The errno that ended the path by itself, 0 while it runs."""

    def event_fd(self) -> int:
        """Readable once `failed` is not 0."""

    def close(self) -> None:
        """Stops. The descriptors stay open: they are the caller's."""
