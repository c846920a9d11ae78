"""The kernel's file system of pinned maps, and our folders in it (man 8 bpftool-map; kernel: kernel/bpf/inode.c).

Namespaces share one /sys/fs/bpf when they share a mount namespace, so folders bear the network namespace's number:

    /sys/fs/bpf/flannel/<network namespace>/networks/<network>/   config, peers, traffic, verdicts
    /sys/fs/bpf/flannel/<network namespace>/uplinks/<ifindex>/    endpoints, verdicts of the XDP program

`ip netns exec` gives what it runs a /sys of its own, so pins made in there vanish with it; the programs stay attached.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = "/sys/fs/bpf"
_MAGIC = 0xCAFE4A11  # linux/magic.h: BPF_FS_MAGIC
_libc = ctypes.CDLL(None, use_errno=True)


def network_folder(name: str) -> str:
    """Folder of network `name`, made when absent. Raises OSError."""
    return _made(_network(name))


def left_behind(name: str) -> bool:
    """Whether network `name` has pinned maps here."""
    return Path(_path(_network(name)), "config").exists()


def uplink_folder(ifindex: int) -> str:
    """Folder of what the networks of one uplink share, made when absent. Raises OSError."""
    return _made(f"uplinks/{ifindex}")


def holds(folder: str, name: str) -> bool:
    """Whether something is pinned there under that name."""
    return Path(folder, name).exists()


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """No other worker is in the same folder meanwhile. Held for a few system calls, so waiting is short."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def clear(folder: str) -> None:
    """Unpins what is in `folder`, and removes it. Raises OSError."""
    unpin(folder)
    with contextlib.suppress(FileNotFoundError):
        Path(folder).rmdir()


def unpin(folder: str) -> None:
    """Raises OSError."""
    for pin in Path(folder).iterdir() if Path(folder).is_dir() else ():
        pin.unlink(missing_ok=True)


def _network(name: str) -> str:
    return "networks/" + name.replace(".", "%2e")  # the kernel reserves dots; % is in no network's name


def _path(place: str) -> str:
    return f"{ROOT}/flannel/{Path('/proc/thread-self/ns/net').stat().st_ino}/{place}"


def _made(place: str) -> str:
    _mount()
    folder = _path(place)
    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _mount() -> None:
    try:
        if _kind_of(ROOT) == _MAGIC:
            return
        if _libc.mount(b"bpf", ROOT.encode(), b"bpf", 0, b"mode=0700"):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except OSError as error:
        todo = f"mount it before flanneld starts: mount -t bpf bpf {ROOT}"
        if error.errno == errno.ENOENT:
            todo = "mount /sys, and build the kernel with CONFIG_BPF_SYSCALL"
        raise OSError(error.errno, f"no bpf file system at {ROOT} ({error.strerror}); {todo}") from None


def _kind_of(path: str) -> int:
    """f_type of statfs(2), its first word, which Python's os.statvfs does not tell."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.statfs(path.encode(), buffer):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return ctypes.c_long.from_buffer(buffer).value
