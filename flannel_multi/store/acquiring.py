"""Getting the own lease: list, choose, write if still absent; again when another was faster.

The key hangs on an etcd lease of its own. We choose that lease's id ourselves, so that a grant or a create sent twice
is known again, and one whose outcome nobody knows can be revoked by its id once the store is back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from flannel_multi.model.allocation import ROUNDS, Reuse, Take, choose
from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import FlannelError, NoSubnetLeft, StoreUnavailable
from flannel_multi.model.lease import LEASE_TTL_S, LeaseAttrs, LeaseRecord, encode_value
from flannel_multi.model.subnet import Subnet
from flannel_multi.store import snapshots
from flannel_multi.store.client import Deadline
from flannel_multi.store.gateway import Gateway, LeaseExists, NoEtcdLease
from flannel_multi.store.keeping import delete, keep_alive, record_of, revoke, rewrite
from flannel_multi.store.keys import NetworkKeys, Range
from flannel_multi.store.pairs import absent, put_op, read_key, read_op, transact
from flannel_multi.store.protocol import Lease, Snapshot


@dataclass
class _Attempt:
    """One call of `acquire`. `etcd_lease`: granted (or asked for) and without a key that we know of; 0: none."""

    keys: NetworkKeys
    config: NetworkConfig
    attrs: LeaseAttrs
    prefer: Subnet | None
    deadline: Deadline
    etcd_lease: int = 0


class Acquirer:
    """Getting leases on one store. Its randomness is the kernel's: forked workers must not draw the same numbers."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._rng = random.SystemRandom()
        self._left_over: set[int] = set()  # etcd leases of calls that failed, to be revoked

    async def acquire(
        self,
        keys: NetworkKeys,
        config: NetworkConfig,
        attrs: LeaseAttrs,
        *,
        prefer: Subnet | None,
        first: Snapshot | None,
        deadline: Deadline,
    ) -> Lease:
        """See `LeaseStore.acquire`."""
        attempt = _Attempt(keys, config, attrs, prefer, deadline)
        try:
            for _ in range(ROUNDS):
                choice = await self._choose(attempt, first)
                first = None
                lease = await self._settle(attempt, choice)
                if lease is not None:
                    return lease
            raise StoreUnavailable(f"lost the race for a subnet under {keys.leases} {ROUNDS} times")
        except FlannelError:
            await self._drop(attempt)
            raise
        finally:
            if attempt.etcd_lease:
                self._left_over.add(attempt.etcd_lease)

    async def _choose(self, attempt: _Attempt, first: Snapshot | None) -> Reuse | Take:
        """Raises NoSubnetLeft on the strength of a fresh listing only."""
        if first is not None:
            try:
                return self._choice(attempt, first)
            except NoSubnetLeft:
                pass
        return self._choice(attempt, await snapshots.whole(self._gateway, attempt.keys, attempt.deadline))

    def _choice(self, attempt: _Attempt, listing: Snapshot) -> Reuse | Take:
        return choose(
            attempt.config,
            listing.leases.values(),
            public_ip=attempt.attrs.public_ip,
            prefer=attempt.prefer,
            rng=self._rng,
        )

    async def _settle(self, attempt: _Attempt, choice: Reuse | Take) -> Lease | None:
        """Makes the choice true; None when another was faster."""
        await self._clear(attempt, choice)
        for record in choice.stale:
            await delete(self._gateway, attempt.keys, record, attempt.deadline)
        match choice:
            case Reuse(record):
                return await self._reuse(attempt, record)
            case Take(subnet):
                return await self._create(attempt, subnet)

    async def _reuse(self, attempt: _Attempt, record: LeaseRecord) -> Lease | None:
        """The lease found, brought up to date; None when it changed or ended under us."""
        gateway, keys, attrs, deadline = self._gateway, attempt.keys, attempt.attrs, attempt.deadline
        if record.attrs != attrs:
            written = (await rewrite(gateway, keys, record, attrs, deadline)).record
            if written is None:
                return None
            record = written
        else:
            pair = await read_key(gateway, keys.lease(record.subnet), deadline=deadline)
            if record_of(record.subnet, pair) != record:
                return None
        if record.permanent:
            return Lease(record, None)
        ttl_s = await keep_alive(gateway, record.lease_id, deadline)
        return Lease(record, ttl_s) if ttl_s > 0 else None

    async def _create(self, attempt: _Attempt, subnet: Subnet) -> Lease | None:
        """A new lease on `subnet`; None when another was faster: the etcd lease then serves the next round."""
        if not attempt.etcd_lease:
            await self._grant(attempt)
        lease_id, key = attempt.etcd_lease, attempt.keys.lease(subnet)
        try:
            outcome = await transact(
                self._gateway,
                when=[absent(key)],
                then=[put_op(key, encode_value(attempt.attrs), lease_id=lease_id)],
                otherwise=[read_op(Range(key))],
                about=Range(key),
                deadline=attempt.deadline,
            )
        except NoEtcdLease:
            attempt.etcd_lease = 0
            return None
        revision = outcome.header.revision
        if not outcome.won:
            pairs = outcome.pages[0].pairs
            if not pairs or pairs[0].lease_id != lease_id:
                return None
            revision = pairs[0].revision  # our own create, whose first answer was lost
        attempt.etcd_lease = 0
        return Lease(LeaseRecord(subnet, attempt.attrs, lease_id, revision), LEASE_TTL_S)

    async def _grant(self, attempt: _Attempt) -> None:
        attempt.etcd_lease = self._rng.getrandbits(62) + 1
        request = {"ID": str(attempt.etcd_lease), "TTL": str(LEASE_TTL_S)}
        try:
            await self._gateway.call("/v3/lease/grant", request, about=attempt.keys.leases, deadline=attempt.deadline)
        except LeaseExists:
            pass  # our own grant, whose first answer was lost

    async def _clear(self, attempt: _Attempt, choice: Reuse | Take) -> None:
        """Ends the etcd leases that earlier calls left, but for the one that the chosen lease hangs on."""
        for lease_id in tuple(self._left_over):
            if not (isinstance(choice, Reuse) and choice.record.lease_id == lease_id):
                await revoke(self._gateway, lease_id, attempt.deadline)
            self._left_over.discard(lease_id)

    async def _drop(self, attempt: _Attempt) -> None:
        """Gives back an etcd lease that was granted for nothing; if that fails, the next call does."""
        if attempt.etcd_lease:
            try:
                await revoke(self._gateway, attempt.etcd_lease, attempt.deadline)
                attempt.etcd_lease = 0
            except FlannelError:
                pass
