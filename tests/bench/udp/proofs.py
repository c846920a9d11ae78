"""What must hold before a path is measured: bytes arrive as they were sent, and the link is of the kind it claims."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from typing import NamedTuple

from tests.bench.udp.sites import ADDRESSES, LINK, Site
from tests.lab.netns import inside
from tests.lab.world import Host, LabError

PROOF_BYTES = 20_000_000
PATIENCE_S = 30.0
FRAME = 1514  # MTU 1500 and the Ethernet header


def prove_intact(site: Site) -> None:
    """20 MB of random bytes over TCP through the path; the same SHA-256 arrives. Raises LabError."""
    transfer(site.path, site.client, site.server, site.target)


def prove_link(site: Site, *, nic: bool) -> float:
    """The mean frame, in bytes, of such a transfer past the overlay: whole super-packets on an ideal link, none above
    the MTU on a NIC-like one, and there GRO has merged them again before IP counts them. Raises LabError."""
    before = _counted(site.far)
    transfer(site.path, site.near, site.far, ADDRESSES[1])
    after = _counted(site.far)
    frames = after.frames - before.frames
    mean, merged = (after.size - before.size) / frames, frames / (after.packets - before.packets)
    if nic and (mean > FRAME or merged < 2.0):
        raise LabError(
            f"{site.path}: the link is not NIC-like: frames of {mean:.0f} bytes, {merged:.1f} in each packet to IP"
        )
    if not nic and mean < 2 * FRAME:
        raise LabError(f"{site.path}: the link is not ideal: frames of {mean:.0f} bytes")
    return mean


def transfer(name: str, client: Host, server: Host, target: str) -> None:
    """One connection, written by a thread of its own. Raises LabError when it stalls or other bytes arrive."""
    sent, got = os.urandom(PROOF_BYTES), hashlib.sha256()
    try:
        with inside(server.netns, lambda: socket.create_server((target, 0))) as listener:
            listener.settimeout(PATIENCE_S)
            port = listener.getsockname()[1]
            sender = inside(client.netns, lambda: socket.create_connection((target, port), timeout=PATIENCE_S))
            thread = threading.Thread(target=_send, args=(sender, sent))
            thread.start()
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE_S)
                while piece := connection.recv(1 << 20):
                    got.update(piece)
            thread.join()
    except OSError as error:
        raise LabError(f"{name}: TCP from {client.name} to {target}: {error}") from error
    if got.digest() != hashlib.sha256(sent).digest():
        raise LabError(f"{name}: what arrives over TCP is not what was sent")


def _send(sender: socket.socket, data: bytes) -> None:
    with sender:
        try:
            sender.sendall(data)
        except OSError:
            pass  # the receiver misses the bytes and says so


class _Counted(NamedTuple):
    frames: int
    size: int
    packets: int  # that reached IP, after GRO


def _counted(host: Host) -> _Counted:
    received = json.loads(host.ip("-j", "-s", "link", "show", LINK))[0]["stats64"]["rx"]
    names, values = (line.split() for line in host.run("grep", "^Ip:", "/proc/net/snmp").splitlines())
    return _Counted(received["packets"], received["bytes"], int(dict(zip(names, values, strict=True))["InReceives"]))
