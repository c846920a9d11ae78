"""The path's process in C, with sanitizers whose first report ends it with a status that is not 0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.datapath.site import HERE
from tests.packets.building import SANITIZERS, WHOLE, build

WRAPPED = ("read", "writev", "sendmmsg", "recvmmsg")


def sanitized_runner(target: Path, sanitizers: str = SANITIZERS) -> Sequence[str]:
    """Builds runner.c; the command that starts it. Without randomized addresses: the thread sanitizer of clang 14 does
    not find its place among those of newer kernels."""
    wraps = [f"-Wl,--wrap={call}" for call in WRAPPED]
    return ("setarch", "-R", str(build(HERE / "runner.c", target, WHOLE, *wraps, sanitizers=sanitizers)))
