"""Who of several networks may have what exists once on a host: pure, over frozen values.

The present holder wins. Among claims of the first second the earlier network in the list wins, and a later one that
is not yet ready gives way; after that, first come. A network that runs on its resources already (`held`) is never
refused: it is told what it clashes with, and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from flannel_multi.model.claims import Claim, Clash, clash

GRACE_S = 1.0  # after the start of the daemon: the order in the list, not of arrival, decides until then


@dataclass(frozen=True)
class Holding:
    """What one network was granted. `settled`: it was ready with it, or runs on it from before; it keeps it."""

    claims: tuple[Claim, ...]
    settled: bool = False


@dataclass(frozen=True)
class Arbiter:
    """`order` is the list of networks; `refused` names for each refused network those that stood in its way."""

    order: tuple[str, ...]
    started_at_s: float
    holdings: Mapping[str, Holding] = field(default_factory=lambda: MappingProxyType({}))
    refused: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Verdict:
    """Answer to one claim, and the networks that must give way for it, each with why."""

    clashes: tuple[Clash, ...] = ()
    evicted: tuple[tuple[str, tuple[Clash, ...]], ...] = ()
    freed: tuple[str, ...] = ()  # networks refused before, whose blocker is gone: they may ask again


def ask(arbiter: Arbiter, name: str, claims: tuple[Claim, ...], *, held: bool, now_s: float) -> tuple[Arbiter, Verdict]:
    """Judges `claims` of network `name`; they replace what it held before."""
    arbiter, freed = _without(arbiter, name)
    against = {
        other: found for other, holding in arbiter.holdings.items() if (found := _clashes(claims, other, holding))
    }
    every = tuple(item for found in against.values() for item in found)
    if held:
        return _with(arbiter, name, Holding(claims, settled=True)), Verdict(every, freed=freed)
    early = now_s - arbiter.started_at_s < GRACE_S
    losers = {other for other in against if early and _gives_way(arbiter, other, to=name)}
    if losers != against.keys():
        blockers = frozenset(against.keys() - losers)
        waiting = MappingProxyType({**arbiter.refused, name: blockers})
        return replace(arbiter, refused=waiting), Verdict(every, freed=freed)
    for other in losers:
        arbiter, more = _without(arbiter, other)
        freed += tuple(item for item in more if item not in (*freed, name))
    mine = Holding(claims)
    arbiter = _with(arbiter, name, mine)
    refused = {**arbiter.refused, **{other: frozenset({name}) for other in losers}}
    evicted = []
    for other in sorted(losers):
        evicted.append((other, tuple(Clash(c.claim, name, c.held) for c in _mirrored(against[other]))))
    return replace(arbiter, refused=MappingProxyType(refused)), Verdict((), tuple(evicted), freed)


def drop(arbiter: Arbiter, name: str) -> tuple[Arbiter, tuple[str, ...]]:
    """`name` uses nothing any more; returns the networks that were refused for it alone or with others."""
    arbiter, freed = _without(arbiter, name)
    return arbiter, freed


def settle(arbiter: Arbiter, name: str) -> Arbiter:
    """`name` is ready: from now on nobody takes its resources."""
    holding = arbiter.holdings.get(name)
    return arbiter if holding is None or holding.settled else _with(arbiter, name, replace(holding, settled=True))


def _gives_way(arbiter: Arbiter, other: str, *, to: str) -> bool:
    return not arbiter.holdings[other].settled and _place(arbiter, to) < _place(arbiter, other)


def _place(arbiter: Arbiter, name: str) -> int:
    return arbiter.order.index(name) if name in arbiter.order else len(arbiter.order)


def _clashes(claims: tuple[Claim, ...], other: str, holding: Holding) -> tuple[Clash, ...]:
    return tuple(Clash(mine, other, theirs.name) for mine in claims for theirs in holding.claims if clash(mine, theirs))


def _mirrored(clashes: tuple[Clash, ...]) -> tuple[Clash, ...]:
    """The same clashes from the other side: its claim, held by the winner under the winner's name for it."""
    return tuple(Clash(Claim(item.claim.kind, item.held), item.holder, item.claim.name) for item in clashes)


def _with(arbiter: Arbiter, name: str, holding: Holding) -> Arbiter:
    return replace(arbiter, holdings=MappingProxyType({**arbiter.holdings, name: holding}))


def _without(arbiter: Arbiter, name: str) -> tuple[Arbiter, tuple[str, ...]]:
    """Forgets what `name` held and was refused; a network it stood in the way of may ask again."""
    freed = tuple(other for other, blockers in arbiter.refused.items() if name in blockers and other != name)
    if name not in arbiter.holdings:
        freed = ()
    holdings = {other: item for other, item in arbiter.holdings.items() if other != name}
    refused = {other: item for other, item in arbiter.refused.items() if other != name and other not in freed}
    return replace(arbiter, holdings=MappingProxyType(holdings), refused=MappingProxyType(refused)), freed
