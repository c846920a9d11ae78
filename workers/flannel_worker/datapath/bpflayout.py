"""Keys and values of the maps, as workers/datapath/bpf/layout.h has them; sizes are compared when the object is loaded.

Numbers of the host are in its order; addresses and ports in network order, as they are in packets.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from flannel_worker.datapath.libbpf import Map

VERSION = 1
MARK_SIZE = 16

_CONFIG = struct.Struct("=I4sIIII2sBB")
_PEER_KEY = struct.Struct("=I4s")
_PEER = struct.Struct("=4sII4s")
_TRAFFIC = struct.Struct("=QQQQ")
_TALLY = struct.Struct("=QQ")
_ENDPOINT = struct.Struct("=4s2s2x")
NUMBER = struct.Struct("=I")
ONLY = NUMBER.pack(0)  # the key of an array of one

# Map name to the sizes of its key and value.
OVERLAY_MAPS = {
    "config": (NUMBER.size, _CONFIG.size),
    "peers": (_PEER_KEY.size, _PEER.size),
    "traffic": (_PEER_KEY.size, _TRAFFIC.size),
    "verdicts": (NUMBER.size, _TALLY.size),
}
XDP_MAPS = {"endpoints": (_ENDPOINT.size, NUMBER.size), "verdicts": (NUMBER.size, _TALLY.size)}


class Config(NamedTuple):
    """Where a network's programs stand. `local` and `port` are host-order ints, `tun` and `uplink` ifindexes, `merger`
    that of the device in which received packets are merged, 0 without. `mac`: bytes before a packet that leaves.

    `made_clsact`: the uplink had no clsact before us. It is kept here for whoever takes the programs away."""

    local: int
    tun: int
    uplink: int
    port: int
    verify_source: bool
    made_clsact: bool = False
    merger: int = 0
    mac: int = 0

    def packed(self) -> bytes:
        local, port = self.local.to_bytes(4, "big"), self.port.to_bytes(2, "big")
        return _CONFIG.pack(
            VERSION, local, self.tun, self.uplink, self.merger, self.made_clsact, port, self.verify_source, self.mac
        )

    def endpoint(self) -> bytes:
        return _ENDPOINT.pack(self.local.to_bytes(4, "big"), self.port.to_bytes(2, "big"))


def read_config(text: bytes) -> Config | None:
    """None for one that was never written, or of another version."""
    version, local, tun, uplink, merger, made, port, verify, mac = _CONFIG.unpack(text)
    if version != VERSION:
        return None
    address, number = int.from_bytes(local, "big"), int.from_bytes(port, "big")
    return Config(address, tun, uplink, number, bool(verify), bool(made), merger, mac)


def peer_key(base: int, length: int) -> bytes:
    return _PEER_KEY.pack(length, base.to_bytes(4, "big"))


def peer_value(base: int, length: int, address: int, *, fast: bool) -> bytes:
    return _PEER.pack(address.to_bytes(4, "big"), fast, length, base.to_bytes(4, "big"))


def read_peer(value: bytes) -> tuple[int, bool]:
    """Address of the host, and whether it runs this path too."""
    address, fast, _, _ = _PEER.unpack(value)
    return int.from_bytes(address, "big"), bool(fast)


def read_key(key: bytes) -> tuple[int, int]:
    """Base and length."""
    length, base = _PEER_KEY.unpack(key)
    return int.from_bytes(base, "big"), length


def read_traffic(values: list[bytes]) -> tuple[int, int, int, int]:
    """Packets and bytes sent, packets and bytes received, of all processors."""
    sums = [sum(column) for column in zip(*map(_TRAFFIC.unpack, values), strict=True)] or [0, 0, 0, 0]
    return sums[0], sums[1], sums[2], sums[3]


def read_tally(values: list[bytes]) -> tuple[int, int]:
    """Packets and bytes, of all processors."""
    rows = [_TALLY.unpack(value) for value in values]
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


def misfit(of: Map, sizes: tuple[int, int]) -> str:
    """Why `of` is not the map that this module describes, "" when it is."""
    if (of.key_size, of.value_size) == sizes:
        return ""
    return f"map {of.name} has sizes {of.key_size}/{of.value_size} where {sizes[0]}/{sizes[1]} are expected"
