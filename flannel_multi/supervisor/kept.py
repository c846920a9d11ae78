"""Descriptors that outlive the worker that handed them up, by name. They are opaque here: never read, written or asked.

The names are those of systemd's descriptor store, and so is the life: kept until replaced or let go, else as long as
the supervisor lives.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from flannel_multi.model.fdnames import role_of
from flannel_multi.model.messages import Keep, LetGo, Up

MOST = 8  # of one network


def refusal(network: str, message: Up, held: Collection[str], *, descriptor: bool) -> str:
    """Why `network` may not say this, "" if it may. `held`: the names that are kept, of all networks; `descriptor`:
    whether one came with the message."""
    if descriptor != isinstance(message, Keep):
        return f"{type(message).__name__} {'with' if descriptor else 'without'} a descriptor"
    if not isinstance(message, Keep | LetGo):
        return ""
    if role_of(network, message.name) is None:
        return f"{type(message).__name__} of {message.name[:80]!r}, which is no descriptor's name of this network"
    if isinstance(message, Keep) and message.name not in held:
        own = sum(role_of(network, name) is not None for name in held)
        if own >= MOST:
            return f"Keep of {message.name!r}, with {MOST} descriptors kept already"
    return ""


class Kept:
    """Owns the descriptors of all networks."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def of(self, network: str) -> dict[str, int]:
        """Those of `network`, by role: what its next worker inherits."""
        return {role: fd for name, fd in self._fds.items() if (role := role_of(network, name)) is not None}

    def heard(self, network: str, message: Up, fd: int | None) -> None:
        """Does what Keep and LetGo ask for, and makes sure that nothing else came with a descriptor.

        `fd`, the one that came with the message, belongs to this object from now on. Raises ValueError when the
        message may not be said (`refusal`); `fd` is closed then.
        """
        if why := refusal(network, message, self._fds, descriptor=fd is not None):
            if fd is not None:
                _close(fd)
            raise ValueError(why)
        if isinstance(message, Keep | LetGo) and (former := self._fds.pop(message.name, None)) is not None:
            _close(former)
        if isinstance(message, Keep) and fd is not None:
            self._fds[message.name] = fd


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # what a last flush of it reports is no concern of ours; Linux has closed it all the same
