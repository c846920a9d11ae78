"""flannelctl leases, reserve, release and revoke."""

from __future__ import annotations

import json
from time import time
from typing import Any

from flannel_multi.ctl.opened import Opened
from flannel_multi.ctl.outcome import NOT_FOUND, Outcome, Refused, named
from flannel_multi.ctl.tables import ends, span, table
from flannel_multi.model.errors import KeyAbsent
from flannel_multi.model.lease import LEASE_TTL_S, LeaseRecord
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.model.v1 import expiration
from flannel_multi.store.expiries import NEVER

HEADER = ("SUBNET", "PUBLIC IP", "BACKEND", "ENDS", "BACKEND DATA")


async def every(store: Opened, network: str) -> Outcome:
    """All leases of a network, by subnet. Raises Refused when it has neither a config nor a lease."""
    taken = await store.snapshot(network)
    if taken.config is None and not taken.leases:
        raise store.absent(network)
    records = [taken.leases[subnet] for subnet in sorted(taken.leases)]
    await store.learn(records)
    now_s = time()
    found = [(record, store.ledger.expiries.of(record)) for record in records]
    notes = taken.skipped
    if taken.config is None:
        notes = (f"{named(network)} has leases and no config: new hosts wait for one", *notes)
    return Outcome(
        table(HEADER, [_row(record, end_s, now_s) for record, end_s in found]),
        [_told(record, end_s, now_s) for record, end_s in found],
        notes=notes,
    )


async def reserve(store: Opened, network: str, subnet: Subnet, public_ip: int) -> Outcome:
    """Checks as a server does (spec §6.7). Raises ConfigError, LeaseHeld."""
    from flannel_multi.store.reserving import reserve as reserve_checked

    try:
        record = await reserve_checked(store.ledger, network, subnet, public_ip, timeout_s=store.timeout_s)
    except KeyAbsent:
        raise store.absent(network) from None
    return Outcome(
        f"{named(network)}: {record.subnet} is reserved for {format_ip(record.attrs.public_ip)}",
        _changed(network, record.subnet, record.attrs.public_ip, record.revision),
    )


async def release(store: Opened, network: str, subnet: Subnet) -> Outcome:
    """Ends a reservation: its key gets the life of a lease."""
    try:
        record = await store.ledger.unreserve(network, subnet, timeout_s=store.timeout_s)
    except KeyAbsent as error:
        raise _nothing_there(subnet, error) from None
    return Outcome(
        f"{named(network)}: {subnet} of {format_ip(record.attrs.public_ip)} is no reservation: it ends in "
        f"{span(LEASE_TTL_S)} unless its host renews it",
        _changed(network, subnet, record.attrs.public_ip, record.revision),
    )


async def revoke(store: Opened, network: str, subnet: Subnet) -> Outcome:
    """Deletes a lease or reservation, of the holder that it was seen with and of nobody else."""
    seen = (await store.snapshot(network)).leases.get(subnet)
    holder = seen.attrs.public_ip if seen else None
    try:
        # Without a holder it may still be there: a key whose value is no lease.
        revision = await store.ledger.revoke(network, subnet, holder=holder, timeout_s=store.timeout_s)
    except KeyAbsent as error:
        raise _nothing_there(subnet, error) from None
    if seen is None or holder is None:
        return Outcome(
            f"{named(network)}: {subnet}, which held no lease, is deleted", _changed(network, subnet, None, revision)
        )
    kind = "reservation" if seen.permanent else "lease"
    return Outcome(
        f"{named(network)}: the {kind} {subnet} of {format_ip(holder)} is deleted",
        _changed(network, subnet, holder, revision),
        notes=("a host that runs takes a lease again at once: the same subnet, unless somebody else has it by then",),
    )


def _nothing_there(subnet: Subnet, error: KeyAbsent) -> Refused:
    return Refused(f"no lease or reservation {subnet}: {error.key} does not exist", NOT_FOUND)


def _row(record: LeaseRecord, end_s: int | None, now_s: float) -> tuple[str, ...]:
    data = record.attrs.backend_data
    return (
        str(record.subnet), format_ip(record.attrs.public_ip), record.attrs.backend_type or "-",
        ends(end_s, now_s), "-" if data is None else json.dumps(data, separators=(",", ":")),
    )  # fmt: skip


def _told(record: LeaseRecord, end_s: int | None, now_s: float) -> dict[str, Any]:
    lasts = end_s is not None and end_s != NEVER
    return {
        "subnet": str(record.subnet),
        "public_ip": format_ip(record.attrs.public_ip),
        "backend_type": record.attrs.backend_type,
        "backend_data": record.attrs.backend_data,
        "reservation": record.permanent,
        "expiration": expiration(end_s) if end_s is not None and lasts else None,
        "ttl_s": max(0, int(end_s - now_s)) if end_s is not None and lasts else None,
    }


def _changed(network: str, subnet: Subnet, public_ip: int | None, revision: int) -> dict[str, Any]:
    return {
        "network": named(network), "subnet": str(subnet),
        "public_ip": None if public_ip is None else format_ip(public_ip), "revision": revision,
    }  # fmt: skip
