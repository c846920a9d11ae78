"""Who may do what on a server: decisions over identities, leases and the settings file's [policy.NAME] tables. Pure.

Without client certificates nobody can be told from anybody, and all of flannel's v1 is open, as it is in flannel; to
write configs, which v1 cannot, takes a word of the operator even then. With them, a host has power over leases of its
own address alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.model.v1 import text_of
from flannel_multi.options import Grant
from flannel_multi.server.exchange import Peer

ANYBODY, ANONYMOUS = "*", "anonymous"  # tables that no certificate can name
NAMELESS = "a client whose certificate has no name"


class Forbidden(Exception):
    """Why not, in one line that names what would allow it."""

    def __init__(self, reason: str, identity: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.identity = identity


class Rights:
    """What one peer may do. The verbs raise Forbidden."""

    def __init__(self, policy: Mapping[str, Grant], peer: Peer) -> None:
        self._peer = peer
        self._identity = peer.identity
        if peer.identity is None:
            self.name = ANONYMOUS
            grant = policy.get(ANONYMOUS)
            self._grants = [grant] if grant else [Grant()]
        else:
            own = [name for name in peer.identity.names if name in policy and name not in (ANYBODY, ANONYMOUS)]
            names = own or [ANYBODY]
            self.name = (*own, *peer.identity.names, NAMELESS)[0]
            self._grants = [policy[name] for name in names if name in policy] or ([] if policy else [Grant()])

    def joins(self, network: str) -> bool:
        """Whether it may read the network's config and leases. `network` is "_" for the unnamed one."""
        return self._peer.local or bool(self._in(network))

    def arranges(self, network: str) -> bool:
        """Whether it may make and end reservations, and leases of others."""
        free = self._peer.local or self._identity is None or any(grant.admin for grant in self._in(network))
        return self.joins(network) and free

    def join(self, network: str) -> None:
        """To read the network's config and leases."""
        if not self.joins(network):
            raise self._no(f"may not join network {network}; see networks in [policy.{self._table}]")

    def hold(self, network: str, public_ip: int) -> None:
        """To take, renew or give back a lease that names `public_ip`."""
        self.join(network)
        if self._peer.local or self._identity is None or public_ip in self._identity.addresses:
            return
        if not any(grant.admin or _holds(grant.public_ips, public_ip) for grant in self._in(network)):
            raise self._no(
                f"may not hold a lease of {format_ip(public_ip)}: its certificate has no such IP address, and "
                f"public-ips in [policy.{self._table}] does not name it"
            )

    def arrange(self, network: str) -> None:
        """To make and end reservations, and leases of others."""
        self.join(network)
        if not self.arranges(network):
            raise self._no(f"may not change reservations of network {network}; {self._admin}")

    def configure(self, network: str) -> None:
        """To write and delete the network's config."""
        self.join(network)
        if not self._peer.local and not any(grant.admin for grant in self._in(network)):
            raise self._no(f"may not change the config of network {network}; {self._admin}")

    @property
    def _table(self) -> str:
        if self._identity is None:
            return ANONYMOUS
        return text_of(self.name if self._identity.names else ANYBODY)  # a JSON string is one of TOML too

    @property
    def _admin(self) -> str:
        return f"that takes admin = true in [policy.{self._table}]"

    def _in(self, network: str) -> list[Grant]:
        return [grant for grant in self._grants if any(fnmatchcase(network, glob) for glob in grant.networks)]

    def _no(self, reason: str) -> Forbidden:
        return Forbidden(f"{self.name} {reason}", self.name)


def _holds(networks: tuple[tuple[int, int], ...], address: int) -> bool:
    return any(Subnet(base, length).holds(address) for base, length in networks)
