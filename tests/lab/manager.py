"""The service manager's end of sd_notify(3): a datagram socket that keeps what it was told."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab.world import LabError


class Manager:
    """Give `environ` to the daemon; `told` is every message so far, in order."""

    def __init__(self, path: Path, *, watchdog_s: float | None = None) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.setblocking(False)
        self._told: list[str] = []
        self.environ = {"NOTIFY_SOCKET": str(path)}
        if watchdog_s is not None:
            self.environ["WATCHDOG_USEC"] = str(int(watchdog_s * 1_000_000))

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *exception: object) -> None:
        self._sock.close()

    @property
    def told(self) -> list[str]:
        while select.select([self._sock], [], [], 0)[0]:
            self._told.append(self._sock.recv(65536).decode())
        return self._told

    def wait(self, wanted: Callable[[str], bool], what: str, *, after: int = 0, timeout_s: float = 10.0) -> str:
        """The first message from place `after` on that is `wanted`. Raises LabError that names `what`."""
        end_s = time.monotonic() + timeout_s
        while True:
            for message in self.told[after:]:
                if wanted(message):
                    return message
            left_s = end_s - time.monotonic()
            if left_s <= 0 or not select.select([self._sock], [], [], left_s)[0]:
                raise LabError(f"not told within {timeout_s:g} s: {what}; told: {self.told[after:]}")
