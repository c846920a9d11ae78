"""What an event of the kernel means for one network: drift, a changed host, or nothing.

Pure: an event is judged against what is wanted and what was last seen of the host. Own orders come back here too
(forwarding entries do not say who asked), and mean nothing because they agree with what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.frame import Buffer, messages
from flannel_worker.kernel.host import HostAddress, HostLink, HostView
from flannel_worker.kernel.linkwire import parse_address, parse_link
from flannel_worker.kernel.objects import (
    RT_PROTOCOL,
    Address,
    FdbEntry,
    KernelObject,
    Key,
    LinkState,
    Neighbour,
    Nexthop,
    Route,
    Scope,
)
from flannel_worker.kernel.refusal import describe
from flannel_worker.kernel.seen import parse_entry, parse_nexthop, parse_route
from flannel_worker.kernel.snapshot import as_route, holds, left_by_flannel, nexthop_range, uses_uplink


class Drift(NamedTuple):
    """Somebody else changed something of ours. `text` says what, as a person would.

    `cause`: a link or an address, whose change takes other objects with it, so the better line to show.
    """

    text: str
    cause: bool = False


class HostChanged(NamedTuple):
    """Links, addresses or foreign routes changed."""

    text: str = ""


Event = Drift | HostChanged
_AFTER_FLANNEL = frozenset(".0123456789")
_DELETED, _CHANGED, _APPEARED = "deleted", "changed", "appeared"


def is_sibling(name: str) -> bool:
    """True for the name of another network's device, as the filter knows them: flannel and then a dot or a digit."""
    return name.startswith("flannel") and name[7:8] in _AFTER_FLANNEL


