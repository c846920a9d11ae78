"""Kernel settings below /proc/sys, in the network namespace of this process."""

from __future__ import annotations

import os

from flannel_worker.kernel.objects import Sysctl
from flannel_worker.kernel.requests import Refusal


def standing(wanted: Sysctl) -> Sysctl:
    """The setting as it is; as wanted when the kernel has none of that name (IPv6 off): nothing to do then."""
    try:
        with open(_path(wanted.name), encoding="ascii", errors="replace") as file:
            return Sysctl(wanted.name, file.read().strip())
    except OSError:
        return wanted


def write(wanted: Sysctl) -> Refusal | None:
    """Sets it; answers what the kernel said against it. One that went away meanwhile is none of our business."""
    try:
        with open(_path(wanted.name), "w", encoding="ascii") as file:
            file.write(wanted.value)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Refusal(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    return None


def _path(name: str) -> str:
    return f"/proc/sys/{name}"
