"""A hidden veth pair in which the kernel merges opened TCP packets (GRO), as it does with what a card receives.

Opened packets enter at one end and leave, merged, at the other, where a program hands them to the TUN. Without it each
packet of the wire's size goes up the stack alone. A veth merges when the end that packets enter has TCP segmentation
off and the other one GRO on (drivers/net/veth.c: veth_skb_is_eligible_for_gro).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from flannel_worker.datapath import ethtool, rtnetlink
from flannel_worker.datapath.rtnetlink import attr

# linux/rtnetlink.h, linux/if_link.h, linux/if.h
_NEWLINK, _DELLINK = 16, 17
_IFNAME, _MTU, _LINKINFO, _ALIAS, _TX_QUEUES, _RX_QUEUES = 3, 4, 18, 20, 31, 32
_KIND, _DATA, _PEER = 1, 2, 1
_UP, _NOARP = 0x1, 0x80
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_PAIR = "the veth pair that merges packets"
_LARGEST_MTU = 65535  # the wire has decided already


class Pair(NamedTuple):
    """Ifindexes: where packets enter, and where they leave."""

    entry: int
    exit: int


def pays(uplink: ethtool.Device) -> bool:
    """Whether packets arrive one by one: what a card has merged (LRO, its own GRO) needs no merging here.

    Nor does what a veth's far end left whole. Whether it does shows, if at all, in the near end's features.
    """
    if "rx-gro" not in uplink.features or uplink.features & {"rx-lro", "rx-gro-hw"}:
        return False
    return uplink.driver != "veth" or "tx-tcp-segmentation" not in uplink.features


def ensure(port: int, network: str) -> Pair:
    """The pair of the network with that port, made when absent, up, with no address of any kind. Raises OSError."""
    entry, leave = _names(port)
    if (there := _there(port)) is None:
        _make(entry, leave)
        for name in (entry, leave):
            # Else the kernel gives it a link-local address, and packets of its own.
            with contextlib.suppress(FileNotFoundError):
                Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        there = Pair(socket.if_nametoindex(entry), socket.if_nametoindex(leave))
    elif ethtool.device(there.entry).driver != "veth":
        raise OSError(errno.EEXIST, f"device {entry} of somebody else has the name that network {network} needs")
    ethtool.switch(there.entry, ethtool.TSO, on=False)
    ethtool.switch(there.exit, ethtool.GRO, on=True)
    for ifindex in there:
        alias = attr(_ALIAS, f"flannel network {network}: merges received packets".encode())
        rtnetlink.order(_NEWLINK, _LINK.pack(0, 0, ifindex, _UP | _NOARP, _UP | _NOARP) + alias, f"setting up {_PAIR}")
    return there


def stands(pair: Pair) -> bool:
    """Whether both ends are there and merge. Raises OSError."""
    try:
        merges = "rx-gro" in ethtool.device(pair.exit).features
        return merges and "tx-tcp-segmentation" not in ethtool.device(pair.entry).features
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):
            return False
        raise


def remove(port: int) -> None:
    """Nothing to do when there is none. Raises OSError."""
    there = _there(port)
    if there is not None and ethtool.device(there.entry).driver == "veth":
        rtnetlink.order(_DELLINK, _LINK.pack(0, 0, there.entry, 0, 0), f"removal of {_PAIR}")


def _names(port: int) -> tuple[str, str]:
    return f"flgro{port}a", f"flgro{port}b"


def _there(port: int) -> Pair | None:
    entry, leave = _names(port)
    try:
        return Pair(socket.if_nametoindex(entry), socket.if_nametoindex(leave))
    except OSError:
        return None


def _make(entry: str, leave: str) -> None:
    # A queue for each processor, so that a card's queues need not wait for each other here.
    queues = struct.pack("=I", min(os.cpu_count() or 1, 64))

    def end(name: str) -> bytes:
        numbers = ((_MTU, struct.pack("=I", _LARGEST_MTU)), (_TX_QUEUES, queues), (_RX_QUEUES, queues))
        return attr(_IFNAME, name.encode() + b"\0") + b"".join(attr(kind, value) for kind, value in numbers)

    bare = _LINK.pack(0, 0, 0, 0, 0)
    info = attr(_KIND, b"veth") + attr(_DATA, attr(_PEER, bare + end(leave)))
    rtnetlink.order(_NEWLINK, bare + end(entry) + attr(_LINKINFO, info), f"creation of {_PAIR}", flags=rtnetlink.CREATE)
