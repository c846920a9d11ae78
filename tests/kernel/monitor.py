"""A second pair of eyes: every route event of the namespace, whoever caused it, read with pyroute2."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from pyroute2.netlink.rtnl.rtmsg import rtmsg

RTMGRP_IPV4_ROUTE = 0x40
RTM_DELROUTE = 25


class Monitor:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def deleted(self) -> list[str]:
        """Destinations of all deletions from the main table since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                message = rtmsg(self._socket.recv(65536))
                message.decode()
                if message["header"]["type"] == RTM_DELROUTE and message["table"] == 254:
                    found.append(_destination(message))
        return found


def _destination(message: Any) -> str:
    return f"{message.get_attr('RTA_DST')}/{message['dst_len']}"


@contextlib.contextmanager
def route_monitor() -> Iterator[Monitor]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0) as sock:
        sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        sock.bind((0, RTMGRP_IPV4_ROUTE))
        yield Monitor(sock)
