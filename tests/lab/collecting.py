"""flanneld whose workers collect their garbage when they are told to, without a hook in the product.

SIGUSR1      a full collection, and a line in the log when it is over
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Mapping
from socket import socket
from types import FrameType

from flannel_multi import log
from flannel_multi.main import Entry, run, worker_entry
from flannel_multi.options import NetworkOptions, Options

PROGRAM = (sys.executable, "-m", "tests.lab.collecting")
COLLECT, COLLECTED = signal.SIGUSR1, "garbage collected"


def entry(options: Options) -> Entry:
    """The real life of a worker, with the handler."""
    real = worker_entry(options)

    def enter(network: NetworkOptions, sock: socket, inherited: Mapping[str, int]) -> int:
        signal.signal(COLLECT, _collect)
        return real(network, sock, inherited)

    return enter


def _collect(number: int, frame: FrameType | None) -> None:
    gc.collect()
    log.info(COLLECTED)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ, entry=entry))
