"""What a fork does with memory that it shares again, each scene in a process of its own: python -m ... SCENE.

`sharing.share` is for good and for the whole process, so no scene can run in the test's own. Each ends with status 0
when everything was as it should be. What must not be shared (what a scene knows better) is in `Notebook`.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import random
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from flannel_multi import sharing

PAGE, MEGABYTE = resource.getpagesize(), 1 << 20
HELD: list[dict[str, Any]] = [
    {"name": f"object {number}", "values": list(range(number % 50)), "text": "x" * number} for number in range(3000)
]
BLOCK = bytearray(os.urandom(4 * MEGABYTE))  # one row of pages
SMALL = [bytearray(os.urandom(300)) for _ in range(8000)]  # theirs is the heap's


class Notebook:
    """Memory that is never given back: true copies of what a scene writes."""

    def __init__(self, text: bytes | bytearray) -> None:
        self._memory = mmap.mmap(-1, len(text))
        self._memory[:] = text

    def write(self, at: int, text: bytes) -> None:
        self._memory[at : at + len(text)] = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytearray) and self._memory[:] == other

    __hash__ = None  # type: ignore[assignment]


def uss() -> int:
    return int(psutil.Process().memory_full_info().uss)


def is_refused() -> bool:
    try:
        sharing.share()
    except OSError:
        return True
    return False


def in_fork(scene: Callable[[], None]) -> None:
    """Runs it in a child; its failure is ours."""
    pid = os.fork()
    if pid == 0:
        try:
            scene()
        except BaseException:  # noqa: BLE001  # the edge of the process
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def put_back() -> None:
    """What is written over and put back costs nothing in the end, and reads as before."""
    text = bytes(BLOCK)

    def scene() -> None:
        before = uss()
        for at in range(0, len(BLOCK), PAGE):
            BLOCK[at : at + PAGE] = bytes(PAGE)
        assert uss() > before + 3.9 * MEGABYTE
        for at in range(0, len(BLOCK), PAGE):
            BLOCK[at : at + PAGE] = text[at : at + PAGE]
        assert sharing.give_back() > len(BLOCK) // PAGE - 2
        assert uss() < before + MEGABYTE // 2
        assert text == BLOCK

    sharing.share()
    in_fork(scene)


def scribble() -> None:
    """A thousand times: write anywhere, put some back, give back, make and drop objects; nothing is ever wrong."""
    text, rng = bytes(BLOCK), random.Random(1)
    book, told = Notebook(BLOCK), json.dumps(HELD)

    def write(at: int, words: bytes) -> None:
        BLOCK[at : at + len(words)] = words
        book.write(at, words)

    def scene() -> None:
        made: list[object] = []
        for turn in range(1000):
            for _ in range(20):
                at = rng.randrange(len(BLOCK) - 2 * PAGE)
                write(at, rng.randbytes(rng.randrange(2 * PAGE)))
            for _ in range(rng.randrange(40)):
                at = rng.randrange(len(BLOCK) // PAGE) * PAGE
                write(at, text[at : at + 3 * PAGE])
            made = [*made[rng.randrange(len(made) + 1) :], *({turn: str(turn) * 9} for _ in range(rng.randrange(500)))]
            sharing.give_back()
            if turn % 50 == 0:
                assert book == BLOCK
                assert json.dumps(HELD) == told
                gc.collect()
        assert book == BLOCK

    sharing.share()
    in_fork(scene)


def references() -> None:
    """References taken before a page is given back, and let go of after it, end nobody, however often."""

    def scene() -> None:
        told = json.dumps(HELD)
        for _ in range(200):
            taken = [[each, each["name"], each["values"], each["text"]] for each in HELD for _ in range(5)]
            sharing.give_back()
            del taken
            gc.collect()
        assert json.dumps(HELD) == told
        for each in HELD:
            each["name"] = None  # the last reference that is known of
            each["values"].append(each)
        sharing.give_back()
        gc.collect()
        sharing.give_back()

    sharing.share()
    in_fork(scene)


def held() -> None:
    """A reference that a fork holds on what its parent made does not keep a page from being shared."""

    def scene() -> None:
        sharing.give_back()
        before, taken = uss(), list(SMALL)
        touched = uss() - before
        assert touched > MEGABYTE // 2, touched
        sharing.give_back()
        assert uss() < before + touched // 4
        assert len(taken) == len(SMALL)

    sharing.share()
    gc.freeze()
    in_fork(scene)


def another_there() -> None:
    """Memory that the heap has let go of, and that somebody else has by now, is not ours to drop."""
    text = bytes(BLOCK)
    memory = mmap.mmap(-1, len(text), flags=mmap.MAP_PRIVATE)
    memory[:] = text

    def scene() -> None:
        place = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        memory.close()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        start = (place + PAGE - 1) // PAGE * PAGE
        pages = len(text) // PAGE - 2
        anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10  # MAP_FIXED
        assert libc.mmap(start, pages * PAGE, 3, anonymous, -1, 0) == start
        ctypes.memmove(start, text[start - place :], pages * PAGE)  # the very same text, even
        sharing.give_back()
        assert ctypes.string_at(start, pages * PAGE) == text[start - place :][: pages * PAGE]

    sharing.share()
    in_fork(scene)


def grown() -> None:
    """Large blocks made before may grow after beyond all that is shared, in a fork and in the parent, wherever malloc
    had them."""
    libc = ctypes.CDLL(None)
    blocks: list[tuple[bytearray, list[int]]] = []
    for mappings in (65536, 0):  # as before the import of the extension, and as since then
        assert libc.mallopt(-4, mappings) == 1  # M_MMAP_MAX
        blocks += [(bytearray(os.urandom(MEGABYTE)), list(range(MEGABYTE // 8))) for _ in range(2)]
    made = [(bytes(block), tuple(numbers)) for block, numbers in blocks]
    times = sharing.share() // MEGABYTE + 2

    def scene() -> None:
        for (block, numbers), (text, told) in zip(blocks, made, strict=True):
            block *= times
            assert block == text * times
            del block[MEGABYTE:]
            numbers *= times
            assert tuple(numbers) == told * times
            del numbers[len(told) :]
        sharing.give_back()
        for (block, numbers), (text, told) in zip(blocks, made, strict=True):
            assert (bytes(block), tuple(numbers)) == (text, told)

    in_fork(scene)
    scene()


def sealed() -> None:
    """Nobody can write to what all forks read, or cut it off, root neither."""
    sharing.share()
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:flanneld" in line]
    assert lines
    fd = os.open(f"/proc/self/map_files/{lines[0].split()[0]}", os.O_RDWR)
    tries = (lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 1 << 40), lambda: os.pwrite(fd, b"x", 0))
    for attempt in tries:
        try:
            attempt()
        except PermissionError:
            continue
        raise AssertionError


def signals() -> None:
    """A handler that interrupts anything writes nothing that is lost."""
    counted = mmap.mmap(-1, PAGE)

    def scene() -> None:
        def tick(number: int, frame: object) -> None:
            SMALL[0][:4] = (int.from_bytes(SMALL[0][:4], "big") + 1).to_bytes(4, "big")
            counted[:4] = SMALL[0][:4]

        SMALL[0][:4] = bytes(4)
        signal.signal(signal.SIGALRM, tick)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(2000):
            sharing.give_back()
            assert counted[:4] == SMALL[0][:4]
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert int.from_bytes(counted[:4], "big") > 100

    SMALL[0][:4] = bytes(4)
    sharing.share()
    in_fork(scene)


def threads() -> None:
    """With a second thread nothing is moved or given back: it may write at any time."""
    end = threading.Event()

    def end_of(thread: threading.Thread) -> None:
        end.set()
        thread.join()
        while len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208  # the kernel's side of it ends a moment later
            os.sched_yield()

    def scene() -> None:
        thread = threading.Thread(target=end.wait)
        thread.start()
        assert sharing.give_back() == 0
        end_of(thread)
        assert sharing.give_back() > 0

    waiting = threading.Thread(target=end.wait)
    waiting.start()
    assert is_refused()
    end_of(waiting)
    end.clear()
    sharing.share()
    in_fork(scene)


def refused() -> None:
    """A kernel that refuses the file or its mapping leaves everything as it was."""
    told, text = json.dumps(HELD), bytes(BLOCK)
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS):
        before = resource.getrlimit(limit)
        resource.setrlimit(limit, (3 if limit == resource.RLIMIT_NOFILE else 64 * MEGABYTE, before[1]))
        assert is_refused()
        resource.setrlimit(limit, before)
        assert sharing.give_back() == 0
    assert (json.dumps(HELD), bytes(BLOCK)) == (told, text)
    sharing.share()
    in_fork(lambda: None if sharing.give_back() > 0 else sys.exit(1))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
