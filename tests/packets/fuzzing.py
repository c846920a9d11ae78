"""Fuzzes the whole user path: `python -m tests.packets.fuzzing SECONDS [CORPUS]`. Exit status 0: nothing found.

It starts from the corpus in the tree and keeps what it learns in CORPUS, or nowhere. What breaks the path is written to
the current folder; put it into tests/packets/corpus, where test_corpus.py holds us to it, when the bug is mended.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.packets.building import HERE, WHOLE, build

CORPUS = HERE / "corpus"
INPUT_BYTES = 4096  # the longest story: its packets must not outnumber their 16-bit serials
WRAPPED = (
    "read write writev recvmmsg sendmmsg sendmsg poll ioctl setsockopt fcntl socket eventfd close fstat mmap munmap "
    "pthread_create pthread_join pthread_setname_np"
)


def build_fuzzer(target: Path) -> Path:
    """The target with the path and its made-up kernel. Raises AssertionError when it does not compile."""
    sources = [str(HERE / name) for name in ("fuzz_kernel.c", "fuzz_start.c", "fuzz_packets.c")]
    wraps = [f"-Wl,--wrap={call}" for call in WRAPPED.split()]
    return build(HERE / "fuzz.c", target, WHOLE, *sources, *wraps, sanitizers="fuzzer,address,undefined")


def main(seconds: str, corpus: str = "") -> int:
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = build_fuzzer(Path(folder) / "fuzzer")
        found = Path(corpus) if corpus else Path(folder) / "found"
        found.mkdir(exist_ok=True)
        limits = (f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES}", "-print_final_stats=1", "-verbosity=0")
        return subprocess.run([fuzzer, *limits, found, CORPUS], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
