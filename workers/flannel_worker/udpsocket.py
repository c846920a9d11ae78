"""The UDP socket of a tunnel: one address, one port, and room for what comes in while one worker follows another."""

from __future__ import annotations

import errno
import socket
import sys

from flannel_multi.model.errors import KernelRefused, Occupied
from flannel_multi.model.subnet import format_ip
from flannel_worker.backends.protocol import TunnelSpec
from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.requests import grow_receive_buffer

RECEIVE_BYTES = 4 * 1024 * 1024
SEND_BYTES = 1024 * 1024

_ADVICE = {
    errno.EADDRNOTAVAIL: "the address is gone from the uplink; tried again later",
    errno.EACCES: "a port below 1024 needs root or CAP_NET_BIND_SERVICE; choose another Port",
}


def is_bound(fd: int, spec: TunnelSpec) -> bool:
    """True when `fd` is a socket on the address and port of `spec`."""
    try:
        kept = socket.socket(fileno=fd)
    except OSError:
        return False
    try:
        return bool(kept.getsockname() == (format_ip(spec.address), spec.port))
    finally:
        kept.detach()


def overflowed(fd: int) -> int:
    """Datagrams lost since the socket was made because its queue was full (the kernel counts modulo 2^32)."""
    kept = socket.socket(fileno=fd)
    try:
        numbers = kept.getsockopt(socket.SOL_SOCKET, k.SO_MEMINFO, 4 * (k.SK_MEMINFO_DROPS + 1))
    finally:
        kept.detach()
    return int.from_bytes(numbers[4 * k.SK_MEMINFO_DROPS :], sys.byteorder)


def bound(spec: TunnelSpec) -> socket.socket:
    """A socket on the address and port of `spec`. Raises Occupied, KernelRefused."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    what = f"UDP port {spec.port} on {format_ip(spec.address)}"
    try:
        grow_receive_buffer(sock, RECEIVE_BYTES)
        _grow_send_buffer(sock, SEND_BYTES)
        sock.bind((format_ip(spec.address), spec.port))
    except OSError as error:
        sock.close()
        code = error.errno or 0
        if code == errno.EADDRINUSE:
            raise Occupied(
                f"{what} is in use by another program, or by a vxlan device: stop it "
                f"(ss -lunp sport = :{spec.port} names it), or choose another Port; tried again until then"
            ) from None
        reason, advice = errno.errorcode.get(code, str(code)), _ADVICE.get(code, "tried again later")
        raise KernelRefused(f"{what} refused: {reason}; {advice}", code) from None
    return sock


def _grow_send_buffer(sock: socket.socket, size: int) -> None:
    """Beyond net.core.wmem_max where we may (CAP_NET_ADMIN), else up to it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, k.SO_SNDBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
