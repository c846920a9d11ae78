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
from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd import snapshots
from flannel_multi.store.etcd.gateway import Gateway, NoEtcdLease
from flannel_multi.store.etcd.keeping import delete, grant, keep, record_of, revoke, rewrite
from flannel_multi.store.etcd.pairs import absent, put_op, read_key, read_op, transact
from flannel_multi.store.expiries import Expiries
from flannel_multi.store.keys import NetworkKeys, Range
from flannel_multi.store.protocol import Lease, Snapshot

MOST_LEFT_OVER = 1000  # of a server whose etcd is away, and whose clients do not all come back


@dataclass
class _Attempt:
    """One call of `acquire`. `rewrite`: the key is written even when nothing in it changes.

    `etcd_lease`: granted (or asked for) and without a key that we know of; 0: none.
    """

    keys: NetworkKeys
    config: NetworkConfig
    attrs: LeaseAttrs
    prefer: Subnet | None
    deadline: Deadline
    rewrite: bool
    etcd_lease: int = 0

    @property
    def holder(self) -> tuple[bytes, int]:
        return self.keys.config, self.attrs.public_ip


class Acquirer:
    """Getting leases on one store. Its randomness is the kernel's: forked workers must not draw the same numbers."""

    def __init__(self, gateway: Gateway, expiries: Expiries) -> None:
        self._gateway = gateway
        self._expiries = expiries
        self._rng = random.SystemRandom()
        self._left_over: dict[int, tuple[bytes, int]] = {}  # etcd leases of calls that failed, by network and host

    async def acquire(
        self,
        keys: NetworkKeys,
        config: NetworkConfig,
        attrs: LeaseAttrs,
        *,
        prefer: Subnet | None,
        first: Snapshot | None,
        deadline: Deadline,
        rewrite: bool = False,
    ) -> Lease:
        """See `LeaseStore.acquire`, and `Ledger.grant` for `rewrite`."""
        attempt = _Attempt(keys, config, attrs, prefer, deadline, rewrite)
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
                self._left_over[attempt.etcd_lease] = attempt.holder
                if len(self._left_over) > MOST_LEFT_OVER:
                    del self._left_over[next(iter(self._left_over))]  # it ends by itself within a day

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
        kept = await keep(gateway, keys, record, self._expiries, deadline)
        if kept is None:
            return None
        if attempt.rewrite or record.attrs != attrs:
            written = (await rewrite(gateway, keys, kept.record, attrs, deadline)).record
            return None if written is None else Lease(written, kept.ttl_s)
        pair = await read_key(gateway, keys.lease(record.subnet), deadline=deadline)
        return kept if record_of(record.subnet, pair) == kept.record else None

    async def _create(self, attempt: _Attempt, subnet: Subnet) -> Lease | None:
        """A new lease on `subnet`; None when another was faster: the etcd lease then serves the next round."""
        if not attempt.etcd_lease:
            await self._grant(attempt)
        lease_id, key = attempt.etcd_lease, attempt.keys.lease(subnet)
        self._expiries.note(LeaseRecord(subnet, attempt.attrs, lease_id), LEASE_TTL_S)  # before anybody sees the key
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
        await grant(self._gateway, attempt.etcd_lease, LEASE_TTL_S, attempt.keys.leases, attempt.deadline)

    async def _clear(self, attempt: _Attempt, choice: Reuse | Take) -> None:
        """Ends the etcd leases that earlier calls for this host left, but for the one that the chosen lease hangs on.

        Those of other hosts are not ours to end: another call may just now have found such a lease and go on with it.
        """
        for lease_id, holder in tuple(self._left_over.items()):
            if holder != attempt.holder:
                continue
            if not (isinstance(choice, Reuse) and choice.record.lease_id == lease_id):
                await revoke(self._gateway, lease_id, attempt.deadline)
            self._left_over.pop(lease_id, None)

    async def _drop(self, attempt: _Attempt) -> None:
        """Gives back an etcd lease that was granted for nothing; if that fails, the next call does."""
        if attempt.etcd_lease:
            try:
                await revoke(self._gateway, attempt.etcd_lease, attempt.deadline)
                attempt.etcd_lease = 0
            except FlannelError:
                pass
