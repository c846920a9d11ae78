"""One worker process: fork, signals by pidfd, the socketpair, the reap. The only module that knows pids.

Three rules hold here. A pid is named by its pidfd, so that no signal reaches a stranger. A child keeps its own end of
the socketpair, what its own predecessors handed up, and nothing else of ours: as long as green held blue's end, blue
would not see us die. And whatever a dead worker left running dies with it: its process group at once, strays by the
sweep (we are their subreaper).
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple, NoReturn

from setproctitle import getproctitle, setproctitle

from flannel_multi import log, sharing

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CRASHED = 70  # EX_SOFTWARE of sysexits.h: the worker met an error nobody had thought of

_libc = ctypes.CDLL(None, use_errno=True)
SIGKILL = int(signal.SIGKILL)
_UNHANDLED = tuple(map(int, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)))


class Child(NamedTuple):
    """A living worker, or one not reaped yet. `sock` is the parent's end of its socketpair, non-blocking."""

    pid: int
    pidfd: int
    sock: socket.socket


def become_supervisor() -> bool:
    """Orphans of our descendants become our children; what is loaded now is for all workers to share.

    Call it once, after all imports and before the first fork. No collection of garbage in a worker touches the pages
    of frozen objects, and what a worker puts back as it was it can share again. Returns True when this process has
    children already (a shell's, before it became us): then an orphan may be one of theirs.
    """
    has_children = bool(_children())
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two to ten descriptors a worker; 1024 would end at 500
    gc.collect()
    sys._clear_type_cache()  # else filling it makes a worker let go of names, and copy the pages they stand on
    getproctitle()  # the first call copies the environment
    try:
        sharing.share()
    except OSError as error:
        log.debug(f"workers keep what they put back: {error}")
    gc.freeze()
    return has_children


def spawn(
    name: str, incarnation: int, entry: Callable[[socket.socket], int], *, inherits: Collection[int] = ()
) -> Child:
    """Forks a worker that runs `entry` with its end of the socketpair, and has that and `inherits` open, no more.

    Raises OSError when the kernel refuses.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        ours.setblocking(False)
        theirs.setblocking(False)
        parent = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # none may meet our handlers there
        try:
            pid = os.fork()
            if pid == 0:
                _live(name, incarnation, entry, theirs, inherits, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            pidfd = os.pidfd_open(pid)  # no race: nobody but us can reap it
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED)
            raise
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(pid, pidfd, ours)


def send_signal(child: Child, number: signal.Signals) -> None:
    """Sends it; a child that has just ended is no error. Never call it for a child that was reaped."""
    try:
        signal.pidfd_send_signal(child.pidfd, number)
    except ProcessLookupError:
        pass


def reap(child: Child) -> str:
    """Ends everything in the dead child's process group, reaps the child, and says how it ended.

    The group is killed first: as long as the leader is a zombie, no stranger can have its number.
    """
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # no group any more, or it ended before it made one
    result = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
    os.close(child.pidfd)
    assert result is not None
    if result.si_code == os.CLD_EXITED:
        return f"exited with status {result.si_status}"
    return f"killed by {signal_name(result.si_status)}"


def signal_name(number: int) -> str:
    """SIGKILL for 9; a number that has no name is said as it is."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def sweep(workers: Collection[int], *, kill: bool) -> int:
    """Reaps children that are none of `workers`, grandchildren a dead worker left, and if told so ends those that still
    run. Returns how many were reaped."""
    for pid in [pid for pid in _children() if kill and pid not in workers]:
        os.kill(pid, signal.SIGKILL)  # our child and not reaped: the number is its own
    reaped = 0
    while (peek := _peek()) is not None and peek not in workers:
        os.waitid(os.P_PID, peek, os.WEXITED)
        reaped += 1
    return reaped


def _peek() -> int | None:
    """A child that has ended, left for whoever is to reap it."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def _children() -> list[int]:
    me = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{me}/children").read_text().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN: zombies are reaped all the same, see _peek
        return []


def _live(
    name: str,
    incarnation: int,
    entry: Callable[[socket.socket], int],
    sock: socket.socket,
    inherits: Collection[int],
    parent: int,
) -> NoReturn:
    """The child's whole life. Never returns into the parent's frames."""
    status = CRASHED
    try:
        _detach(name, incarnation, {sock.fileno(), *inherits}, parent)
        status = entry(sock)
    except BaseException:  # noqa: BLE001  # the edge of the process: say it and end
        try:
            for line in traceback.format_exc().splitlines():
                log.error(line)
        finally:
            os._exit(status)
    os._exit(status)


def _detach(name: str, incarnation: int, keeps: Collection[int], parent: int) -> None:
    """Lets go of everything that is the parent's: session, signals, descriptors but `keeps`, name.

    Plain calls with plain numbers: each library function that runs here copies pages that all workers could share.
    """
    _prctl(PR_SET_PDEATHSIG, SIGKILL)  # at once and for all; a stopped one sees no end of file
    if os.getppid() != parent:
        os._exit(0)  # it died before the line above
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in _UNHANDLED:
        signal.signal(number, signal.SIG_DFL)
    log.for_network(name, incarnation)  # closes the parent's descriptor before its number can be another's
    _close_all_but(keeps)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    faulthandler.enable(file=2)  # SIGABRT shows where a hung worker stands
    setproctitle(f"flanneld: {name or '_'}")
    _call_ourselves(f"fl:{name or '_'}")


def _call_ourselves(title: str) -> None:
    """What top shows: as much of it as fits in 15 characters."""
    try:
        fd = os.open("/proc/self/comm", os.O_WRONLY)
    except OSError:
        return
    os.write(fd, title.encode()[:15])
    os.close(fd)


def _close_all_but(keeps: Collection[int]) -> None:
    for text in os.listdir("/proc/self/fd"):  # noqa: PTH208  # see _detach
        fd = int(text)
        if fd > 2 and fd not in keeps:
            try:
                os.close(fd)
            except OSError:
                pass  # the listing's own


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
