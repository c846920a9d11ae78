"""flannelctl store copy: reads FROM, plans, writes TO. FROM is only read.

Leases are written before the config: hosts that already wait at TO for it must find every subnet that is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil
from time import time
from typing import Any, NamedTuple

from flannel_multi.ctl.copyplan import NetworkPlan, Step, plan
from flannel_multi.ctl.opened import Opened
from flannel_multi.ctl.outcome import DONE, FAILED, NOT_FOUND, Outcome, Refused, counted, named, some
from flannel_multi.ctl.tables import span, table
from flannel_multi.model.errors import LeaseHeld, StoreRefused, StoreUnavailable
from flannel_multi.model.lease import LEASE_TTL_S, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.options.told import one_line
from flannel_multi.store.expiries import NEVER

AT_ONCE = 8  # writes under way: a store that syncs each to disk serves several in one go
HEADER = ("NETWORK", "CONFIG", "LEASES", "RESERVATIONS")


@dataclass(frozen=True)
class Request:
    """`networks` None: all that FROM lists, and the unnamed one."""

    networks: tuple[str, ...] | None
    replace_configs: bool
    dry_run: bool


class Done(NamedTuple):
    """What became of a plan: `plan` as it came true, `wrote` False when nothing was to be written, by request or for
    a conflict."""

    plan: NetworkPlan
    wrote: bool


async def copy(source: Opened, target: Opened, request: Request) -> Outcome:
    """Raises Refused, also for a store that fails on the way: what was copied by then stays, and is left the next
    time."""
    plans = [await _plan(source, target, network, request) for network in await _networks(source, request.networks)]
    if request.networks is None:
        plans = [each for each in plans if each.network or each.config is not None or _records(each)]
    unknown = source.ledger.expiries.unknown(record for each in plans for record in each.writes)
    done = [Done(each, wrote=False) for each in plans]
    if not request.dry_run:
        try:
            done = [await carry_out(source, target, each) for each in plans]
        except (StoreUnavailable, StoreRefused) as error:
            raise Refused(
                f"{error.message}; what was copied by then stays, and copying again goes on from there"
            ) from error
    return _outcome(done, unknown, request.dry_run)


async def _networks(source: Opened, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    if wanted is not None:
        return tuple(dict.fromkeys(wanted))
    try:
        return ("", *(await source.ledger.networks(timeout_s=source.timeout_s)).names)
    except StoreRefused as error:  # flannel 0.5 cannot tell
        raise Refused(f"{error.message}; if FROM cannot list its networks, name them by --networks") from error


async def _plan(source: Opened, target: Opened, network: str, request: Request) -> NetworkPlan:
    taken = await source.snapshot(network)
    if request.networks is not None and taken.config is None and not taken.leases:
        raise Refused(f"FROM has no network {named(network)}; nothing was written", NOT_FOUND)
    made = plan(network, taken, await target.snapshot(network), replace_configs=request.replace_configs)
    await source.learn(made.writes)
    return made


async def carry_out(source: Opened, target: Opened, made: NetworkPlan) -> Done:
    """Writes what `made` says. A subnet that somebody has taken since it was made is a conflict, as it would have been
    then; the config is not written in that case. Raises StoreUnavailable, StoreRefused."""
    if made.conflicts:
        return Done(made, wrote=False)
    ended: list[Subnet] = []
    taken: dict[Subnet, str] = {}
    todo = iter(made.writes)

    async def write_some() -> None:
        for record in todo:
            ttl_s = _left_s(source, record)
            if ttl_s is not None and ttl_s <= 0:
                ended.append(record.subnet)
                continue
            try:
                await target.ledger.put_lease(
                    made.network, record.subnet, record.attrs, ttl_s=ttl_s, timeout_s=target.timeout_s
                )
            except LeaseHeld as error:
                taken[record.subnet] = f"{error.message} in TO since a moment ago"

    await _together(write_some() for _ in range(AT_ONCE))
    if made.writes_config and not taken and made.config is not None:
        await target.ledger.write_config(made.network, made.config, timeout_s=target.timeout_s)
    copied = tuple(record for record in made.missing if record.subnet not in taken and record.subnet not in ended)
    held = tuple(record for record in made.missing if record.subnet in taken)
    notes = (f"{some(map(str, ended))} ended during the copy: left out",) if ended else ()
    return Done(
        replace(made, missing=copied, held=held, conflicts=tuple(taken.values()), notes=(*made.notes, *notes)),
        wrote=True,
    )


async def _together(coroutines: Iterable[Any]) -> None:
    """All of them, or the first error, with none of the others left running."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _left_s(source: Opened, record: LeaseRecord) -> int | None:
    """Seconds that the lease has left in FROM, None for a reservation, a whole life when that cannot be known."""
    end_s = source.ledger.expiries.of(record)
    if end_s == NEVER:
        return None
    # Stores tell whole seconds, of clocks that may be a second apart: the end is within 2 s of this either way.
    return LEASE_TTL_S if end_s is None else ceil(end_s - time())


