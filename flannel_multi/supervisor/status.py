"""The workers in one line, for the service manager."""

from __future__ import annotations

from collections.abc import Iterable

from flannel_multi.model.messages import Phase
from flannel_multi.supervisor.core import Worker

STATUS_CHARACTERS = 1000  # systemctl shows one line


def status_line(workers: Iterable[Worker]) -> str:
    """For example `blue ready, green backoff 8 s, red waiting-for-config`."""
    parts: list[str] = []
    length = 0
    rest = 0
    for worker in workers:
        part = _word(worker)
        if length + len(part) > STATUS_CHARACTERS:
            rest += 1
            continue
        length += len(part) + 2
        parts.append(part)
    if rest:
        parts.append(f"and {rest} more")
    return ", ".join(parts)


def _word(worker: Worker) -> str:
    phase = worker.phase.value
    if worker.phase is Phase.BACKOFF and worker.wake_at_s is not None and worker.wake_at_s > worker.since_s:
        phase += f" {worker.wake_at_s - worker.since_s:.0f} s"
    return f"{worker.name} {phase}" if worker.name else phase
