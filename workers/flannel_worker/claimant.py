"""What this network needs of the host alone, and the parent's answer to its claims."""

from __future__ import annotations

from collections.abc import Callable

from flannel_multi.model.claims import Claim as Resource
from flannel_multi.model.claims import Clash
from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import Conflict
from flannel_multi.model.messages import ClaimAnswer, ClaimAsked, ClaimsDropped, Phase, Up
from flannel_worker.backends.clashes import Clashes
from flannel_worker.backends.protocol import Backend
from flannel_worker.standing import Waiting

FIX = {
    "cidr": "give one of them another Network",
    "device": "give one of them another VNI",
    "vni-port": "give one of them another VNI or Port",
    "udp-port": "give one of them another Port",
    "env-file": "give one of them another subnet-file",
}


def needs(config: NetworkConfig, backend: Backend, env_file: str) -> tuple[Resource, ...]:
    """All claims of a network, in the order in which a clash is named."""
    return (*backend.claims(), Resource("cidr", str(config.network)), Resource("env-file", env_file))


def explain(clashes: tuple[Clash, ...]) -> str:
    """One line that names both sides and the fix."""
    return "; ".join(
        f'{clash.claim.kind} {clash.claim.name} clashes with {clash.held} of network "{clash.holder}": '
        f"{FIX.get(clash.claim.kind, 'change one of them')}"
        for clash in clashes
    )


class Claimant:
    """The state of one network's claims at the parent."""

    def __init__(self, send: Callable[[Up], None]) -> None:
        self._send = send
        self._serial = 0
        self._asked: tuple[Resource, ...] = ()
        self._stale = False  # what stood in the way is gone: the answer is of no use any more
        self.answered = False
        self.clashes: tuple[Clash, ...] = ()
        self.yielding = False  # an earlier network wants what we had been granted

    @property
    def device_taken(self) -> bool:
        """True when the own device or port is another network's: whoever touches it breaks that one."""
        return any(clash.claim.kind in ("device", "vni-port", "udp-port") for clash in self.clashes)

    def clear(self, claims: tuple[Resource, ...], found: Clashes, *, held: bool) -> list[str]:
        """Faults of a network that runs (`held`); nothing stands in the way of one that does not.

        `found` is what the host has in the way. Raises Conflict, or Waiting until the parent has answered.
        """
        if found.blocking and not held:
            self.drop()  # before asking: an answer makes the loop look again, and ask again
            raise Conflict("; ".join(found.blocking))
        self.ask(claims, held=held)
        if not self.answered:
            raise Waiting(Phase.STARTING, "asking the supervisor for shared resources")
        if not self.clashes:
            return list(found.blocking)
        if not held:
            raise Conflict(explain(self.clashes))
        if self.device_taken:
            raise Waiting(Phase.DEGRADED, explain(self.clashes))
        return [*found.blocking, explain(self.clashes)]

    def ask(self, claims: tuple[Resource, ...], *, held: bool) -> None:
        """Asks, unless these very claims were asked for already."""
        if claims == self._asked and not self._stale:
            return
        self._stale = False
        self._serial += 1
        self._asked, self.answered, self.clashes, self.yielding = claims, False, (), False
        self._send(ClaimAsked(self._serial, claims, held))

    def heard(self, answer: ClaimAnswer) -> None:
        if answer.serial == self._serial:
            self.answered, self.clashes = True, answer.clashes

    def give_way(self) -> None:
        """An earlier network wants what we had been granted: the next step lets go, unless it is ready by then."""
        self.yielding = True

    def stays(self) -> None:
        """It was ready already: the parent hears so, and refuses the other one."""
        self.yielding = False

    def ask_again(self) -> None:
        """A blocker is gone: forget the refusal, so that the next look asks."""
        self._stale = True

    def drop(self) -> None:
        if self._asked:
            self._asked, self.answered, self.clashes, self.yielding = (), False, (), False
            self._send(ClaimsDropped())
