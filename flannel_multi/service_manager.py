"""What the service manager is told: readiness (single-network mode alone), one status line, and the watchdog's beat.

Multi-network mode never says READY=1: flannel's README promises that (flannel behaviour §5.7).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from sdnotify import SystemdNotifier

from flannel_multi.model.messages import Phase
from flannel_multi.supervisor.core import Worker

STATUS_CHARACTERS = 1000  # systemctl shows one line


class Notifier:
    """Messages to $NOTIFY_SOCKET, never waited for; without that variable every call does nothing."""

    def __init__(self, *, watchdog_s: float | None) -> None:
        self._notifier = SystemdNotifier()
        self.on = self._notifier.socket is not None
        if self.on:
            self._notifier.socket.setblocking(False)
        self.beat_s = watchdog_s / 2 if watchdog_s is not None else None
        self._status = ""

    def ready(self) -> None:
        self._notifier.notify("READY=1")

    def watchdog(self) -> None:
        self._notifier.notify("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Sent when it differs from the last one."""
        if self.on and text != self._status:
            self._status = text
            self._notifier.notify(f"STATUS={text}")


def watchdog_s(environ: Mapping[str, str]) -> float | None:
    """The service manager's watchdog in seconds, None when it asks for none of this process (sd_watchdog_enabled)."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1_000_000


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
