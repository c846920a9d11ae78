"""Hearing that the store file changed: inotify, by ctypes.

A change of the log's bytes comes before the COMMIT can be seen. So who has committed touches the times of the store
file (`Database`), and that is what is watched for. A file that is moved away, replaced or deleted is heard of as well.
"""

from __future__ import annotations

import ctypes
import os

_ATTRIB, _DELETE_SELF, _MOVE_SELF = 0x4, 0x400, 0x800  # inotify(7)
_EVENTS = _ATTRIB | _DELETE_SELF | _MOVE_SELF
_libc = ctypes.CDLL(None, use_errno=True)  # made once, before the workers are forked


class Bell:
    """One inotify descriptor. Raises OSError when the kernel gives none (fs.inotify.max_user_instances: often 128)."""

    def __init__(self) -> None:
        self.fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def hang(self, path: str) -> None:
        """Listens to the file that is at `path` now, besides what went from there. Raises OSError."""
        if _libc.inotify_add_watch(self.fd, os.fsencode(path), _EVENTS) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def hush(self) -> None:
        """Takes what has been heard. That it rang is all that matters."""
        try:
            os.read(self.fd, 65536)
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self.fd)
