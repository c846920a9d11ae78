"""What `flannelctl store copy` would do to one network: a function of both stores' snapshots. Pure.

A plan creates and never changes: a subnet that TO knows is left as it stands there, or is a conflict. So a copy that
was cut off, or is made again after hosts have moved, does what is left to do. With one conflict nothing is written for
that network: hosts must not meet half of a network's leases and allocate around them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flannel_multi.ctl.meaning import differences, parsed
from flannel_multi.ctl.outcome import some
from flannel_multi.model.config import parse_config
from flannel_multi.model.errors import ConfigError
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import Subnet, format_ip
from flannel_multi.store.protocol import Snapshot

Leases = Mapping[Subnet, LeaseRecord]


class Step(enum.Enum):
    """What happens to the config."""

    ABSENT = "-"  # FROM has none
    THERE = "there"
    COPY = "copied"
    REPLACE = "replaced"
    CONFLICT = "conflict"


@dataclass(frozen=True)
class NetworkPlan:
    """`missing` are the leases and reservations that TO lacks, `there` those it has. `conflicts` and `notes` are a line
    each; `held` counts the subnets, by FROM's record, that a conflict is about."""

    network: str
    config: bytes | None
    step: Step
    missing: tuple[LeaseRecord, ...]
    there: tuple[LeaseRecord, ...]
    held: tuple[LeaseRecord, ...]
    conflicts: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def writes(self) -> tuple[LeaseRecord, ...]:
        return () if self.conflicts else self.missing

    @property
    def writes_config(self) -> bool:
        return self.step in (Step.COPY, Step.REPLACE) and not self.conflicts


def plan(network: str, source: Snapshot, target: Snapshot, *, replace_configs: bool = False) -> NetworkPlan:
    """The copy of `network` from FROM's snapshot to TO's."""
    step, why = _config_step(source.config, target.config, replace_configs)
    conflicts = [why] if why else []
    notes = list(source.skipped)
    missing, there, held = [], [], []
    overlapped = _overlaps(source.leases, target.leases)
    for subnet in sorted(source.leases):
        record, standing = source.leases[subnet], target.leases.get(subnet)
        clash = _clash(record, standing, overlapped.get(subnet))
        if clash:
            conflicts.append(clash)
            held.append(record)
        elif standing is None:
            missing.append(record)
        else:
            there.append(record)
            if standing.attrs != record.attrs:
                notes.append(
                    f"{subnet}: {format_ip(record.attrs.public_ip)} has told TO other backend data since; left as it is"
                )
    notes += _doubled(missing, source.leases, target.leases)
    return NetworkPlan(
        network, source.config, step, tuple(missing), tuple(there), tuple(held), tuple(conflicts), tuple(notes)
    )


def _config_step(source: bytes | None, target: bytes | None, replace: bool) -> tuple[Step, str]:
    """The step, and what the conflict is, if it is one."""
    if source is None:
        return Step.ABSENT, ""
    if source == target:
        return Step.THERE, ""
    try:
        config = parse_config(source)
    except ConfigError as error:  # what an old server says of a wrong config would otherwise be written as one
        return Step.CONFLICT, f"the config in FROM is wrong: {error.message}"
    if target is None:
        return Step.COPY, ""
    standing = parsed(target)
    # An old server fills in the defaults: other bytes, the same config.
    changes = ["the config in TO is wrong"] if standing is None else differences(standing, config)
    if not changes:
        return Step.THERE, ""
    if replace:
        return Step.REPLACE, ""
    return Step.CONFLICT, f"the configs differ ({some(changes)}); --replace-configs writes that of FROM"


def _clash(record: LeaseRecord, standing: LeaseRecord | None, overlapped: LeaseRecord | None) -> str:
    """Why `record` cannot be in TO, "" when it can."""
    ip = format_ip(record.attrs.public_ip)
    if standing is None:
        if overlapped is None:
            return ""
        return f"{record.subnet} of {ip} overlaps {overlapped.subnet} of {format_ip(overlapped.attrs.public_ip)} in TO"
    if standing.attrs.public_ip != record.attrs.public_ip:
        return f"{record.subnet} is of {ip} in FROM and of {format_ip(standing.attrs.public_ip)} in TO"
    if record.permanent and not standing.permanent:
        return f"{record.subnet} of {ip} is a reservation in FROM and a lease in TO; flannelctl reserve makes it one"
    return ""


def _overlaps(source: Leases, target: Leases) -> dict[Subnet, LeaseRecord]:
    """Of each subnet in FROM, a lease that FROM does not know, in TO, and that covers it or lies in it."""
    strangers = {subnet: record for subnet, record in target.items() if subnet not in source}
    found: dict[Subnet, LeaseRecord] = {}
    lengths = {subnet.length for subnet in strangers}
    for subnet in source:
        for length in lengths:
            if length < subnet.length and (record := strangers.get(Subnet.of(subnet.base, length))):
                found.setdefault(subnet, record)
    lengths = {subnet.length for subnet in source}
    for subnet, record in strangers.items():
        for length in lengths:
            wider = Subnet.of(subnet.base, length)
            if length < subnet.length and wider in source:
                found.setdefault(wider, record)
    return found


def _doubled(missing: Iterable[LeaseRecord], source: Leases, target: Leases) -> list[str]:
    """A host that came over before its lease did has taken another subnet meanwhile: it would have two."""
    elsewhere = {
        record.attrs.public_ip: subnet for subnet, record in target.items() if subnet not in source
    }  # fmt: skip
    return [
        f"{format_ip(record.attrs.public_ip)} has {elsewhere[record.attrs.public_ip]} in TO already, and now "
        f"{record.subnet} too; flannelctl revoke the one it shall not have"
        for record in missing
        if record.attrs.public_ip in elsewhere
    ]
