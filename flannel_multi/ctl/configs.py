"""flannelctl config: set, get, list, rm."""

from __future__ import annotations

from typing import Any

from flannel_multi.ctl.meaning import consequences
from flannel_multi.ctl.opened import Opened
from flannel_multi.ctl.outcome import Outcome, Refused, counted, named, some
from flannel_multi.ctl.tables import table
from flannel_multi.model.config import parse_config
from flannel_multi.model.errors import ConfigError
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import format_ip
from flannel_multi.store.protocol import Snapshot

HEADER = ("NAME", "NETWORK", "BACKEND", "LEASES")


async def write(store: Opened, network: str, raw: bytes, *, force: bool) -> Outcome:
    """Raises Refused for a config that no host would take, unless `force`."""
    fault, config = "", None
    try:
        config = parse_config(raw)
    except ConfigError as error:
        if not force:
            raise Refused(f"{error.message}; nothing was written (--force writes it all the same)") from None
        fault = f"written although it is wrong, and no host will take it: {error.message}"
    before = await store.snapshot(network)
    if before.config == raw:
        return Outcome(f"{named(network)}: this is the config already; nothing was written", _told(network, None))
    revision = await store.ledger.write_config(network, raw, timeout_s=store.timeout_s)
    notes = [fault] if config is None else [*config.warnings, *consequences(before.config, config, _records(before))]
    verb = "written" if before.config is None else "replaced"
    return Outcome(f"{named(network)}: config {verb}", {**_told(network, revision), "notes": notes}, notes=tuple(notes))


async def get(store: Opened, network: str) -> Outcome:
    read = await store.ledger.read_config(network, timeout_s=store.timeout_s)
    if read.config is None:
        raise store.absent(network)
    return Outcome(raw=read.config)


async def every(store: Opened) -> Outcome:
    """All networks with a config; the unnamed one, if it has one, first."""
    found = await store.ledger.networks(timeout_s=store.timeout_s)
    data: list[dict[str, Any]] = []
    for network in ("", *found.names):
        taken = await store.snapshot(network)
        if taken.config is not None:
            data.append(_summary(network, taken.config, taken))
    rows = [
        (each["name"], each["error"] or each["network"], each["backend"] or "-", str(each["leases"])) for each in data
    ]
    return Outcome(table(HEADER, rows), data)


async def remove(store: Opened, network: str, *, sure: bool) -> Outcome:
    """Deletes the config; leases stay. Raises Refused when there are some, unless the operator is `sure`."""
    before = await store.snapshot(network)
    if before.config is None:
        raise store.absent(network)
    records = _records(before)
    if records and not sure:
        which = some(f"{record.subnet} of {format_ip(record.attrs.public_ip)}" for record in records)
        raise Refused(
            f"{counted(len(records), 'lease exists', 'leases exist')} ({which}): these hosts would serve on with their "
            "running values, and not start again; give --yes to delete the config all the same"
        )
    stay = counted(len(records), "lease stays", "leases stay")
    notes = (f"{stay}: running hosts serve on; flannelctl revoke deletes a lease at once",) if records else ()
    revision = await store.ledger.delete_config(network, timeout_s=store.timeout_s)
    return Outcome(f"{named(network)}: config deleted", {**_told(network, revision), "notes": list(notes)}, notes=notes)


def _summary(network: str, raw: bytes, taken: Snapshot) -> dict[str, Any]:
    try:
        config = parse_config(raw)
    except ConfigError as error:
        return {
            "name": named(network), "network": None, "backend": None, "leases": len(taken.leases),
            "error": f"wrong: {error.message}",
        }  # fmt: skip
    return {
        "name": named(network), "network": str(config.network), "backend": config.backend_type,
        "leases": len(taken.leases), "error": None,
    }  # fmt: skip


def _records(taken: Snapshot) -> list[LeaseRecord]:
    return [taken.leases[subnet] for subnet in sorted(taken.leases)]


def _told(network: str, revision: int | None) -> dict[str, Any]:
    """`revision` None: nothing was written."""
    return {"network": named(network), "revision": revision}
