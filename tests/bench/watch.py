"""The kernel's own word on when something is in it: rtnetlink notifications, read as they come."""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass

from tests.lab.netns import inside
from tests.lab.world import LabError

GROUPS = 1 << 2 | 1 << 6  # RTNLGRP_NEIGH (FDB entries too), RTNLGRP_IPV4_ROUTE; linux/rtnetlink.h
NEW_ROUTE, NEW_NEIGHBOUR = 24, 28
SO_RCVBUFFORCE = 33
_HEADER = struct.Struct("=LHHLL")


class Notifications:
    """A socket inside a namespace that hears of each new route and neighbour."""

    def __init__(self, netns: str) -> None:
        self.sock = inside(netns, self._open)

    @staticmethod
    def _open() -> socket.socket:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        sock.bind((0, GROUPS))
        return sock

    def close(self) -> None:
        self.sock.close()

    def drain(self) -> None:
        """Forgets what is there."""
        self.sock.setblocking(False)
        try:
            while self.sock.recv(65536):
                pass
        except BlockingIOError:
            self.sock.setblocking(True)

    def wait_route(self, timeout_s: float = 5.0) -> float:
        """Monotonic time of the next new route. Raises LabError."""
        self.sock.settimeout(timeout_s)
        try:
            while True:
                data = self.sock.recv(65536)
                if _HEADER.unpack_from(data)[1] == NEW_ROUTE:
                    return time.monotonic()
        except TimeoutError:
            raise LabError(f"no new route within {timeout_s:g} s") from None


@dataclass
class Tally:
    """How many of each came, and when the last did (monotonic seconds)."""

    routes: int = 0
    neighbours: int = 0
    last_s: float = 0.0


class Counter:
    """Counts in a thread of its own until `stop`."""

    def __init__(self, netns: str) -> None:
        self._notifications = Notifications(netns)
        self._tally = Tally()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> Tally:
        self._stopping = True
        self._thread.join()
        self._notifications.close()
        return self._tally

    def _run(self) -> None:
        sock, tally = self._notifications.sock, self._tally
        sock.settimeout(0.1)
        while True:
            try:
                data = sock.recv(65536)
            except TimeoutError:
                if self._stopping:
                    return
                continue
            kind = _HEADER.unpack_from(data)[1]
            if kind == NEW_ROUTE:
                tally.routes += 1
            elif kind == NEW_NEIGHBOUR:
                tally.neighbours += 1
            else:
                continue
            tally.last_s = time.monotonic()
