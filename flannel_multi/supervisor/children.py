"""The living workers: their descriptors on the loop's epoll, what they say, what they are told, how they end.

What a worker hands up to outlive it (`kept`) goes to its next incarnation, however it died.
"""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable, Mapping

from flannel_multi import log
from flannel_multi.model.messages import Down, Keep, LetGo, Up, encode
from flannel_multi.supervisor import process
from flannel_multi.supervisor.hearing import receive
from flannel_multi.supervisor.kept import Kept

WORDS_A_TURN = 32  # messages read from one worker before the others have their turn


class Children:
    """`heard` is called for each word of a worker but those about descriptors, which are dealt with here; `ended` with
    the cause once it is reaped; never after that."""

    def __init__(
        self,
        epoll: select.epoll,
        *,
        heard: Callable[[str, Up], None],
        ended: Callable[[str, str], None],
        kills_strays: bool,
    ) -> None:
        self._epoll = epoll
        self._heard = heard
        self._ended = ended
        self._kills_strays = kills_strays
        self._children: dict[str, process.Child] = {}
        self._by_fd: dict[int, str] = {}
        self._kept = Kept()

    def of(self, fds: dict[int, int]) -> list[tuple[int, str]]:
        """Which of the descriptors that are ready belong to which worker."""
        return [(fd, self._by_fd[fd]) for fd in fds if fd in self._by_fd]

    def spawn(self, name: str, incarnation: int, entry: Callable[[socket.socket, Mapping[str, int]], int]) -> None:
        """`entry` gets the worker's end of its socketpair, and by role what its predecessors handed up.

        Raises OSError when the kernel refuses a process or a descriptor; nothing is left of it then.
        """
        inherited = self._kept.of(name)
        child = process.spawn(
            name, incarnation, lambda sock: entry(sock, inherited), inherits=frozenset(inherited.values())
        )  # fmt: skip
        try:
            for fd in (child.sock.fileno(), child.pidfd):
                self._epoll.register(fd, select.EPOLLIN)
                self._by_fd[fd] = name
        except OSError:
            process.send_signal(child, signal.SIGKILL)
            self._hang_up(child)
            process.reap(child)
            child.sock.close()
            raise
        self._children[name] = child

    def signal(self, name: str, *numbers: signal.Signals) -> None:
        """One that has ended already gets none."""
        if (child := self._children.get(name)) is not None:
            for number in numbers:
                process.send_signal(child, number)

    def send(self, name: str, message: Down) -> None:
        """A worker that has let a whole queue pile up does not read: it is ended like a hung one."""
        child = self._children.get(name)
        if child is None:
            return
        try:
            child.sock.send(encode(message))
        except BlockingIOError:
            log.error("killed, since it does not read what it is told", about=name or "_")
            process.send_signal(child, signal.SIGKILL)
        except (OSError, ValueError) as error:
            log.warning(f"{type(message).__name__} not delivered: {error}", about=name or "_")

    def hear_if(self, name: str, fd: int) -> None:
        """Reads what the worker said, if `fd` is its socket."""
        child = self._children.get(name)
        if child is not None and fd == child.sock.fileno():
            self._hear(name, child)

    def bury_if(self, name: str, fd: int) -> None:
        """If `fd` is its pidfd the worker has ended: its last words, its reap, and what follows from it."""
        child = self._children.get(name)
        if child is None or fd != child.pidfd:
            return
        while child.sock.fileno() in self._by_fd:
            self._hear(name, child)
            if not _has_words(child.sock):
                self._hang_up(child)
        self._epoll.unregister(child.pidfd)
        del self._by_fd[child.pidfd], self._children[name]
        cause = process.reap(child)
        child.sock.close()
        self._ended(name, cause)
        self.sweep()

    def sweep(self) -> None:
        """Reaps what dead workers left."""
        workers = {child.pid for child in self._children.values()}
        if strays := process.sweep(workers, kill=self._kills_strays):
            log.warning(f"reaped {strays} processes that a dead worker left")

    def _hear(self, name: str, child: process.Child) -> None:
        """The end of file is not a word: only the pidfd says that it died."""
        for _ in range(WORDS_A_TURN):
            try:
                letter = receive(child.sock)
                if letter is not None:
                    self._kept.heard(name, *letter)
            except BlockingIOError:
                return
            except OSError:
                letter = None
            except ValueError as error:
                log.error(f"killed, since it does not speak our language: {error}", about=name or "_")
                process.send_signal(child, signal.SIGKILL)
                letter = None
            if letter is None:
                self._hang_up(child)
                return
            if not isinstance(letter.message, Keep | LetGo):
                self._heard(name, letter.message)

    def _hang_up(self, child: process.Child) -> None:
        """Stops listening to the socketpair; it is closed at the reap."""
        if self._by_fd.pop(child.sock.fileno(), None) is not None:
            self._epoll.unregister(child.sock)


def _has_words(sock: socket.socket) -> bool:
    """True while something that a dead worker said is unread."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
