"""The store as one transaction sees it: rows in and out, the revision, what has ended. Decides nothing about leases."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from flannel_multi.store.protocol import Revision
from flannel_multi.store.sqlite.clock import Clock, Reading, jump_s

HISTORY = 100_000  # changes kept at least; a hundredth more are pruned together
WALL_NOTED_S = 30.0  # the clocks are written down this often, if nothing else is written

_ROW = "value, lease_id, expires_at, revision"


class Row(NamedTuple):
    """One lease key. `expires_at`: Unix time, None for a reservation."""

    name: bytes
    value: bytes
    lease_id: int
    expires_at: float | None
    revision: int


class HistoryRow(NamedTuple):
    """One change. `name` None: of the config; `value` None: deleted; `ends_in_s`: seconds from then until the lease
    ends, if it still stands as this change left it."""

    revision: int
    network: bytes
    name: bytes | None
    value: bytes | None
    lease_id: int
    ends_in_s: float | None


class Tables:
    """Within a transaction that is open. `now_s`: the Unix time by which leases end in it."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._sql = connection.execute
        cluster, number, floor, boot, ahead_s, wall_s = self._sql(
            "SELECT cluster, revision, floor, boot, ahead_s, wall_s FROM meta"
        ).fetchone()
        self.cluster: str = cluster.decode()
        self.floor: int = floor
        self._written: int = number
        self.number: int = self._written  # of the last change
        self._noted = Reading(boot.decode(), ahead_s, wall_s)
        self._clock = clock.read()
        self._jump_s = jump_s(self._noted, self._clock)
        self.now_s = self._clock.wall_s - self._jump_s  # on the clock that the ends were written by

    @property
    def revision(self) -> Revision:
        return Revision(self.cluster, self.number)

    # -- reading -------------------------------------------------------------------------------------------------

    def config(self, network: bytes) -> bytes | None:
        row = self._sql("SELECT value FROM configs WHERE network = CAST(? AS TEXT)", (network,)).fetchone()
        return row[0] if row else None

    def networks(self) -> list[bytes]:
        """Those with a config, in order."""
        return [network for (network,) in self._sql("SELECT network FROM configs ORDER BY network")]

    def lease(self, network: bytes, name: bytes) -> Row | None:
        row = self._sql(
            f"SELECT name, {_ROW} FROM leases WHERE network = CAST(? AS TEXT) AND name = CAST(? AS TEXT) "
            "AND (expires_at IS NULL OR expires_at > ?)",
            (network, name, self.now_s),
        ).fetchone()
        return Row(*row) if row else None

    def leases(self, network: bytes) -> Iterator[Row]:
        """All that has not ended."""
        rows = self._sql(
            f"SELECT name, {_ROW} FROM leases WHERE network = CAST(? AS TEXT) "
            "AND (expires_at IS NULL OR expires_at > ?)",
            (network, self.now_s),
        )
        return map(Row._make, rows)

    def ends(self) -> Iterator[tuple[int, float]]:
        """Every lease that has an end, by its id."""
        yield from self._sql("SELECT lease_id, expires_at FROM leases WHERE expires_at > ?", (self.now_s,))

    def ended(self, network: bytes) -> list[bytes]:
        """Names of what has ended and still stands."""
        return [name for at, name in self._ended() if at == network]

    def next_end_s(self) -> float | None:
        """Seconds until the next lease ends; 0.0 or less if one has. None: none has an end."""
        end_s: float | None = self._sql("SELECT min(expires_at) FROM leases WHERE expires_at > 0").fetchone()[0]
        return None if end_s is None else end_s - self.now_s

    def history(self, after: int, network: bytes | None, limit: int) -> list[HistoryRow]:
        """The first `limit` changes after revision `after`: of one network, or of all (None)."""
        where, more = ("", ()) if network is None else ("AND h.network = CAST(? AS TEXT)", (network,))
        rows = self._sql(
            "SELECT h.revision, h.network, h.name, h.value, h.lease_id, l.expires_at - ? FROM history h "
            "LEFT JOIN leases l ON l.network = h.network AND l.name = h.name AND l.revision = h.revision "
            f"WHERE h.revision > ? {where} ORDER BY h.revision LIMIT ?",
            (self.now_s, after, *more, limit),
        )
        return [HistoryRow(*row) for row in rows]

    # -- writing -------------------------------------------------------------------------------------------------

    def due(self) -> bool:
        """True when a lease has ended that still stands, or the clock was set: `settle` has something to do."""
        if self._jump_s:
            return True
        next_s = self.next_end_s()
        return next_s is not None and next_s <= 0

    def settle(self) -> None:
        """Deletes what has ended; moves every end with the clock when that was set."""
        for network, name in self._ended():
            self.delete_lease(network, name)
        if self._jump_s:
            self._sql("UPDATE leases SET expires_at = expires_at + ? WHERE expires_at IS NOT NULL", (self._jump_s,))
            self.now_s, self._jump_s = self._clock.wall_s, 0.0

    def put_config(self, network: bytes, value: bytes) -> int:
        number = self._change(network, None, value, 0)
        self._sql("INSERT OR REPLACE INTO configs VALUES (CAST(? AS TEXT), ?, ?)", (network, value, number))
        return number

    def delete_config(self, network: bytes) -> int:
        self._sql("DELETE FROM configs WHERE network = CAST(? AS TEXT)", (network,))
        return self._change(network, None, None, 0)

    def put_lease(self, network: bytes, row: Row) -> Row:
        """As written: with its revision, whatever the one in `row`."""
        number = self._change(network, row.name, row.value, row.lease_id)
        row = row._replace(revision=number)
        self._sql(
            "INSERT OR REPLACE INTO leases VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?)", (network, *row)
        )
        return row

    def delete_lease(self, network: bytes, name: bytes) -> int:
        self._sql("DELETE FROM leases WHERE network = CAST(? AS TEXT) AND name = CAST(? AS TEXT)", (network, name))
        return self._change(network, name, None, 0)

    def prolong(self, network: bytes, name: bytes, ttl_s: int) -> None:
        """Moves the end alone: no change of the key, no revision."""
        self._sql(
            "UPDATE leases SET expires_at = ? WHERE network = CAST(? AS TEXT) AND name = CAST(? AS TEXT)",
            (self.now_s + ttl_s, network, name),
        )

    def finish(self, history: int = HISTORY) -> bool:
        """Last in a transaction that wrote: the revision, the clocks, the `history` that is kept. True: it changed."""
        changed = self.number != self._written
        if self.number - self.floor > history + history // 100:
            self.floor = self.number - history
            self._sql("DELETE FROM history WHERE revision <= ?", (self.floor,))
        if changed or self._clock.boot != self._noted.boot or self._drifted():
            self._sql(
                "UPDATE meta SET revision = ?, floor = ?, boot = ?, ahead_s = ?, wall_s = ?",
                (self.number, self.floor, *self._clock),
            )
        return changed

    def _ended(self) -> list[tuple[bytes, bytes]]:
        return self._sql("SELECT network, name FROM leases WHERE expires_at <= ?", (self.now_s,)).fetchall()

    def _drifted(self) -> bool:
        before, now = self._noted, self._clock
        return abs(now.ahead_s - before.ahead_s) > 1.0 or not 0 <= now.wall_s - before.wall_s < WALL_NOTED_S

    def _change(self, network: bytes, name: bytes | None, value: bytes | None, lease_id: int) -> int:
        self.number += 1
        self._sql(
            "INSERT INTO history VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)",
            (self.number, network, name, value, lease_id),
        )
        return self.number
