"""Brings the kernel to what is wanted, keeps watch over it, and shows the host. The one door to netlink.

One task at a time may ask and order; `next_event` may wait beside it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from flannel_multi import log
from flannel_multi.model.errors import Conflict, KernelRefused
from flannel_worker.kernel import device, linkwire, snapshot, sysctls, tundevice, wire
from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.events import Drift, Event, HostChanged, Judge
from flannel_worker.kernel.frame import Buffer
from flannel_worker.kernel.host import HostRoute, HostView
from flannel_worker.kernel.objects import RT_PROTOCOL, Key, LinkState, Scope, Sysctl, TunLink, VxlanLink
from flannel_worker.kernel.plan import Change, Drop, Put, displaced, key_of, plan, plan_keys, plan_missing
from flannel_worker.kernel.refusal import GONE, object_refused
from flannel_worker.kernel.requests import Refusal, Requests
from flannel_worker.kernel.seen import read_routes
from flannel_worker.kernel.tundevice import Tun
from flannel_worker.kernel.wanted import Wanted
from flannel_worker.kernel.watch import Watch

__all__ = ["Drift", "HostChanged", "Outcome", "Reconciler"]
_T = TypeVar("_T")


class Outcome(NamedTuple):
    """What came of it: `sent` changes, what the kernel refused, and how many changes were `postponed` because only what
    is missing was to be added."""

    sent: int
    refused: tuple[KernelRefused, ...]
    postponed: int = 0


class Reconciler:
    """Made by `open`, in the network namespace that it serves and inside a running loop."""

    def __init__(self, requests: Requests, judge: Judge, watch: Watch) -> None:
        self._requests = requests
        self._judge = judge
        self._watch = watch
        self._nexthops: bool | None = None
        self._swept: tuple[object, ...] = ()

    @classmethod
    def open(cls) -> Reconciler:
        """Raises OSError when there is no netlink here."""
        requests = Requests()
        try:
            judge = Judge()
            return cls(requests, judge, Watch(judge, requests.port))
        except BaseException:
            requests.close()
            raise

    def close(self) -> None:
        self._watch.close()
        self._requests.close()

    # -- the host ----------------------------------------------------------------------------------------------------

    async def host(self) -> HostView:
        """Links, addresses and foreign routes of the main table, now. Raises KernelRefused."""
        view = HostView(
            tuple(snapshot.dump(self._requests, k.RTM_GETLINK, linkwire.ask_links(), linkwire.read_links)),
            tuple(snapshot.dump(self._requests, k.RTM_GETADDR, linkwire.ask_addresses(), snapshot.read_addresses)),
            tuple(snapshot.dump(self._requests, k.RTM_GETROUTE, wire.ask_routes(), _read_host_routes)),
        )
        self._judge.saw(view)
        return view

    async def next_event(self) -> Event:
        """Waits until something changed that matters here: Drift, or HostChanged."""
        return await self._watch.next_event()

    def tell(self, event: Event) -> None:
        """Something happened that netlink does not tell: `next_event` will."""
        self._watch.hear(event)

    # -- the device --------------------------------------------------------------------------------------------------

    async def link(self, name: str) -> LinkState | None:
        """The link of that name, whosever it is; None if there is none. Raises KernelRefused."""
        seen = device.look(self._requests, name)
        return seen.state() if seen is not None else None

    async def ensure_link(self, spec: VxlanLink) -> LinkState:
        """The device as `spec` asks for it, up: the one that is there if it fits.

        Raises KernelRefused; Conflict, when a device that is not ours is in the way. Nothing was touched then, and its
        end will be a HostChanged.
        """
        own = self._judge.device
        held = own.ifindex if own is not None else 0
        state = self._build(lambda: device.ensure(self._requests, spec, held=held))
        self._own(state)
        return state

    async def ensure_tun(self, spec: TunLink, held: int | None) -> Tun:
        """The TUN as `spec` asks for it, up and persistent: that of the descriptor `held`, or the one of our mark, or a
        new one, and then with a descriptor that is the caller's.

        Raises KernelRefused; Occupied while another program has our device open.
        """
        made = self._build(lambda: tundevice.ensure(self._requests, spec, held))
        self._own(made.link)
        return made

    async def tun(self, spec: TunLink) -> LinkState | None:
        """The TUN that bears the mark of `spec`, or is in use; None if there is none. Raises KernelRefused."""
        own = self._judge.device
        there = tundevice.find(self._requests, spec, held=own.ifindex if own is not None else 0)
        return await self.link(there.name) if there is not None else None

    def _build(self, make: Callable[[], _T]) -> _T:
        """What `make` returns; the events of its own device meanwhile are the echo of our orders."""
        self._watch.drain()  # what others did before is judged as theirs
        self._judge.building = True
        try:
            made = make()
            self._watch.drain()
        except Conflict:
            self._own(None)
            raise
        finally:
            self._judge.building = False
        return made

    async def remove_link(self, name: str) -> None:
        """Removes the link of that name, which the caller knows for its own. Raises KernelRefused, unless it is gone
        already."""
        own = self._judge.device
        if own is not None and own.name == name:
            self._own(None)
        device.remove(self._requests, name)

    def _own(self, link: LinkState | None) -> None:
        if link != self._judge.device:
            self._judge.device = link
            self._watch.narrow()

    async def nexthops_supported(self) -> bool:
        """True when the kernel has nexthop objects (5.3 and later)."""
        if self._nexthops is None:
            answer = self._requests.get(k.RTM_GETNEXTHOP, wire.ask_nexthop(1))
            self._nexthops = not isinstance(answer, Refusal) or answer.errno == errno.ENOENT
        return self._nexthops

    # -- everything else ---------------------------------------------------------------------------------------------

    async def ensure(self, wanted: Wanted, scope: Scope, *, add_only: bool = False) -> Outcome:
        """Compares all of `scope` with the kernel and sends what differs. Raises KernelRefused if it cannot look.

        `add_only`: what is wanted may be older than what stands, so nothing is replaced or dropped yet.
        """
        judge, want = self._judge, wanted.objects()
        judge.wanted, judge.scope = want, scope
        self._watch.narrow()
        place = (scope.device, scope.uplink, scope.within)
        sweep, judge.sweep = judge.sweep or place != self._swept, False
        intruders, judge.intruders = judge.intruders, {}
        try:
            nexthops = await self.nexthops_supported()
            seen = await snapshot.take(self._requests, want, scope, sweep=sweep, nexthops=nexthops)
        except KernelRefused:
            judge.sweep, judge.intruders = judge.sweep or sweep, intruders | judge.intruders
            raise
        self._swept = place
        strangers = (item for item in intruders if item != want.get(key_of(item)))
        extra = dict.fromkeys((*seen.extra, *strangers))
        changes = plan(want, seen.have, extra)
        postponed = 0
        if add_only:
            judge.intruders = intruders | judge.intruders
            missing = plan_missing(want, seen.have)
            changes, postponed = missing, len(changes) - len(missing)
        for line in displaced(changes, seen.have):
            log.warning(line)
        refusals, sent = await self._apply(changes)
        return Outcome(sent, refusals, postponed)

    async def update(self, wanted: Wanted, keys: Iterable[Key]) -> Outcome:
        """Sends what `wanted` says about `keys`, without a look at what exists. Raises KernelRefused when it gets no
        answer; what was refused is in the outcome."""
        self._judge.wanted = want = wanted.objects()
        refusals, sent = await self._apply(plan_keys(want, keys))
        return Outcome(sent, refusals)

    async def _apply(self, changes: Sequence[Change]) -> tuple[tuple[KernelRefused, ...], int]:
        refusals: list[KernelRefused] = []
        orders: list[Change] = []
        for change in changes:
            match change:
                case Put(Sysctl() as setting):
                    if (refusal := sysctls.write(setting)) is not None:
                        refusals.append(self._refused(change, refusal))
                case Drop(Sysctl()):
                    pass
                case _:
                    orders.append(change)
        answers = await self._requests.apply(map(_text, orders), after=self._watch.drain)
        for place, refusal in answers.items():
            if not (isinstance(orders[place], Drop) and refusal.errno in GONE):
                refusals.append(self._refused(orders[place], refusal))
        return tuple(refusals), len(changes)

    def _refused(self, change: Change, refusal: Refusal) -> KernelRefused:
        return object_refused(change.object, refusal, self._judge.name_of, drop=isinstance(change, Drop))


def _text(change: Change) -> Callable[[int], bytes]:
    """The message of a change, for a sequence number."""
    return partial(wire.put if isinstance(change, Put) else wire.drop, change.object)


def _read_host_routes(data: Buffer) -> list[HostRoute]:
    return [
        HostRoute(seen.dst, seen.length, seen.link, seen.gateway, seen.protocol, seen.kind, seen.metric, seen.prefsrc)
        for seen in read_routes(data)
        if seen.protocol != RT_PROTOCOL and seen.table == k.RT_TABLE_MAIN
    ]
