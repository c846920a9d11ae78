"""The rehearsal before the first fork leaves nothing behind that a worker must not inherit."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from flannel_worker.rehearsal import rehearse


def test_it_opens_nothing_starts_nothing_and_is_quick() -> None:
    descriptors, threads = os.listdir("/proc/self/fd"), threading.active_count()  # noqa: PTH208
    began_s = time.process_time()
    rehearse()
    assert time.process_time() - began_s < 0.5
    assert (os.listdir("/proc/self/fd"), threading.active_count()) == (descriptors, threads)  # noqa: PTH208
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
