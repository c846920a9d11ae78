"""Links and IPv4 addresses as bytes, both ways. Few of them, but every worker reads all of the host's at its start.

A link's message holds some forty attributes and only five matter here, so nothing is parsed that nobody reads.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.frame import (
    IFADDRMSG,
    IFINFOMSG,
    U32,
    Buffer,
    attribute,
    attributes,
    messages,
    net32,
    pick,
    u32,
)
from flannel_worker.kernel.host import HostAddress, HostLink, VxlanConfig
from flannel_worker.kernel.objects import LinkState, VxlanLink

_PORT = struct.Struct(">H")
_OF_A_LINK = frozenset(
    (k.IFLA_ADDRESS, k.IFLA_IFNAME, k.IFLA_MTU, k.IFLA_TXQLEN, k.IFLA_LINKINFO, k.IFLA_IFALIAS)
)  # fmt: skip


class LinkSeen(NamedTuple):
    """A link as the kernel tells it; `vxlan` only for that kind."""

    ifindex: int
    name: str
    mac: bytes
    mtu: int
    flags: int
    kind: str
    alias: str
    vxlan: VxlanConfig | None
    queue: int = 0

    @property
    def up(self) -> bool:
        return bool(self.flags & k.IFF_UP)

    def state(self) -> LinkState:
        queue = self.queue if self.kind == "tun" else 0
        return LinkState(self.ifindex, self.name, self.mac, self.mtu, self.up, self.kind, self.alias, queue)

    def host_link(self) -> HostLink:
        return HostLink(self.ifindex, self.name, self.mtu, self.up, self.kind, self.alias, self.vxlan)


def parse_link(data: Buffer, start: int, end: int) -> LinkSeen | None:
    """None for what is no link of its own: a bridge tells about its ports in messages of the same type."""
    if end - start < 16:
        return None
    family, _, ifindex, flags, _ = IFINFOMSG.unpack_from(data, start)
    if family or ifindex <= 0:
        return None
    found = pick(data, start + 16, end, _OF_A_LINK)
    kind, vxlan = _kind(found.get(k.IFLA_LINKINFO, b""))
    mac = found.get(k.IFLA_ADDRESS, b"")
    return LinkSeen(
        ifindex,
        _text(found.get(k.IFLA_IFNAME, b"")),
        mac if len(mac) == 6 else b"",
        u32(found.get(k.IFLA_MTU)),
        flags,
        kind,
        _text(found.get(k.IFLA_IFALIAS, b"")),
        vxlan,
        u32(found.get(k.IFLA_TXQLEN)),
    )


def read_links(data: Buffer) -> list[HostLink]:
    """The links of a dump's datagram."""
    seen = (parse_link(data, m.start, m.end) for m in messages(data) if m.kind == k.RTM_NEWLINK)
    return [link.host_link() for link in seen if link is not None]


def _kind(info: bytes) -> tuple[str, VxlanConfig | None]:
    if not info:
        return "", None
    found = attributes(info, 0, len(info))
    kind = _text(found.get(k.IFLA_INFO_KIND, b""))
    if kind != "vxlan":
        return kind, None
    text = found.get(k.IFLA_INFO_DATA, b"")
    data = attributes(text, 0, len(text))
    port = data.get(k.IFLA_VXLAN_PORT, b"")
    return kind, VxlanConfig(
        u32(data.get(k.IFLA_VXLAN_ID)),
        u32(data.get(k.IFLA_VXLAN_LINK)),
        net32(data.get(k.IFLA_VXLAN_LOCAL)),
        int.from_bytes(port, "big"),
        any(data.get(k.IFLA_VXLAN_LEARNING, b"")),
        k.IFLA_VXLAN_GBP in data,
        any(data.get(k.IFLA_VXLAN_L2MISS, b"")),
        any(data.get(k.IFLA_VXLAN_COLLECT_METADATA, b"")),
        net32(data.get(k.IFLA_VXLAN_GROUP)),
        k.IFLA_VXLAN_LOCAL6 in data or k.IFLA_VXLAN_GROUP6 in data,
    )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "backslashreplace")


