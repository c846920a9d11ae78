"""How much a stranger may cost the server: bytes, seconds and connections."""

from __future__ import annotations

import resource
from dataclasses import dataclass

SPARE_FILES = 200  # descriptors kept for the store, the log, listeners and those just being turned away


@dataclass(frozen=True)
class Limits:
    """Bounds of one connection and of all; see each field for why it is what it is."""

    head_bytes: int = 16 << 10  # our clients' heads have 200; proxies in front of us add a few hundred
    body_bytes: int = (1 << 20) + 1024  # a config may have 1 MiB, which is etcd's own bound for a value, and its frame
    head_s: float = 10.0  # from accept, or from the first byte of a later request: a head is one packet
    body_s: float = 30.0  # 1 MiB takes that long at 35 KB/s
    idle_s: float = 120.0  # clients ask again at once after a long poll; Go's pool lets go after 90 s
    handshake_s: float = 10.0  # what flannel's own clients grant (spec §6.8)
    stalled_s: float = 30.0  # a client that takes nothing of its answer for so long is gone, or means no good
    linger_s: float = 1.0  # after the last answer, for the client to close: see `Lingering`
    connections: int = 10_000  # about 4 KB each while idle

    def allowed_connections(self) -> int:
        """How many connections there may be under RLIMIT_NOFILE, of which the soft part is raised as far as needed."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.connections + SPARE_FILES
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return max(1, min(self.connections, wanted - SPARE_FILES))
