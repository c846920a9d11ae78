"""Kernel settings below /proc/sys, in the network namespace of this process.

Plain descriptors: text files bring codecs and buffers along, for one character.
"""

from __future__ import annotations

import os

from flannel_worker.kernel.objects import Sysctl
from flannel_worker.kernel.requests import Refusal

_LONGEST = 4096  # bytes of a setting that we read


def standing(wanted: Sysctl) -> Sysctl:
    """The setting as it is; as wanted when the kernel has none of that name (IPv6 off): nothing to do then."""
    try:
        fd = os.open(_path(wanted.name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return wanted
    try:
        return Sysctl(wanted.name, os.read(fd, _LONGEST).decode("utf-8", "replace").strip())
    except OSError:
        return wanted
    finally:
        os.close(fd)


def write(wanted: Sysctl) -> Refusal | None:
    """Sets it; answers what the kernel said against it. One that went away meanwhile is none of our business."""
    try:
        fd = os.open(_path(wanted.name), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _refusal(error)
    try:
        os.write(fd, wanted.value.encode())
    except OSError as error:
        return _refusal(error)
    finally:
        os.close(fd)
    return None


def _refusal(error: OSError) -> Refusal:
    return Refusal(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))


def _path(name: str) -> str:
    return f"/proc/sys/{name}"
