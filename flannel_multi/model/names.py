"""Names of networks (spec §0)."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z", re.ASCII)
RESERVED = frozenset(("config", "subnets", "all", "_"))


def valid_name(name: str) -> bool:
    """True when a network may be called so."""
    return name not in RESERVED and NAME.match(name) is not None
