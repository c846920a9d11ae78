"""The TUN device: the one that is held, or that bears our mark, or a new one; put right and read back.

One that stays keeps its ifindex, and so its address, its routes and the packets that wait in its queue.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from flannel_multi import log
from flannel_worker.kernel import device, linkwire, tun
from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.host import HostLink
from flannel_worker.kernel.linkwire import LinkSeen
from flannel_worker.kernel.objects import LinkState, TunLink
from flannel_worker.kernel.refusal import device_refused
from flannel_worker.kernel.requests import Refusal, Requests
from flannel_worker.kernel.rivals import is_our_tun


class Tun(NamedTuple):
    """A device, and the descriptor its packets go through: the one that was held, or one that is now the caller's."""

    link: LinkState
    fd: int


def find(requests: Requests, spec: TunLink, *, held: int = 0) -> HostLink | None:
    """The device that bears the mark of `spec`, or has the ifindex `held`; the oldest if there were several. Raises
    KernelRefused."""
    links = requests.dump(k.RTM_GETLINK, linkwire.ask_links(), linkwire.read_links)
    if isinstance(links, Refusal):
        raise device_refused("question about TUN devices of ours", links)
    ours = (link for link in links if is_our_tun(link, spec, held=held))
    return min(ours, key=lambda link: link.ifindex, default=None)


def ensure(requests: Requests, spec: TunLink, held: int | None) -> Tun:
    """The device as `spec` asks for it, up and persistent. `held`: a descriptor from before, dead or alive.

    Raises KernelRefused; Occupied while another program has our device open. What was made is gone then.
    """
    at = tun.attached(held) if held is not None else None
    if at is not None and not at.fits:
        log.warning(f"device {at.name} does not fit (no virtio header): making it anew")
        device.remove(requests, at.name)
        at = None
    if held is not None and at is not None and device.look(requests, at.name) is not None:  # else: moved out of here
        return Tun(_put_right(requests, spec, at.name).state(), held)
    return _opened(requests, spec)


def _opened(requests: Requests, spec: TunLink) -> Tun:
    """With a descriptor of its own. A new device bears our mark before it is made to stay: nothing unmarked is left."""
    there = find(requests, spec)
    fd = tun.create(spec.name) if there is None else tun.attach(there.name)
    try:
        at = tun.attached(fd)
        if at is None:
            raise device.vanished(spec.name or tun.TEMPLATE)
        if there is None:
            requests.order(k.RTM_NEWLINK, linkwire.no_link_local(at.name))  # refused where IPv6 is off: as well
        seen = _put_right(requests, spec, at.name)
        tun.persist(fd)
    except BaseException:
        os.close(fd)
        raise
    return Tun(seen.state(), fd)


def _put_right(requests: Requests, spec: TunLink, name: str) -> LinkSeen:
    seen = _look(requests, name)
    mtu = spec.mtu if seen.mtu != spec.mtu else 0
    queue = spec.queue if seen.queue != spec.queue else 0
    alias = spec.alias if seen.alias != spec.alias else None
    if not mtu and not queue and alias is None and seen.up:
        return seen
    device.change(requests, name, mtu=mtu, queue=queue, alias=alias, up=not seen.up)
    seen = _look(requests, name)
    found = device.difference(
        ("MTU", seen.mtu, spec.mtu),
        ("queue", seen.queue, spec.queue),
        ("alias", seen.alias, spec.alias),
        ("up", seen.up, True),
    )
    if found:
        raise device.disobeyed(name, found)
    return seen


def _look(requests: Requests, name: str) -> LinkSeen:
    seen = device.look(requests, name)
    if seen is None:
        raise device.vanished(name)
    return seen
