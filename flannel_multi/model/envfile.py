"""The env file that container engines read: flannel's exact four lines (spec §4.1)."""

from __future__ import annotations

import re

from flannel_multi.model.subnet import Subnet, format_ip, parse_ip

_LENGTH = re.compile(r"[1-9]\d?", re.ASCII)  # compiled here, so in the parent, for all workers


def render(network: Subnet, subnet: Subnet, *, mtu: int, ip_masq: bool) -> str:
    """The whole file. `mtu` in bytes. FLANNEL_SUBNET is the lease's base + 1 with the lease's length."""
    return (
        f"FLANNEL_NETWORK={network}\n"
        f"FLANNEL_SUBNET={format_ip(subnet.base + 1)}/{subnet.length}\n"
        f"FLANNEL_MTU={mtu}\n"
        f"FLANNEL_IPMASQ={'true' if ip_masq else 'false'}\n"
    )


def previous_subnet(text: str) -> Subnet | None:
    """The subnet an earlier run wrote (spec §3.5 step 3), or None when the text holds none."""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() != "FLANNEL_SUBNET":
            continue
        address, _, length = value.strip().strip("\"'").partition("/")
        if _LENGTH.fullmatch(length) is None or int(length) > 32:
            return None
        try:
            return Subnet.of(parse_ip(address), int(length))
        except ValueError:
            return None
    return None
