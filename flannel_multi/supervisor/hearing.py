"""One datagram of a worker, with the descriptor that may have come with it."""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

from flannel_multi.model.messages import MAX_BYTES, Up, decode

_INT = struct.Struct("i")
# Room for one: what is more the kernel drops, and says so. CMSG_LEN, since the padding of CMSG_SPACE takes a second.
_ROOM = socket.CMSG_LEN(_INT.size)


class Letter(NamedTuple):
    """`fd` belongs to whoever receives this; it is closed at an exec."""

    message: Up
    fd: int | None


def receive(sock: socket.socket) -> Letter | None:
    """The next message, None at the end of file.

    Raises BlockingIOError when there is none, OSError, and ValueError for what is no message of ours: foreign bytes,
    several descriptors, or one that this process has no room for. No descriptor is left open then.
    """
    datagram, ancillary, flags, _ = sock.recvmsg(MAX_BYTES, _ROOM, socket.MSG_CMSG_CLOEXEC)
    fd: int | None = None
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            (fd,) = _INT.unpack(data)
    try:
        if flags & socket.MSG_CTRUNC:
            raise ValueError("a message with more descriptors than one, or than this process can open")
        if not datagram and fd is None:
            return None
        message = decode(datagram)
    except ValueError:
        if fd is not None:
            os.close(fd)
        raise
    return Letter(message, fd)  # type: ignore[arg-type]  # a worker is of this very code: Up only
