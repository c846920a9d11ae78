"""A network namespace of its own for a test: a host with an uplink, and what is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_worker.keeper import Keeper
from flannel_worker.kernel.events import Drift, Event
from flannel_worker.kernel.objects import (
    Address,
    FdbEntry,
    KernelObject,
    LinkState,
    Neighbour,
    Nexthop,
    Route,
    Scope,
    Sysctl,
    TunLink,
    VxlanLink,
    nexthop_id,
)
from flannel_worker.kernel.reconcile import Reconciler
from flannel_worker.kernel.wanted import Wanted

CLONE_NEWNET = 0x40000000
LOCAL = parse_ip("192.168.77.1")
NETWORK = Subnet.parse("10.5.0.0/16")
MAC = bytes.fromhex("0200000000aa")
_libc = ctypes.CDLL(None, use_errno=True)  # os.unshare and os.setns are of Python 3.12


def run(command: str) -> str:
    """Output of a shell-less command. It must succeed."""
    return _run(command.split())


def set_alias(device: str, text: str) -> None:
    """`text` may hold blanks."""
    _run(["ip", "link", "set", "dev", device, "alias", text])


def _run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def ask(command: str) -> list[Any]:
    """Parsed JSON output of `ip` or `bridge`."""
    return list(json.loads(run(command) or "[]"))


@contextlib.contextmanager
def namespace() -> Iterator[None]:
    """This thread, and what it starts, in a new network namespace; nothing of it is left afterwards."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(_libc.unshare(CLONE_NEWNET))
        yield
    finally:
        _enter(_libc.setns(home, CLONE_NEWNET))
        os.close(home)


def _enter(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)}: kernel tests run as root")


def furnish() -> None:
    """An uplink eth0 (192.168.77.1/24) with a default route, its far end in the same namespace."""
    run("ip link set lo up")
    run("ip link add eth0 type veth peer name far")
    run("ip address add 192.168.77.1/24 dev eth0")
    run("ip link set far up")
    run("ip link set eth0 up")
    run("ip route add default via 192.168.77.254 dev eth0")


def uplink() -> int:
    return socket.if_nametoindex("eth0")


@contextlib.asynccontextmanager
async def reconciler() -> AsyncIterator[Reconciler]:
    opened = Reconciler.open()
    try:
        yield opened
    finally:
        opened.close()


def keeper(inherited: Mapping[str, int] | None = None) -> Keeper:
    """One whose supervisor takes whatever it is given."""
    return Keeper(lambda message, fd: None, "blue", inherited or {})


def vxlan(**other: Any) -> VxlanLink:
    spec = VxlanLink("flannel.1", 1, 8472, uplink(), LOCAL, 1450, MAC, alias="flannel network blue")
    return spec._replace(**other)


def tun(**other: Any) -> TunLink:
    return TunLink("", 1472, 2000, "flannel network blue")._replace(**other)


def subnet(number: int) -> Subnet:
    return Subnet(NETWORK.base | number << 8, 24)


def mac(number: int) -> bytes:
    return bytes((2, 0, 0, 0)) + number.to_bytes(2, "big")


def own(link: LinkState, number: int = 1) -> tuple[KernelObject, ...]:
    return (
        Sysctl(f"net/ipv6/conf/{link.name}/accept_ra", "0"),
        Sysctl(f"net/ipv4/neigh/{link.name}/app_solicit", "0"),
        Address(link.ifindex, subnet(number).base, 32),
    )


def peer(link: LinkState, number: int, *, host: int = 0, through_object: bool = False) -> tuple[KernelObject, ...]:
    """What a vxlan peer asks for: subnet 10.5.<number>.0/24 on host 192.168.77.<number>."""
    base, address = subnet(number).base, host or parse_ip("192.168.77.0") + number
    objects: tuple[KernelObject, ...] = (
        Neighbour(link.ifindex, base, mac(number)),
        FdbEntry(link.ifindex, mac(number), address),
    )
    if not through_object:
        return (*objects, Route(base, 24, link.ifindex, base, onlink=True))
    number = nexthop_id(base)
    through = Nexthop(number, link.ifindex, base, onlink=True)
    return (*objects, through, Route(base, 24, link.ifindex, base, onlink=True, nexthop=number))


def peers(link: LinkState, *numbers: int, through_object: bool = False) -> Wanted:
    wanted = Wanted()
    wanted.put("own", own(link))
    for number in numbers:
        wanted.put(subnet(number), peer(link, number, through_object=through_object))
    return wanted


def scope(link: LinkState, leased: frozenset[tuple[int, int]] = frozenset()) -> Scope:
    return Scope(link.ifindex, uplink(), NETWORK, leased)


def open_tun(name: str, *, vnet_header: bool = True) -> int:
    """A descriptor of another program for the TUN `name`, which is made if need be."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    flags = 0x1001 | (0x4000 if vnet_header else 0)  # IFF_TUN, IFF_NO_PI; IFF_VNET_HDR
    fcntl.ioctl(fd, 0x400454CA, struct.pack("=16sH22x", name.encode(), flags))
    return fd


def open_files() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def links() -> dict[str, Any]:
    """Links by name, in detail."""
    return {link["ifname"]: link for link in ask("ip -d -j link show")}


def routes(*, device: str = "") -> Mapping[str, Any]:
    """The main table by destination."""
    return {route["dst"]: route for route in ask("ip -j route show" + (f" dev {device}" if device else ""))}


def neighbours() -> dict[str, tuple[str, str]]:
    """IPv4 neighbours of flannel.1: address to (MAC, state)."""
    rows = ask("ip -4 -j neigh show dev flannel.1 nud all")
    return {row["dst"]: (row.get("lladdr", ""), row["state"][0]) for row in rows if row["state"] != ["NOARP"]}


def forwarding() -> dict[str, str]:
    """FDB of flannel.1: MAC to destination, with the port where an entry has one of its own."""
    rows = ask("bridge -j fdb show dev flannel.1")
    return {row["mac"]: row.get("dst", "") + (f" port {row['port']}" if "port" in row else "") for row in rows}


async def next_drift(opened: Reconciler) -> str:
    """Text of the next drift; other events are passed over. Within a second, which is what we promise."""
    async with asyncio.timeout(1.0):
        while True:
            event = await opened.next_event()
            if isinstance(event, Drift):
                return event.text


async def quiet(opened: Reconciler, for_s: float = 0.25) -> Event | None:
    """The event that comes within `for_s`, if one does."""
    try:
        return await asyncio.wait_for(opened.next_event(), for_s)
    except TimeoutError:
        return None