def parse_address(data: Buffer, start: int, end: int) -> HostAddress | None:
    """None for what is no IPv4 address. Of a point-to-point pair it is this host's side."""
    if end - start < 8:
        return None
    family, length, flags, _, link = IFADDRMSG.unpack_from(data, start)
    if family != k.AF_INET or length > 32:
        return None
    found = attributes(data, start + 8, end)
    address = net32(found.get(k.IFA_LOCAL)) or net32(found.get(k.IFA_ADDRESS))
    return HostAddress(link, address, length, bool(flags & k.IFA_F_DEPRECATED))


def create_vxlan(spec: VxlanLink) -> bytes:
    """Body that makes the device, down. The MAC is given at once: set later, udev may rewrite it (spec §0)."""
    data = (
        attribute(k.IFLA_VXLAN_ID, U32.pack(spec.vni))
        + attribute(k.IFLA_VXLAN_LINK, U32.pack(spec.lower))
        + attribute(k.IFLA_VXLAN_LOCAL, spec.local.to_bytes(4, "big"))
        + attribute(k.IFLA_VXLAN_LEARNING, bytes((spec.learning,)))
        + attribute(k.IFLA_VXLAN_PORT, _PORT.pack(spec.port))
        + (attribute(k.IFLA_VXLAN_GBP, b"") if spec.gbp else b"")
    )
    info = attribute(k.IFLA_INFO_KIND, b"vxlan\0") + attribute(k.IFLA_INFO_DATA, data)
    return (
        IFINFOMSG.pack(0, 0, 0, 0, 0)
        + attribute(k.IFLA_IFNAME, spec.name.encode() + b"\0")
        + attribute(k.IFLA_MTU, U32.pack(spec.mtu))
        + attribute(k.IFLA_ADDRESS, spec.mac)
        + attribute(k.IFLA_LINKINFO, info)
    )


def change_link(name: str, *, mtu: int = 0, queue: int = 0, alias: str | None = None, up: bool = False) -> bytes:
    """Body that changes what is given of the link `name`, and nothing else."""
    flags = k.IFF_UP if up else 0
    body = IFINFOMSG.pack(0, 0, 0, flags, flags) + attribute(k.IFLA_IFNAME, name.encode() + b"\0")
    if mtu:
        body += attribute(k.IFLA_MTU, U32.pack(mtu))
    if queue:
        body += attribute(k.IFLA_TXQLEN, U32.pack(queue))
    if alias is not None:
        body += attribute(k.IFLA_IFALIAS, alias.encode())
    return body


def no_link_local(name: str) -> bytes:
    """Body that keeps the kernel from giving `name` an fe80:: address (addrgenmode none): nobody asks for one."""
    mode = attribute(k.IFLA_INET6_ADDR_GEN_MODE, bytes((k.IN6_ADDR_GEN_MODE_NONE,)))
    return change_link(name) + attribute(k.IFLA_AF_SPEC, attribute(k.AF_INET6, mode))


def by_name(name: str) -> bytes:
    """Body that names one link, for a question or a removal."""
    return IFINFOMSG.pack(0, 0, 0, 0, 0) + attribute(k.IFLA_IFNAME, name.encode() + b"\0")


def ask_link(name: str) -> bytes:
    return by_name(name) + _no_counters()


def ask_links() -> bytes:
    return IFINFOMSG.pack(0, 0, 0, 0, 0) + _no_counters()


def ask_addresses(link: int = 0) -> bytes:
    return IFADDRMSG.pack(k.AF_INET, 0, 0, 0, link)


def _no_counters() -> bytes:
    return attribute(k.IFLA_EXT_MASK, U32.pack(k.RTEXT_FILTER_SKIP_STATS))
