"""What parent and worker say to each other: one JSON object a SOCK_SEQPACKET datagram, versioned.

Up (worker to parent): Said, Beat, Facts, ClaimAsked, ClaimsDropped, Keep, LetGo. Down: Stop, ClaimAnswer, GiveWay,
BlockerGone. A Keep carries one descriptor (SCM_RIGHTS, unix(7)); no other message carries any.
`encode` and `decode` are inverse; `decode` raises ValueError for foreign bytes.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, fields
from typing import Any

from flannel_multi.model.claims import Claim, Clash

VERSION = 1
MAX_BYTES = 60_000  # a datagram must fit the default socket buffer many times over


class Phase(enum.Enum):
    """Where a network stands. The README's table names for each its cause and the event that ends it."""

    STARTING = "starting"
    WAITING_FOR_INTERFACE = "waiting-for-interface"
    WAITING_FOR_CONFIG = "waiting-for-config"
    WAITING_FOR_LEASE = "waiting-for-lease"
    CONFLICT = "conflict"
    READY = "ready"
    DEGRADED = "degraded"
    QUARANTINED = "quarantined"
    STOPPING = "stopping"
    STOPPED = "stopped"
    BACKOFF = "backoff"


WORKER_PHASES = frozenset(
    {
        Phase.WAITING_FOR_INTERFACE,
        Phase.WAITING_FOR_CONFIG,
        Phase.WAITING_FOR_LEASE,
        Phase.CONFLICT,
        Phase.READY,
        Phase.DEGRADED,
        Phase.QUARANTINED,
    }
)  # what a worker may say of itself; the others are facts of the parent


@dataclass(frozen=True)
class Said:
    """The worker is in `phase` now. `reason` is one line for people ("" for a plain ready).

    `serving` is true once lease, kernel state and env file stand, in ready and in degraded alike: what READY=1
    means in single-network mode.
    """

    phase: str
    reason: str = ""
    serving: bool = False


@dataclass(frozen=True)
class Beat:
    """The worker's loop turns. `progress` counts turns since it started: the same number twice is no progress."""

    progress: int


@dataclass(frozen=True)
class Facts:
    """What status shows of a network; each message replaces the one before.

    `expires_at` in Unix seconds, 0 for a reservation.
    """

    subnet: str = ""
    network: str = ""
    backend: str = ""
    device: str = ""
    public_ip: str = ""
    mtu: int = 0
    peers: int = 0
    expires_at: int = 0


@dataclass(frozen=True)
class ClaimAsked:
    """May this network use these host-wide resources? `held` when it runs on them already (known state)."""

    serial: int
    claims: tuple[Claim, ...]
    held: bool = False


@dataclass(frozen=True)
class ClaimsDropped:
    """The network uses none of its claims any more."""


@dataclass(frozen=True)
class Keep:
    """Keep the descriptor that comes with this over my death, and give it to my successor; `name` as in fdnames.

    Under a name that is kept already it takes the place of the older one, which the parent closes.
    """

    name: str


@dataclass(frozen=True)
class LetGo:
    """Close what is kept under `name`, if anything is."""

    name: str


@dataclass(frozen=True)
class ClaimAnswer:
    """Answer to ClaimAsked `serial`: granted when `clashes` is empty. A held claim is granted all the same."""

    serial: int
    clashes: tuple[Clash, ...] = ()


@dataclass(frozen=True)
class GiveWay:
    """An earlier network in the list wants what this one, not yet ready, had been granted: release it."""


@dataclass(frozen=True)
class BlockerGone:
    """Something this network's claim was refused for has been released: ask again."""


@dataclass(frozen=True)
class Stop:
    """End in order: data path, lease and env file stay."""


Up = Said | Beat | Facts | ClaimAsked | ClaimsDropped | Keep | LetGo
Down = Stop | ClaimAnswer | GiveWay | BlockerGone

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Said, Beat, Facts, ClaimAsked, ClaimsDropped, Keep, LetGo, ClaimAnswer, GiveWay, BlockerGone, Stop)
}

# Made once, here and so in the parent, for all workers. `vars`: claims and clashes within a message are dataclasses.
_FIELDS = {name: {item.name: item.type for item in fields(kind)} for name, kind in _KINDS.items()}
_ENCODER = json.JSONEncoder(default=vars)


def encode(message: Up | Down) -> bytes:
    """One datagram. Raises ValueError when it would exceed MAX_BYTES."""
    data = _ENCODER.encode({"v": VERSION, "kind": type(message).__name__, **vars(message)}).encode()
    if len(data) > MAX_BYTES:
        raise ValueError(f"a {type(message).__name__} message of {len(data)} bytes")
    return data


def decode(datagram: bytes) -> Up | Down:
    """The message in `datagram`. Raises ValueError."""
    try:
        value = json.loads(datagram)
    except (RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"no message: {error}") from None
    if not isinstance(value, dict) or value.pop("v", None) != VERSION:
        raise ValueError("no message of this version")
    kind = _KINDS.get(str(value.pop("kind", "")))
    if kind is None:
        raise ValueError("a message of unknown kind")
    known = _FIELDS[kind.__name__]
    try:
        for name, item in list(value.items()):
            if name == "claims":
                value[name] = tuple(_claim(entry) for entry in item)
            elif name == "clashes":
                value[name] = tuple(_clash(entry) for entry in item)
            elif name not in known:
                raise ValueError(f"{kind.__name__} has no field {name}")
            elif known[name] != type(item).__name__:
                raise ValueError(f"{kind.__name__}.{name} is no {known[name]}")
        return kind(**value)  # type: ignore[no-any-return]  # one of the classes in _KINDS
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"a malformed {kind.__name__}: {error}") from None


def _claim(entry: dict[str, Any]) -> Claim:
    claim = Claim(**entry)
    if not (isinstance(claim.kind, str) and isinstance(claim.name, str)):
        raise TypeError("a claim of other things than texts")
    return claim


def _clash(entry: dict[str, Any]) -> Clash:
    clash = Clash(_claim(entry.pop("claim")), **entry)
    if not (isinstance(clash.holder, str) and isinstance(clash.held, str)):
        raise TypeError("a clash of other things than texts")
    return clash