def _records(made: NetworkPlan) -> tuple[LeaseRecord, ...]:
    return (*made.missing, *made.there, *made.held)


def _outcome(done: list[Done], unknown: list[LeaseRecord], dry_run: bool) -> Outcome:
    plans = [each.plan for each in done]
    notes = [f"{named(each.network)}: {note}" for each in plans for note in each.notes]
    if unknown:
        notes.append(
            f"FROM does not say when {counted(len(unknown), 'lease ends', 'leases end')}: {span(LEASE_TTL_S)} in TO"
        )
    blocked = [each for each in plans if each.conflicts]
    lines = [table(HEADER, [_row(each, dry_run) for each in done])]
    if blocked:
        lines += ["", "Conflicts:"]
        lines += [f"  {named(each.network)}: {one_line(line)}" for each in blocked for line in each.conflicts]
    conflicts = counted(sum(len(each.conflicts) for each in blocked), "conflict")
    which = some(named(each.network) for each in blocked)
    failure = f"{conflicts} in {which}: settle {'it' if conflicts == '1 conflict' else 'them'} and copy again"
    return Outcome(
        "\n".join(lines), [_told(each) for each in done], notes=tuple(notes),
        failure=failure if blocked else "", status=FAILED if blocked else DONE,
    )  # fmt: skip


def _row(done: Done, dry_run: bool) -> tuple[str, ...]:
    return (
        named(done.plan.network), _config_word(done, dry_run),
        _cell(done, permanent=False, dry_run=dry_run), _cell(done, permanent=True, dry_run=dry_run),
    )  # fmt: skip


def _config_word(done: Done, dry_run: bool) -> str:
    made = done.plan
    if made.step not in (Step.COPY, Step.REPLACE):
        return str(made.step.value)
    if made.conflicts:
        return "held back"
    return f"to be {made.step.value}" if dry_run else made.step.value


def _cell(done: Done, *, permanent: bool, dry_run: bool) -> str:
    verb = "copied" if done.wrote else "held back" if done.plan.conflicts else "to be copied" if dry_run else "copied"
    counts = _counts(done.plan, permanent)
    words = [(counts["missing"], verb), (counts["there"], "there"), (counts["conflicts"], "in conflict")]
    return ", ".join(f"{number} {word}" for number, word in words if number) or "-"


def _counts(made: NetworkPlan, permanent: bool) -> dict[str, int]:
    groups = {"missing": made.missing, "there": made.there, "conflicts": made.held}
    return {name: sum(record.permanent is permanent for record in group) for name, group in groups.items()}


def _told(done: Done) -> dict[str, Any]:
    """`missing` are copied where `wrote` says so."""
    made = done.plan
    return {
        "network": named(made.network),
        "wrote": done.wrote,
        "config": "absent" if made.step is Step.ABSENT else made.step.value,
        "leases": _counts(made, False),
        "reservations": _counts(made, True),
        "conflicts": list(made.conflicts),
        "notes": list(made.notes),
    }
