"""The vxlan device: kept if it fits, put right where it can be, made anew where it cannot (spec §7.3); left alone if
it is not ours.

A device that stays keeps MAC and ifindex, so nothing that points at it moves. What was made is read back: the
kernel takes some wrong attributes in silence.
"""

from __future__ import annotations

import errno

from flannel_multi import log
from flannel_multi.model.errors import Conflict, KernelRefused
from flannel_multi.model.subnet import format_ip
from flannel_worker.kernel import linkwire
from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.linkwire import LinkSeen, parse_link
from flannel_worker.kernel.objects import LinkState, VxlanLink
from flannel_worker.kernel.refusal import device_refused
from flannel_worker.kernel.requests import Refusal, Requests
from flannel_worker.kernel.rivals import is_ours, rivals


def look(requests: Requests, name: str) -> LinkSeen | None:
    """The link of that name, whosever it is, or None. Raises KernelRefused."""
    answer = requests.get(k.RTM_GETLINK, linkwire.ask_link(name))
    if isinstance(answer, Refusal):
        if answer.errno == errno.ENODEV:
            return None
        raise device_refused(f"question about device {name}", answer)
    data, message = answer
    return parse_link(data, message.start, message.end)


def remove(requests: Requests, name: str) -> None:
    """Raises KernelRefused, unless the device is gone already."""
    refusal = requests.order(k.RTM_DELLINK, linkwire.by_name(name))
    if refusal is not None and refusal.errno != errno.ENODEV:
        raise device_refused(f"removal of device {name}", refusal)


def ensure(requests: Requests, spec: VxlanLink, *, held: int = 0) -> LinkState:
    """The device as `spec` asks for it, up. `held`: ifindex of the one known as ours, whatever became of its alias.

    Raises KernelRefused; Conflict, and has then touched nothing, when a device of somebody else is in the way.
    """
    seen = look(requests, spec.name)
    if seen is not None and not is_ours(seen.state(), spec, held=held):
        raise Conflict("; ".join(rivals([seen.host_link()], spec)))
    try:
        return _made(requests, spec, seen).state()
    except KernelRefused as refusal:
        if refusal.errno in (errno.EEXIST, errno.EADDRINUSE):
            _look_for_rivals(requests, spec)
        raise


def _made(requests: Requests, spec: VxlanLink, seen: LinkSeen | None) -> LinkSeen:
    if seen is not None and (reason := misfit(seen, spec)):
        _look_for_rivals(requests, spec)  # while the old one stands: it serves better than none
        log.warning(f"device {spec.name} does not fit ({reason}): making it anew")
        remove(requests, spec.name)
        seen = None
    if seen is None:
        _create(requests, spec)
        return _read_back(requests, spec, spec.mac)
    mtu = spec.mtu if seen.mtu != spec.mtu else 0
    alias = spec.alias if seen.alias != spec.alias else None
    if not mtu and alias is None and seen.up:
        return seen
    change(requests, spec.name, mtu=mtu, alias=alias, up=not seen.up)
    return _read_back(requests, spec, seen.mac)


def _look_for_rivals(requests: Requests, spec: VxlanLink) -> None:
    """Raises Conflict with what stands in the way of `spec`, if something does; KernelRefused."""
    links = requests.dump(k.RTM_GETLINK, linkwire.ask_links(), linkwire.read_links)
    if isinstance(links, Refusal):
        raise device_refused(f"question about what is in the way of device {spec.name}", links)
    found = rivals(links, spec)
    if found:
        raise Conflict("; ".join(found))


def _create(requests: Requests, spec: VxlanLink) -> None:
    flags = k.NLM_F_CREATE | k.NLM_F_EXCL
    refusal = requests.order(k.RTM_NEWLINK, linkwire.create_vxlan(spec), flags)
    if refusal is not None:
        what = f"device {spec.name} (vxlan id {spec.vni}, port {spec.port}, MTU {spec.mtu})"
        raise device_refused(what, refusal)
    requests.order(k.RTM_NEWLINK, linkwire.no_link_local(spec.name))  # refused where IPv6 is off: as well
    try:
        change(requests, spec.name, alias=spec.alias, up=True)
    except KernelRefused:
        remove(requests, spec.name)  # half made it would hold its VNI against others
        raise


def change(
    requests: Requests, name: str, *, mtu: int = 0, queue: int = 0, alias: str | None = None, up: bool = False
) -> None:
    """Changes what is given of the link `name`, all in one. Raises KernelRefused."""
    refusal = requests.order(k.RTM_NEWLINK, linkwire.change_link(name, mtu=mtu, queue=queue, alias=alias, up=up))
    if refusal is not None:
        wish = [f"MTU {mtu}"] * bool(mtu) + [f"queue {queue}"] * bool(queue)
        wish += ["alias"] * (alias is not None) + ["up"] * up
        raise device_refused(f"setting {', '.join(wish)} on device {name}", refusal)


def _read_back(requests: Requests, spec: VxlanLink, mac: bytes) -> LinkSeen:
    seen = look(requests, spec.name)
    if seen is None:
        raise vanished(spec.name)
    found = misfit(seen, spec) or difference(
        ("MAC", seen.mac.hex(":"), mac.hex(":")),
        ("MTU", seen.mtu, spec.mtu),
        ("alias", seen.alias, spec.alias),
        ("up", seen.up, True),
    )
    if found:
        raise disobeyed(spec.name, found)
    return seen


def vanished(name: str) -> KernelRefused:
    return KernelRefused(f"device {name} vanished as soon as it stood; tried again later", errno.ENODEV)


def disobeyed(name: str, found: str) -> KernelRefused:
    """`found`: what is not as it was asked for."""
    text = f"device {name} came out otherwise than asked for ({found}); does another program manage it?"
    return KernelRefused(text, errno.EINVAL)


def misfit(seen: LinkSeen, spec: VxlanLink) -> str:
    """Why an existing device cannot serve and cannot be put right, "" when it can."""
    have = seen.vxlan
    if have is None:
        return f"kind {seen.kind or 'hardware'} instead of vxlan"
    return difference(
        ("VNI", have.vni, spec.vni),
        ("uplink ifindex", have.lower, spec.lower),
        ("local address", format_ip(have.local), format_ip(spec.local)),
        ("port", have.port, spec.port),
        ("GBP", have.gbp, spec.gbp),
        ("learning", have.learning, spec.learning),
        ("l2miss", have.l2miss, False),
        ("external", have.external, False),
        ("default destination", format_ip(have.group), format_ip(0)),
        ("IPv6", have.ipv6, False),
    )


def difference(*values: tuple[str, object, object]) -> str:
    """The first of (what, as it is, as it should be) that differs, in words; "" when all agree."""
    return next((f"{what} {have} instead of {want}" for what, have, want in values if have != want), "")
