"""What the service manager is told: readiness, one status line, and the watchdog's beat."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sdnotify import SystemdNotifier


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
