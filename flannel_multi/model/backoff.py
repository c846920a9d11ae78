"""How long to wait before the next attempt: exponential, capped, with full jitter."""

from __future__ import annotations


def next_backoff_s(failures: int, *, floor_s: float = 0.5, cap_s: float = 60.0, jitter: float) -> float:
    """Seconds to wait after failure number `failures` (1 = first). `jitter` in [0, 1) is drawn by the caller."""
    ceiling = min(cap_s, floor_s * 2.0 ** min(max(failures - 1, 0), 32))
    return floor_s + (ceiling - floor_s) * jitter