class Judge:
    """Knows what is wanted and what the host looked like; `judge` says what a datagram of events means.

    `device` is the own link as it was last made, None before; while `building` its own events are the echo of our
    orders. `intruders` collects routes of others that took a wanted place, `sweep` is set when something with our
    mark showed up off our device: the next snapshot has to look for it.
    """

    def __init__(self) -> None:
        self.device: LinkState | None = None
        self.building = False
        self.wanted: Mapping[Key, KernelObject] = {}
        self.scope: Scope | None = None
        self.intruders: dict[Route, None] = {}  # an ordered set
        self.sweep = False
        self._links: dict[int, HostLink] | None = None
        self._addresses: set[HostAddress] = set()

    def saw(self, view: HostView) -> None:
        """The host as it is now: what later events are compared with."""
        self._links = {link.ifindex: link for link in view.links}
        self._addresses = set(view.addresses)

    def name_of(self, ifindex: int) -> str:
        if self.device is not None and self.device.ifindex == ifindex:
            return self.device.name
        link = (self._links or {}).get(ifindex)
        return link.name if link is not None else f"interface {ifindex}"

    def judge(self, data: Buffer) -> Iterator[Event]:
        for message in messages(data):
            judge = _JUDGES.get(message.kind)
            if judge is not None:
                verdict = judge(self, data, message.start, message.end, message.kind)
                if verdict is not None:
                    yield verdict

    def _is_own(self, ifindex: int) -> bool:
        return self.device is not None and ifindex == self.device.ifindex

    def _is_used_uplink(self, ifindex: int) -> bool:
        return self.scope is not None and ifindex == self.scope.uplink and uses_uplink(self.scope)

    # -- links and addresses -----------------------------------------------------------------------------------------

    def _link(self, data: Buffer, start: int, end: int, kind: int) -> Event | None:
        seen = parse_link(data, start, end)
        if seen is None:
            return None
        gone = kind == k.RTM_DELLINK
        if self._is_own(seen.ifindex):
            return None if self.building else self._own_link(seen.state(), gone)
        return self._host_link(seen.host_link(), gone)

    def _own_link(self, seen: LinkState, gone: bool) -> Drift | None:
        assert self.device is not None
        if gone:
            return Drift(f"link {self.device.name} {_DELETED}", cause=True)
        for what, now, before in zip(LinkState._fields, seen, self.device, strict=True):
            if now != before:
                shown = now.hex(":") if isinstance(now, bytes) else now
                return Drift(f"link {self.device.name} {_CHANGED}: {what} is {shown}", cause=True)
        return None

    def _host_link(self, seen: HostLink, gone: bool) -> Event | None:
        """A link without address matters to nobody (containers come and go by the thousand), except that it may have
        stood in the way of a device of our own."""
        if self._links is None:
            return HostChanged(f"link {seen.name}")
        before = self._links.pop(seen.ifindex, None)
        if not gone:
            self._links[seen.ifindex] = seen
        if before == seen and not gone:
            return None
        verb = _DELETED if gone else _CHANGED if before is not None else _APPEARED
        if self._is_used_uplink(seen.ifindex) and (gone or before is None or before.up != seen.up):
            return Drift(f"link {seen.name} {verb}", cause=True)  # its routes vanish without a word
        on_it = {address for address in self._addresses if address.link == seen.ifindex}
        if gone:
            self._addresses -= on_it
        if self.device is None:
            matters = bool(on_it) or ((gone or before is not None) and _may_rival(before or seen))
        else:
            matters = bool(on_it) and not is_sibling(seen.name)
        return HostChanged(f"link {seen.name} {verb}") if matters else None

    def _address(self, data: Buffer, start: int, end: int, kind: int) -> Event | None:
        seen = parse_address(data, start, end)
        if seen is None:
            return None
        gone = kind == k.RTM_DELADDR
        item = Address(*seen[:3])
        if self._is_own(seen.link):
            if self.building:
                return None
            wanted = (Address, *item) in self.wanted
            if gone and wanted:
                return self._drift(item, _DELETED)
            inside = self.scope is not None and holds(self.scope, seen.address)
            return self._drift(item, _APPEARED) if not gone and not wanted and inside else None
        twin = seen._replace(deprecated=not seen.deprecated)
        if not gone and seen in self._addresses:  # a lifetime was prolonged
            return None
        self._addresses -= {seen, twin}
        if not gone:
            self._addresses.add(seen)
        verb = _DELETED if gone else _APPEARED
        if self._is_used_uplink(seen.link):
            return self._drift(item, verb)  # with its last address a link loses all routes, without a word
        return HostChanged(f"{describe(item, self.name_of)} {verb}")

    # -- routes, nexthops, neighbours, forwarding entries ------------------------------------------------------------

    def _route(self, data: Buffer, start: int, end: int, kind: int) -> Event | None:
        seen = parse_route(data, start, end)
        if seen is None or seen.table != k.RT_TABLE_MAIN:
            return None
        gone = kind == k.RTM_DELROUTE
        want = self.wanted.get((Route, seen.dst, seen.length))
        item = as_route(seen, want)
        simple = not (seen.metric or seen.tos)
        if isinstance(want, Route) and simple:
            if gone:
                return self._drift(item, _DELETED) if item == want else HostChanged()
            if item == want:
                return None
            self.intruders[item] = None
            return self._drift(item, _APPEARED)
        scope = self.scope
        if scope is None:
            return None if seen.protocol == RT_PROTOCOL else HostChanged()
        if scope.device and seen.link == scope.device:
            return self._drift(item, _APPEARED) if simple and not gone else None
        marked = seen.protocol == RT_PROTOCOL and holds(scope, seen.dst)
        if simple and not gone and (marked or left_by_flannel(seen, scope)):
            self.sweep = True
            return self._drift(item, _APPEARED)
        return None if seen.protocol == RT_PROTOCOL else HostChanged(f"{describe(item, self.name_of)} {_CHANGED}")

    def _entry(self, data: Buffer, start: int, end: int, kind: int) -> Event | None:
        neighbour = parse_entry(data, start, end, k.AF_INET)
        entry = neighbour or parse_entry(data, start, end, k.AF_BRIDGE)
        if entry is None or self.building or not self._is_own(entry.link):
            return None
        permanent = bool(entry.state & k.NUD_PERMANENT)
        item: KernelObject
        if neighbour is not None:
            item = Neighbour(entry.link, entry.dst, entry.mac if permanent else b"")
            want = self.wanted.get((Neighbour, entry.link, entry.dst))
        else:
            item = FdbEntry(entry.link, entry.mac, entry.dst if permanent and entry.plain else 0)
            want = self.wanted.get((FdbEntry, entry.link, entry.mac))
        return self._against(item, want, gone=kind == k.RTM_DELNEIGH, ours=permanent)

    def _nexthop(self, data: Buffer, start: int, end: int, kind: int) -> Event | None:
        seen = parse_nexthop(data, start, end)
        if seen is None or self.scope is None or (self.building and self._is_own(seen.link)):
            return None
        lowest, highest = nexthop_range(self.scope)
        ours = seen.protocol == RT_PROTOCOL and lowest <= seen.id <= highest
        want = self.wanted.get((Nexthop, seen.id))
        return self._against(Nexthop(*seen[:4]), want, gone=kind == k.RTM_DELNEXTHOP, ours=ours)

    def _against(self, item: KernelObject, want: KernelObject | None, *, gone: bool, ours: bool) -> Drift | None:
        if gone:
            return self._drift(item, _DELETED) if want is not None else None
        if want is None:
            return self._drift(item, _APPEARED) if ours and self.scope is not None else None
        return self._drift(item, _CHANGED) if item != want else None

    def _drift(self, item: KernelObject, verb: str) -> Drift:
        return Drift(f"{describe(item, self.name_of)} {verb}", cause=isinstance(item, Address))


def _may_rival(link: HostLink) -> bool:
    """True for what can stand in the way of a vxlan device: one of its name, or of its VNI and port."""
    return link.kind == "vxlan" or is_sibling(link.name)


_JUDGES: dict[int, Callable[[Judge, Buffer, int, int, int], Event | None]] = {
    k.RTM_NEWLINK: Judge._link,
    k.RTM_DELLINK: Judge._link,
    k.RTM_NEWADDR: Judge._address,
    k.RTM_DELADDR: Judge._address,
    k.RTM_NEWROUTE: Judge._route,
    k.RTM_DELROUTE: Judge._route,
    k.RTM_NEWNEIGH: Judge._entry,
    k.RTM_DELNEIGH: Judge._entry,
    k.RTM_NEWNEXTHOP: Judge._nexthop,
    k.RTM_DELNEXTHOP: Judge._nexthop,
}
