"""When a count of lost packets is worth a line in the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

STEP = 10  # a cause is said again when there are so many times more
ORDINARY = frozenset(
    {"out_sent", "in_delivered", "out_not_ipv4", "out_no_route", "out_ttl", "in_ttl"}
)  # a healthy network counts these too: the kernel's own IPv6 on the device, traceroute, a peer that has just left


class Tally:
    """Remembers what was said. `meanings`: each counter's name and its meaning, in the order of the counters."""

    def __init__(self, meanings: Iterable[tuple[str, str]]) -> None:
        lost = ("out_", "in_")
        self._meanings = {
            name: meaning
            for name, meaning in meanings
            if name.startswith(lost) and not name.endswith("_bytes") and name not in ORDINARY
        }
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
