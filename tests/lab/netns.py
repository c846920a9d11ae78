"""Running a function inside a named network namespace, without leaving ours."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

_CLONE_NEWNET = 0x40000000
T = TypeVar("T")


def inside(netns: str, call: Callable[[], T]) -> T:
    """What `call` returns, run in namespace `netns` ("" is ours). setns(2) holds for the calling thread alone."""
    if not netns:
        return call()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            handle = os.open(f"/run/netns/{netns}", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {netns}")
            finally:
                os.close(handle)
            results.append(call())
        except BaseException as error:  # noqa: BLE001  carried over to the caller's thread and raised there
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
