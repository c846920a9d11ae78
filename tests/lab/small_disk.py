"""A file system of a few hundred KiB that nobody else sees, for what happens when it is full or read-only."""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable
from pathlib import Path

_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_REMOUNT, _MS_REC, _MS_PRIVATE = 1, 32, 0x4000, 0x40000


def on_small_disk(folder: Path, kib: int, story: Callable[[], object]) -> None:
    """Runs `story` in a child that has a tmpfs of `kib` KiB at `folder`. Raises AssertionError with its traceback."""
    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            _libc(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS))
            _mount(b"none", Path("/"), b"", _MS_REC | _MS_PRIVATE)
            _mount(b"tmpfs", folder, b"size=%dk" % kib, 0)
            story()
            status = 0
        except BaseException:  # noqa: BLE001  told to the parent, whatever it is
            os.write(theirs, traceback.format_exc().encode()[-60_000:])
        finally:
            os._exit(status)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said


def remount(folder: Path, *, writable: bool) -> None:
    """In a story: makes the small disk read-only, or writable again."""
    _mount(b"tmpfs", folder, b"", _MS_REMOUNT | (0 if writable else _MS_RDONLY))


def _mount(kind: bytes, folder: Path, data: bytes, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _libc(libc.mount(b"none", os.fsencode(folder), kind, ctypes.c_ulong(flags), data))


def _libc(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
