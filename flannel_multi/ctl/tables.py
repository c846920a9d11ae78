"""Tables and spans of time for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flannel_multi.options.told import one_line
from flannel_multi.store.expiries import NEVER

GAP = "  "


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need to be; the last one may be of any length. What a store holds was written by
    strangers, so control characters become escapes: no cell can forge a line or move the cursor."""
    lines = [list(header), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    return "\n".join(
        GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def span(seconds: int) -> str:
    """Two units at most: `23h 12m`, `4m 10s`, `12s`."""
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    if minutes:
        return f"{minutes}m {seconds % 60}s" if seconds % 60 else f"{minutes}m"
    return f"{seconds}s"


def ends(end_s: int | None, now_s: float) -> str:
    """When a lease ends; `end_s` as `Expiries.of` gives it."""
    if end_s is None:
        return "unknown"
    if end_s == NEVER:
        return "reservation"
    return f"in {span(max(0, int(end_s - now_s)))}"
