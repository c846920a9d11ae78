"""flanneld whose workers can be made to fail from outside, without a hook in the product.

The command hands the life of a worker to its supervisor as a value; this program hands it the real one, with four
signal handlers set before it starts:

    SIGUSR1      ends the worker by os._exit(7)
    SIGUSR2      raises an error in the middle of the worker's loop that nothing handles
    SIGRTMIN     allocates until the memory limit (RLIMIT_DATA, set from outside by prlimit) refuses
    SIGRTMIN+1   starts two sleeping programs, one in the worker's session and one in a session of its own

Its workers give memory back two hundred times as often as real ones.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from socket import socket
from types import FrameType

from flannel_multi.main import Entry, run, worker_entry
from flannel_multi.options import NetworkOptions, Options
from flannel_worker import main as worker

PROGRAM = (sys.executable, "-m", "tests.lab.sabotage")
EXIT, RAISE, EAT, BREED = signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN, signal.SIGRTMIN + 1
STATUS = 7
_CHUNK = 1 << 20
_hoard: list[bytearray] = []


class Sabotage(RuntimeError):
    """What no code of the product catches."""


def entry(options: Options) -> Entry:
    """The real life of a worker, with the handlers."""
    real = worker_entry(options)
    worker.FIRST_REST_S = worker.REST_S = 0.05

    def enter(network: NetworkOptions, sock: socket, inherited: Mapping[str, int]) -> int:
        signal.signal(EXIT, lambda number, frame: os._exit(STATUS))
        signal.signal(RAISE, _raise)
        signal.signal(EAT, _eat)
        signal.signal(BREED, _breed)
        return real(network, sock, inherited)

    return enter


def _raise(number: int, frame: FrameType | None) -> None:
    raise Sabotage("an error nobody thought of")


def _eat(number: int, frame: FrameType | None) -> None:
    """MemoryError comes from the allocation itself, as it would anywhere in the worker."""
    while True:
        _hoard.append(bytearray(_CHUNK))


def _breed(number: int, frame: FrameType | None) -> None:
    for setsid in (False, True):
        os.posix_spawn("/bin/sleep", ["sleep", "1000"], dict(os.environ), setsid=setsid)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ, entry=entry))
