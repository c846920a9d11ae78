"""A host's network as text lines, to be compared before and after.

Only what flannel could touch is shown, and nothing that changes by itself: no counters, no timers, no
dynamic neighbours, no IPv6.
"""

from __future__ import annotations

from tests.lab.world import Host


def kernel_state(host: Host, *, about: str = "") -> list[str]:
    """Links (with ifindex and MAC), IPv4 addresses, routes, permanent neighbours, FDB entries and nexthops, one line
    each, sorted. With `about` only the lines that name it, such as one network's device."""
    lines = [f"link {line}" for line in _joined(host.ip("-o", "link"))]
    lines += [f"vxlan {line}" for line in _joined(host.ip("-d", "-o", "link", "show", "type", "vxlan"))]
    lines += [f"addr {line}" for line in _joined(host.ip("-4", "-o", "addr"))]
    lines += [f"route {line}" for line in _joined(host.ip("-N", "-4", "route", "show", "table", "main"))]
    lines += [f"neigh {line}" for line in _joined(host.ip("-4", "neigh", "show", "nud", "permanent"))]
    lines += [f"nexthop {line}" for line in _joined(host.ip("-N", "nexthop"))]
    for device in host.links():
        if device.startswith("flannel."):
            lines += [f"fdb {device} {line}" for line in _joined(host.run("bridge", "fdb", "show", "dev", device))]
    return sorted(line for line in lines if about in line)


def _joined(text: str) -> list[str]:
    return [" ".join(line.replace("\\", " ").split()) for line in text.splitlines() if line.strip()]
