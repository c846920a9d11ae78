"""When a count of lost packets is worth a line in the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

STEP = 10  # a cause is said again when there are so many times more
ORDINARY = frozenset(
    {"out_sent", "in_delivered", "out_not_ipv4", "out_no_route", "out_ttl", "in_ttl"}
)  # a healthy network counts these too: the kernel's own IPv6 on the device, traceroute, a peer that has just left


def losses(meanings: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the user path's counters that tell of lost packets which people should hear of."""
    return [
        (name, meaning)
        for name, meaning in meanings
        if name.startswith(("out_", "in_")) and not name.endswith("_bytes") and name not in ORDINARY
    ]


class Tally:
    """Remembers what was said. `losses`: the name and the meaning of each counter that counts."""

    def __init__(self, losses: Iterable[tuple[str, str]]) -> None:
        self._meanings = dict(losses)
        self._said: dict[str, int] = {}

    def lines(self, counters: Mapping[str, int]) -> list[str]:
        """One for each cause that is new, or has grown tenfold since it was said."""
        lines = []
        for name, meaning in self._meanings.items():
            count = counters.get(name, 0)
            if count and count >= STEP * self._said.get(name, 0):
                self._said[name] = count
                lines.append(f"data path lost {count} packets so far: {meaning} ({name})")
        return lines
