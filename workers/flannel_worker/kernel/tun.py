"""TUN devices by their descriptors: what /dev/net/tun alone can do (Documentation/networking/tuntap.rst).

Every device is made with a virtio header before each packet (IFF_VNET_HDR), without which the kernel would cut large
packets into small ones, and is persistent: it keeps its name, addresses and routes while nobody has it open.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import NamedTuple

from flannel_multi.model.errors import KernelRefused, Occupied
from flannel_worker.kernel import uapi as k

DEVICE = "/dev/net/tun"
TEMPLATE = "flannel%d"  # the kernel puts in the first number that is free
FLAGS = k.IFF_TUN | k.IFF_NO_PI | k.IFF_VNET_HDR
_SHAPE = FLAGS | k.IFF_MULTI_QUEUE  # the flags that must agree for a descriptor to be of use
_IFREQ = struct.Struct("=16sH22x")  # struct ifreq: name, flags

_ADVICE = {
    errno.ENOENT: f"{DEVICE} is missing: load the module (modprobe tun), or give the container that device",
    errno.ENODEV: "the kernel has no TUN devices: load the module (modprobe tun)",
    errno.ENXIO: "the kernel has no TUN devices: load the module (modprobe tun)",
    errno.ENOTTY: f"{DEVICE} is something else than the kernel's TUN device: put that in its place",
    errno.EPERM: "run flanneld as root, or with CAP_NET_ADMIN",
    errno.EACCES: f"run flanneld as root, or with CAP_NET_ADMIN and access to {DEVICE}",
}


class Attached(NamedTuple):
    """What a descriptor is attached to. `fits`: packets go through it in the form that we speak."""

    name: str
    fits: bool


def attached(fd: int) -> Attached | None:
    """The device of `fd`, None when it was deleted meanwhile. Raises KernelRefused for what is no TUN descriptor."""
    try:
        name, flags = _IFREQ.unpack(fcntl.ioctl(fd, k.TUNGETIFF, bytes(_IFREQ.size)))
    except OSError as error:
        if error.errno == errno.EBADFD:
            return None
        raise _refused("question about a kept TUN device", error) from None
    return Attached(_text(name), flags & _SHAPE == FLAGS)


def attach(name: str) -> int:
    """A descriptor for the persistent device `name`. Raises Occupied while another has it open, KernelRefused."""
    try:
        return _opened(name, FLAGS)
    except OSError as error:
        if error.errno == errno.EBUSY:
            text = f"device {name} of this network is open in another program: stop that; tried again until then"
            raise Occupied(text) from None
        raise _refused(f"device {name}", error) from None


def create(name: str) -> int:
    """A descriptor for a new device, which goes with it until `persist`. It is called `name`, or if that is "" or
    taken the first flannel%d that is free. Raises KernelRefused."""
    for wish in (name, TEMPLATE) if name else (TEMPLATE,):
        try:
            return _opened(wish, FLAGS | k.IFF_TUN_EXCL)
        except OSError as error:
            if error.errno == errno.EBUSY and wish != TEMPLATE:
                continue
            raise _refused("a new TUN device", error) from None
    raise AssertionError("the last wish is answered or refused")


def persist(fd: int) -> None:
    """The device of `fd` stays when nobody has it open. Raises KernelRefused."""
    try:
        fcntl.ioctl(fd, k.TUNSETPERSIST, 1)
    except OSError as error:
        raise _refused("keeping the TUN device", error) from None


def _opened(name: str, flags: int) -> int:
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, k.TUNSETIFF, _IFREQ.pack(name.encode(), flags))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _text(name: bytes) -> str:
    return name.rstrip(b"\0").decode("utf-8", "backslashreplace")


def _refused(what: str, error: OSError) -> KernelRefused:
    code = error.errno or 0
    todo = _ADVICE.get(code, "tried again later")
    return KernelRefused(f"{what} refused: {errno.errorcode.get(code, code)}; {todo}", code)
