"""Error classes, each named after who must act.

Every class carries the network's name ("" until the edge that knows it adds it), and a message that says what was
being done, on which object, what was answered and what to do. Nothing here is raised as `FlannelError` itself.
"""

from __future__ import annotations


class FlannelError(Exception):
    """Base of all errors that a network can meet; never raised itself."""

    def __init__(self, message: str) -> None:
        if type(self) is FlannelError:
            raise TypeError("raise one of FlannelError's subclasses: the class says who must act")
        super().__init__(message)

    @property
    def message(self) -> str:
        return str(self.args[0])


class ConfigError(FlannelError):
    """The network's config is wrong. The operator edits the key; trying again is of no use until it changes.

    `flannel` is what flannel itself says of it (spec §2.4), for answers over HTTP; ours when it says nothing.
    """

    def __init__(self, message: str, flannel: str = "") -> None:
        super().__init__(message)
        self.flannel = flannel or message


class StoreUnavailable(FlannelError):
    """No answer within the deadline. Nobody need act: the caller keeps its lease and tries again.

    If the store did answer, and answered no, see `StoreRefused`.
    """


class StoreRefused(FlannelError):
    """The store answered, and said no (permission, gateway off, out of space). The operator must act on the store.

    The caller keeps its lease and goes on asking, as with `StoreUnavailable`, but says this text.
    """


class Compacted(FlannelError):
    """The store no longer holds the history a watch asked for. Take a snapshot and watch from there."""


class LeaseLost(FlannelError):
    """The own lease is gone, or its key names another holder. Acquire again; nothing was written."""


class KeyAbsent(FlannelError):
    """The key that was to be changed is not there. The caller named a lease or config that does not exist.

    `key` is the store's full key, `revision` the point of its history at which it was absent.
    """

    def __init__(self, key: str, revision: int) -> None:
        super().__init__(f"100: Key not found ({key}) [{revision}]")
        self.key = key
        self.revision = revision


class LeaseHeld(FlannelError):
    """The lease has another holder, whose public IP is `holder`; nothing was written. If our own, see `LeaseLost`."""

    def __init__(self, subnet: str, holder: str) -> None:
        super().__init__(f"lease {subnet} is held by {holder}")
        self.holder = holder


class NoSubnetLeft(FlannelError):
    """Every subnet between SubnetMin and SubnetMax is leased. The operator frees one or widens the network."""


class Conflict(FlannelError):
    """Another network, or something on this host, holds a resource this network needs."""


class Occupied(Conflict):
    """Another program has what this network needs, and no event tells when it lets go: tried again with backoff."""


class InterfaceMissing(FlannelError):
    """No usable external interface yet. Wait for a netlink event; see spec §0."""


class KernelRefused(FlannelError):
    """The kernel refused one change. Carries the errno; the reconciler plans again from a new snapshot."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class NotBuiltYet(FlannelError):
    """A documented feature that this release does not have. Refused, never accepted in silence."""
