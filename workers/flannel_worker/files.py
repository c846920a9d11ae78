"""Files a worker leaves on disk: all or nothing, readable for all, and a lock that only a living worker holds.

Plain os calls rather than pathlib: each of its functions that runs in a worker copies pages that all workers share.
"""

from __future__ import annotations

import fcntl
import os
import stat

from flannel_multi.model.errors import Conflict

_READ_BYTES = 64 * 1024


def read(path: str) -> bytes | None:
    """The file's content, or None when it cannot be read: absent and unreadable start a network the same way."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    parts = []
    try:
        while part := os.read(fd, _READ_BYTES):
            parts.append(part)
    except OSError:
        return None
    finally:
        os.close(fd)
    return b"".join(parts)


def replace(path: str, content: bytes, *, mode: int = 0o644) -> bool:
    """Puts `content` at `path` by write beside, fsync, rename, fsync of the folder. False: it stood there already.

    Mode 0644 and folders 0755 whatever the umask (spec §0). A symlink at `path` is replaced, not followed.
    Raises OSError.
    """
    if not os.path.islink(path) and read(path) == content:
        if stat.S_IMODE(os.stat(path).st_mode) != mode:
            os.chmod(path, mode)
        return False
    parent, name = os.path.split(path)
    make_folder(parent)
    beside = os.path.join(parent, "." + name)
    with_fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(with_fd, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(with_fd, view) :]
        os.fsync(with_fd)
        os.rename(beside, path)
    except OSError:
        remove(beside)
        raise
    finally:
        os.close(with_fd)
    folder = os.open(parent or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def remove(path: str) -> None:
    """Removes the file; one that is not there, or cannot be removed, is left to whoever looks next."""
    try:
        os.unlink(path)
    except OSError:
        pass


def stamp(path: str) -> tuple[int, ...] | None:
    """What changes when somebody replaces or removes the file; None when it is not there."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def make_folder(folder: str) -> None:
    """Creates `folder` and its missing parents, mode 0755 whatever the umask. Raises OSError."""
    if not folder or os.path.isdir(folder):
        return
    make_folder(os.path.dirname(folder))
    try:
        os.mkdir(folder, mode=0o755)
        os.chmod(folder, 0o755)
    except FileExistsError:
        pass  # a sibling worker was first


def lock(path: str) -> int:
    """Takes the network's lock and writes the own pid into it; the descriptor must stay open for life.

    Raises Conflict naming the pid that holds it, OSError when the file cannot be made.
    """
    make_folder(os.path.dirname(path))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(fd, 0o644)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise Conflict(
            f"lock {path} is held by pid {holder}: another daemon runs this network; stop it, or use another --run-dir"
        ) from None
    except OSError:
        os.close(fd)  # else the lock stays ours, and the next try fails on it
        raise
    return fd
