"""Who of several networks may have what exists once on a host: pure, over frozen values.

The present holder wins. A network that runs on its resources already (`held`: it has a lease from before) is never
refused: it is told what it clashes with, and stays. Among new claims of the first second the earlier network in the
list wins, and a later one that is not ready yet gives way; after that, first come.

Two networks never hold clashing resources because one answer overtook another: a claim that another network is to
give way for stays without an answer until that one has let go (`drop`), has died (`gone`), or turns out to be ready
(`settle`). And within the first second a new claim waits for every earlier network of the list to ask, or to say that
it waits for something else (`spoke`), and for every network that ran before to ask: who wins is no race.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from flannel_multi.model.claims import Claim, Clash, clash

GRACE_S = 1.0  # after the start of the daemon: the order in the list, not of arrival, decides until then

CLASHES_TOLD = 10  # in one answer: a network that clashes with hundreds must still fit a datagram, and a line


@dataclass(frozen=True)
class Holding:
    """What one network was granted. `settled`: it was ready with it, or runs on it from before; it keeps it.
    `leaving`: it was told to give way and has not answered yet."""

    claims: tuple[Claim, ...]
    settled: bool = False
    leaving: bool = False


@dataclass(frozen=True)
class Asked:
    """A claim without an answer yet."""

    serial: int
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Arbiter:
    """`order` is the list of networks; `silent` are those that have said nothing yet, `expected` those that ran before
    and have not asked yet; `refused` holds what was refused, until nothing stands in its way any more."""

    order: tuple[str, ...]
    started_at_s: float
    silent: frozenset[str] = frozenset()
    expected: frozenset[str] = frozenset()
    holdings: Mapping[str, Holding] = field(default_factory=lambda: MappingProxyType({}))
    asked: Mapping[str, Asked] = field(default_factory=lambda: MappingProxyType({}))
    refused: Mapping[str, tuple[Claim, ...]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Answer:
    """To claim `serial` of network `name`: granted when `clashes` is empty, or when it was held."""

    name: str
    serial: int
    clashes: tuple[Clash, ...] = ()


@dataclass(frozen=True)
class GiveWay:
    """`name` is not ready yet and must let go of what it was granted."""

    name: str


@dataclass(frozen=True)
class AskAgain:
    """What `name` was refused for is free."""

    name: str


Ruling = Answer | GiveWay | AskAgain
V = TypeVar("V")


def ask(
    arbiter: Arbiter, name: str, serial: int, claims: tuple[Claim, ...], *, held: bool, now_s: float
) -> tuple[Arbiter, list[Ruling]]:
    """Judges `claims` of `name`; they replace what it held before."""
    arbiter = _without(replace(arbiter, silent=arbiter.silent - {name}, expected=arbiter.expected - {name}), name)
    rulings: list[Ruling] = []
    if held:
        against = _against(arbiter, name, claims)
        arbiter, told = _tell_to_leave(arbiter, [n for n in against if not arbiter.holdings[n].settled])
        firm = tuple(item for other, found in against.items() if arbiter.holdings[other].settled for item in found)
        rulings += [*told, Answer(name, serial, firm[:CLASHES_TOLD])]
        arbiter = _with(arbiter, name, Holding(claims, settled=True))
        if firm:
            arbiter = replace(arbiter, refused=_put(arbiter.refused, name, claims))
    else:
        arbiter = replace(arbiter, asked=_put(arbiter.asked, name, Asked(serial, claims)))
    arbiter, more = tick(arbiter, now_s=now_s)
    arbiter, freed = _free(arbiter)
    return arbiter, [*rulings, *more, *freed]


def spoke(arbiter: Arbiter, name: str, *, now_s: float) -> tuple[Arbiter, list[Ruling]]:
    """`name` said where it stands: if it has not asked by now, nobody waits for that."""
    if name not in arbiter.silent:
        return arbiter, []
    return tick(replace(arbiter, silent=arbiter.silent - {name}), now_s=now_s)


def drop(arbiter: Arbiter, name: str, *, now_s: float) -> tuple[Arbiter, list[Ruling]]:
    """`name` uses nothing any more."""
    arbiter, rulings = tick(_without(arbiter, name), now_s=now_s)
    arbiter, freed = _free(arbiter)
    return arbiter, [*rulings, *freed]


def gone(arbiter: Arbiter, name: str, *, now_s: float) -> tuple[Arbiter, list[Ruling]]:
    """The worker of `name` has ended. What it was ready with stays its own: it comes back."""
    arbiter = replace(arbiter, silent=arbiter.silent - {name})
    holding = arbiter.holdings.get(name)
    if holding is not None and holding.settled:
        return replace(arbiter, asked=_cut(arbiter.asked, name)), []
    return drop(arbiter, name, now_s=now_s)


def settle(arbiter: Arbiter, name: str, *, now_s: float) -> tuple[Arbiter, list[Ruling]]:
    """`name` is ready: from now on nobody takes its resources, and whoever waited for them is refused."""
    holding = arbiter.holdings.get(name)
    if holding is None or holding.settled:
        return arbiter, []
    return tick(_with(arbiter, name, Holding(holding.claims, settled=True)), now_s=now_s)


def tick(arbiter: Arbiter, *, now_s: float) -> tuple[Arbiter, list[Ruling]]:
    """Answers every claim that can be answered now, earlier networks of the list first."""
    rulings: list[Ruling] = []
    early = now_s - arbiter.started_at_s < GRACE_S
    for name in sorted(arbiter.asked, key=lambda item: _place(arbiter, item)):
        serial, claims = arbiter.asked[name].serial, arbiter.asked[name].claims
        against = _against(arbiter, name, claims)
        if not against:
            if early and _waits(arbiter, name):
                continue
            arbiter = _with(arbiter, name, Holding(claims))
            rulings.append(Answer(name, serial))
        elif all(_gives_way(arbiter, other, to=name, early=early) for other in against):
            arbiter, told = _tell_to_leave(arbiter, list(against))
            rulings += told
            continue
        else:
            every = tuple(item for found in against.values() for item in found)
            arbiter = replace(arbiter, refused=_put(arbiter.refused, name, claims))
            rulings.append(Answer(name, serial, every[:CLASHES_TOLD]))
        arbiter = replace(arbiter, asked=_cut(arbiter.asked, name))
    return arbiter, rulings


def next_wake_s(arbiter: Arbiter, *, now_s: float) -> float | None:
    """When `tick` next has something to do by time alone."""
    end_s = arbiter.started_at_s + GRACE_S
    return end_s if arbiter.asked and now_s < end_s else None


def _waits(arbiter: Arbiter, name: str) -> bool:
    """True while another may still ask for just what `name` wants, and would come first."""
    return bool(arbiter.expected) or any(_place(arbiter, other) < _place(arbiter, name) for other in arbiter.silent)


def _gives_way(arbiter: Arbiter, other: str, *, to: str, early: bool) -> bool:
    holding = arbiter.holdings[other]
    if holding.settled:
        return False
    return holding.leaving or (early and _place(arbiter, to) < _place(arbiter, other))


def _tell_to_leave(arbiter: Arbiter, losers: list[str]) -> tuple[Arbiter, list[Ruling]]:
    told: list[Ruling] = []
    for other in losers:
        holding = arbiter.holdings[other]
        if not holding.leaving:
            told.append(GiveWay(other))
            arbiter = _with(arbiter, other, replace(holding, leaving=True))
    return arbiter, told


def _free(arbiter: Arbiter) -> tuple[Arbiter, list[Ruling]]:
    """Refused networks that nothing stands in the way of any more: they may ask again."""
    freed = [other for other, claims in arbiter.refused.items() if not _against(arbiter, other, claims)]
    refused = {other: claims for other, claims in arbiter.refused.items() if other not in freed}
    return replace(arbiter, refused=MappingProxyType(refused)), [AskAgain(other) for other in freed]


def _place(arbiter: Arbiter, name: str) -> int:
    return arbiter.order.index(name) if name in arbiter.order else len(arbiter.order)


def _against(arbiter: Arbiter, name: str, claims: tuple[Claim, ...]) -> dict[str, tuple[Clash, ...]]:
    return {
        other: found
        for other, holding in arbiter.holdings.items()
        if other != name and (found := _clashes(claims, other, holding.claims))
    }


def _clashes(claims: tuple[Claim, ...], other: str, theirs: tuple[Claim, ...]) -> tuple[Clash, ...]:
    return tuple(Clash(mine, other, held.name) for mine in claims for held in theirs if clash(mine, held))


def _with(arbiter: Arbiter, name: str, holding: Holding) -> Arbiter:
    return replace(arbiter, holdings=_put(arbiter.holdings, name, holding))


def _without(arbiter: Arbiter, name: str) -> Arbiter:
    """Forgets what `name` held, asked and was refused."""
    return replace(
        arbiter,
        holdings=_cut(arbiter.holdings, name),
        asked=_cut(arbiter.asked, name),
        refused=_cut(arbiter.refused, name),
    )


def _put(table: Mapping[str, V], name: str, value: V) -> Mapping[str, V]:
    return MappingProxyType({**table, name: value})


def _cut(table: Mapping[str, V], name: str) -> Mapping[str, V]:
    return MappingProxyType({other: item for other, item in table.items() if other != name})
