"""The subscribed netlink socket: wakes once for a burst, hears nothing that the filter can tell is nobody's news."""

from __future__ import annotations

import asyncio
import errno
import socket

from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.events import Drift, Event, HostChanged, Judge
from flannel_worker.kernel.requests import grow_receive_buffer, receive_buffer
from flannel_worker.kernel.socketfilter import attach, event_filter

QUIET_S = 0.05  # between two wake-ups: a burst of a thousand events is judged in twenty turns, not a thousand
_BUFFER_BYTES = 4 * 1024 * 1024  # five thousand events
GROUPS = (
    k.RTNLGRP_LINK,
    k.RTNLGRP_NEIGH,  # neighbours and forwarding entries
    k.RTNLGRP_IPV4_IFADDR,
    k.RTNLGRP_IPV4_ROUTE,
    k.RTNLGRP_NEXTHOP,
)


class Watch:
    """Hears events and keeps the one that matters most until `next_event` takes it. Drift outranks a changed host:
    who repairs looks at the host again anyway."""

    def __init__(self, judge: Judge, port: int) -> None:
        """`port` is the socket whose orders are our own. Needs a running loop."""
        self._judge = judge
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._buffer = receive_buffer()
        self._pending: Event | None = None
        self._news = asyncio.Event()
        self._rest: asyncio.TimerHandle | None = None
        self._filtered: bytes = b""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        try:
            grow_receive_buffer(self._socket, _BUFFER_BYTES)
            self.narrow()
            self._socket.bind((0, 0))
            self._subscribe()
            self._loop.add_reader(self._socket.fileno(), self._readable)
        except BaseException:
            self._socket.close()
            raise

    def _subscribe(self) -> None:
        for group in GROUPS:
            try:
                self._socket.setsockopt(k.SOL_NETLINK, k.NETLINK_ADD_MEMBERSHIP, group)
            except OSError as error:
                if group != k.RTNLGRP_NEXTHOP or error.errno != errno.EINVAL:  # a kernel without nexthop objects
                    raise

    def narrow(self) -> None:
        """Lets through what can matter to the judge as it stands; call it when device or scope changed."""
        device = self._judge.device
        program = event_filter(self._port, device.ifindex if device is not None else 0, self._judge.scope)
        if program != self._filtered:
            attach(self._socket, program)
            self._filtered = program

    def close(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    async def next_event(self) -> Event:
        await self._news.wait()
        self._news.clear()
        event, self._pending = self._pending, None
        assert event is not None
        return event

    def drain(self) -> None:
        """Judges all that has come in so far."""
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._judge.sweep = True
                self.hear(Drift("events lost (too many at once)"))
                continue
            for event in self._judge.judge(self._buffer[:size]):
                self.hear(event)

    def _readable(self) -> None:
        """Takes everything at once, then looks away for a moment."""
        self._loop.remove_reader(self._socket.fileno())
        self._rest = self._loop.call_later(QUIET_S, self._look_again)
        self.drain()

    def _look_again(self) -> None:
        self._rest = None
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def hear(self, event: Event) -> None:
        """Keeps it for `next_event`, unless one that matters more waits already."""
        if self._pending is None or _weight(event) > _weight(self._pending):
            self._pending = event
        self._news.set()


def _weight(event: Event) -> int:
    match event:
        case HostChanged():
            return 0
        case Drift(_, cause):
            return 2 if cause else 1
