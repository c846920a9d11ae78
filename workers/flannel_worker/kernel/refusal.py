"""The kernel's no, in words: what was tried, on which object, what was answered, what to do."""

from __future__ import annotations

import errno
from collections.abc import Callable

from flannel_multi.model.errors import KernelRefused
from flannel_multi.model.subnet import format_ip
from flannel_worker.kernel.objects import Address, FdbEntry, KernelObject, Neighbour, Nexthop, Route, Sysctl
from flannel_worker.kernel.requests import Refusal

_ADVICE = {
    errno.EPERM: "run flanneld as root, or with CAP_NET_ADMIN",
    errno.EACCES: "run flanneld as root, or with CAP_NET_ADMIN",
    errno.EROFS: "mount /proc/sys writable",
    errno.ENETDOWN: "set the interface up",
    errno.ENODEV: "the interface is gone; tried again when it is back",
    errno.ENOBUFS: "the kernel is short of memory for it",
    errno.ENOMEM: "the kernel is short of memory for it",
}
_ROUTE_ADVICE = {
    errno.ENETUNREACH: "no route on that interface holds the gateway; check the peer's PublicIP and --iface",
    errno.EHOSTUNREACH: "no route on that interface holds the gateway; check the peer's PublicIP and --iface",
    errno.EINVAL: "the gateway, or what it goes through, is not usable there",
}
_NEIGHBOUR_ADVICE = {errno.ENOBUFS: "the neighbour table is full; raise net.ipv4.neigh.default.gc_thresh3"}
_DEVICE_ADVICE = {
    errno.EEXIST: "another vxlan device has this VNI and port; delete it, or change VNI or Port",
    errno.EOPNOTSUPP: "the kernel has no vxlan; load the module: modprobe vxlan",
    errno.EADDRINUSE: "another device or program holds the UDP port with other settings; stop it, or change Port",
    errno.ERANGE: "the value is beyond the kernel's limit; change VNI or MTU",
    errno.EINVAL: "the uplink may carry less; check MTU",
}

# Answers to a drop that say the object is gone: so it is as it should be.
GONE = frozenset((errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO))


def refused(what: str, refusal: Refusal, advice: dict[int, str] | None = None) -> KernelRefused:
    """The error to raise or report for `what` ("route 10.5.7.0/24 via …")."""
    name = errno.errorcode.get(refusal.errno, str(refusal.errno))
    words = f" ({refusal.words})" if refusal.words else ""
    todo = (advice or {}).get(refusal.errno) or _ADVICE.get(refusal.errno, "tried again later")
    return KernelRefused(f"{what} refused: {name}{words}; {todo}", refusal.errno)


def device_refused(what: str, refusal: Refusal) -> KernelRefused:
    return refused(what, refusal, _DEVICE_ADVICE)


def object_refused(item: KernelObject, refusal: Refusal, name_of: Callable[[int], str], *, drop: bool) -> KernelRefused:
    """`name_of` gives an interface's name for its ifindex."""
    advice = {}
    if isinstance(item, Route | Nexthop):
        advice = _ROUTE_ADVICE
    elif isinstance(item, Neighbour):
        advice = _NEIGHBOUR_ADVICE
    what = describe(item, name_of)
    return refused(f"removal of {what}" if drop else what, refusal, advice)


def describe(item: KernelObject, name_of: Callable[[int], str]) -> str:
    """One object as people know it."""
    match item:
        case Route(dst, length, link, gateway, _, nexthop):
            via = f" via {format_ip(gateway)}" if gateway else ""
            dev = f" dev {name_of(link)}" if link else ""
            by = f" nhid {nexthop}" if nexthop else ""
            return f"route {format_ip(dst)}/{length}{via}{dev}{by}"
        case Neighbour(link, address, mac):
            lladdr = f" lladdr {mac.hex(':')}" if mac else ""
            return f"neighbour {format_ip(address)}{lladdr} dev {name_of(link)}"
        case FdbEntry(link, mac, dst):
            to = f" dst {format_ip(dst)}" if dst else ""
            return f"FDB entry {mac.hex(':')}{to} dev {name_of(link)}"
        case Nexthop(number, link, gateway):
            via = f" via {format_ip(gateway)} dev {name_of(link)}" if link else ""
            return f"nexthop {number}{via}"
        case Address(link, address, length):
            return f"address {format_ip(address)}/{length} dev {name_of(link)}"
        case Sysctl(name, value):
            return f"sysctl {name} = {value}"
