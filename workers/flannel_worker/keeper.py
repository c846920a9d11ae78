"""The descriptors of this network that outlive its worker: the supervisor keeps them and gives them to the next one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from flannel_multi.model.fdnames import fd_name
from flannel_multi.model.messages import Keep, LetGo, Up


class Keeper:
    """By role, a word of one to 16 letters a-z; at most 8 of them. `inherited`: what this worker was born with.

    What is kept is one thing with two holders: reading or setting it here is seen there, and it ends only when both
    have closed it.
    """

    def __init__(self, send: Callable[[Up, int | None], None], network: str, inherited: Mapping[str, int]) -> None:
        self._send = send
        self._network = network
        self._held = dict(inherited)

    def held(self, role: str) -> int | None:
        """Inherited, or handed up in this run; None when there is none. The caller does not close it."""
        return self._held.get(role)

    def keep(self, role: str, fd: int) -> None:
        """Hands `fd` up. From now on it belongs to this object, and what was held as `role` before is closed.

        Raises OSError for what is no open descriptor and when there is room for none more, ValueError for a word that
        is no role; nothing has changed then, and `fd` is still the caller's.
        """
        self._send(Keep(fd_name(self._network, role)), fd)
        former, self._held[role] = self._held.get(role), fd
        if former is not None and former != fd:
            os.close(former)

    def let_go(self, role: str) -> None:
        """Closes it here and at the supervisor. One that is not held is no error."""
        if (fd := self._held.pop(role, None)) is not None:
            self._send(LetGo(fd_name(self._network, role)), None)
            os.close(fd)
