"""Files a worker leaves on disk: all or nothing, readable for all, and a lock that only a living worker holds."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from flannel_multi.model.errors import Conflict


def read(path: str) -> bytes | None:
    """The file's content, or None when it cannot be read: absent and unreadable start a network the same way."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def replace(path: str, content: bytes, *, mode: int = 0o644) -> bool:
    """Puts `content` at `path` by write beside, fsync, rename, fsync of the folder. False: it stood there already.

    Mode 0644 and folders 0755 whatever the umask (spec §0). A symlink at `path` is replaced, not followed.
    Raises OSError.
    """
    target = Path(path)
    if not target.is_symlink() and read(path) == content:
        return False
    make_folder(target.parent)
    beside = target.with_name("." + target.name)
    with_fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(with_fd, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(with_fd, view) :]
        os.fsync(with_fd)
    finally:
        os.close(with_fd)
    beside.rename(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def make_folder(folder: Path) -> None:
    """Creates `folder` and its missing parents, mode 0755 whatever the umask. Raises OSError."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for part in reversed(missing):
        try:
            part.mkdir(mode=0o755)
            part.chmod(0o755)
        except FileExistsError:
            pass  # a sibling worker was first


def lock(path: str) -> int:
    """Takes the network's lock and writes the own pid into it; the descriptor must stay open for life.

    Raises Conflict naming the pid that holds it, OSError when the file cannot be made.
    """
    make_folder(Path(path).parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise Conflict(
            f"lock {path} is held by pid {holder}: another daemon runs this network; stop it, or use another --run-dir"
        ) from None
    os.fchmod(fd, 0o644)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
