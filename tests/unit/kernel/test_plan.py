"""Want, have, plan: every prefix of a plan is safe, and a restart changes nothing."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from flannel_worker.kernel.objects import (
    Address,
    FdbEntry,
    KernelObject,
    Key,
    Neighbour,
    Nexthop,
    Route,
    Sysctl,
    nexthop_id,
)
from flannel_worker.kernel.plan import Change, Drop, Put, displaced, key_of, named_by, plan, plan_keys
from flannel_worker.kernel.wanted import Wanted

World = dict[Key, KernelObject]
PEERS = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.booleans())


def peer(number: int, mac: int, host: int, through_object: bool) -> list[KernelObject]:
    base, lladdr = number << 8, bytes((2, 0, 0, 0, 0, mac))
    nexthop = nexthop_id(base) if through_object else 0
    objects: list[KernelObject] = [
        Route(base, 24, 9, base, onlink=True, nexthop=nexthop),
        FdbEntry(9, lladdr, host),
        Neighbour(9, base, lladdr),
    ]
    return [*objects, Nexthop(nexthop, 9, base, onlink=True)] if through_object else objects


@st.composite
def worlds(draw: st.DrawFn) -> World:
    objects = [item for args in draw(st.lists(PEERS, max_size=6)) for item in peer(*args)]
    random.Random(draw(st.integers())).shuffle(objects)  # tidy dicts would hide a missing sort
    world = {key_of(item): item for item in objects}
    return {key: item for key, item in world.items() if not isinstance(item, Route) or reachable(item, world)}


def reachable(route: Route, world: World) -> bool:
    neighbour = world.get((Neighbour, route.link, route.gateway))
    if not isinstance(neighbour, Neighbour) or (FdbEntry, route.link, neighbour.mac) not in world:
        return False
    return not route.nexthop or (Nexthop, route.nexthop) in world


def lost(before: World, after: World) -> set[Key]:
    return {key for key in before if key not in after}


def applied(changes: list[Change], have: World) -> World:
    world = dict(have)
    for change in changes:
        match change:
            case Put(item):
                world[key_of(item)] = item
            case Drop(item):
                del world[key_of(item)]
    return world


@given(worlds(), worlds())
def test_a_plan_turns_have_into_want(want: World, have: World) -> None:
    assert applied(plan(want, have), have) == want


@given(worlds())
def test_a_restart_changes_nothing(world: World) -> None:
    assert plan(world, world) == []


@given(worlds(), worlds())
def test_no_prefix_of_a_plan_leaves_a_route_that_leads_nowhere(want: World, have: World) -> None:
    changes = plan(want, have)
    for cut in range(len(changes) + 1):
        world = applied(changes[:cut], have)
        assert all(reachable(item, world) for item in world.values() if isinstance(item, Route))


@given(worlds(), worlds())
def test_no_prefix_of_a_plan_loses_what_is_wanted(want: World, have: World) -> None:
    changes = plan(want, have)
    for cut in range(len(changes) + 1):
        assert not lost(have, applied(changes[:cut], have)) & want.keys()


@given(worlds(), worlds())
def test_a_second_route_to_one_place_goes_while_what_it_leads_through_still_stands(want: World, have: World) -> None:
    spare = Route(7 << 8, 24, 2, 0xC0A84D03, protocol=3)
    changes = plan(want, have, [spare])
    assert Drop(spare) in changes
    assert [change for change in changes if change != Drop(spare)] == plan(want, have)
    before = changes[: changes.index(Drop(spare))]
    assert not any(isinstance(change, Drop) and not isinstance(change.object, Route) for change in before)
    assert not any(isinstance(change, Put) for change in changes[changes.index(Drop(spare)) :])


def test_a_sysctl_is_set_and_never_dropped() -> None:
    setting = Sysctl("net/ipv4/neigh/flannel.1/app_solicit", "0")
    other = setting._replace(value="3")
    assert plan({key_of(setting): setting}, {key_of(other): other}) == [Put(setting)]
    assert plan({}, {key_of(setting): setting}) == []
    assert plan_keys({}, [key_of(setting)]) == []


@given(worlds(), worlds())
def test_an_update_of_all_keys_is_a_plan(want: World, have: World) -> None:
    """Compared by key: what is dropped is named by its key alone."""
    keys = [*want, *have]
    assert applied(plan_keys(want, dict.fromkeys(keys)), have) == want


@given(worlds(), worlds())
def test_no_prefix_of_an_update_leaves_a_route_that_leads_nowhere(want: World, have: World) -> None:
    changes = plan_keys(want, {*want, *have})
    for cut in range(len(changes) + 1):
        world = applied(changes[:cut], have)
        assert all(reachable(item, world) for item in world.values() if isinstance(item, Route))


@given(worlds())
def test_a_key_names_its_object(world: World) -> None:
    address = Address(9, 0x0A050100, 32)
    for key in [*world, key_of(address)]:
        named = named_by(key)
        assert named is not None
        assert key_of(named) == key


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.tuples(PEERS, st.integers(0, 3))), max_size=30))
def test_wanted_is_the_same_whatever_the_order_of_events(
    events: list[tuple[int, tuple[tuple[int, int, int, bool], int] | None]],
) -> None:
    wanted, groups = Wanted(), {}
    for group, content in events:
        before = dict(wanted.objects())
        if content is None:
            touched = wanted.drop(group)
            groups.pop(group, None)
        else:
            args, rank = content
            touched = wanted.put(group, peer(*args), rank)
            groups[group] = (peer(*args), rank)
        changed = {key for key in before | wanted.objects() if before.get(key) != wanted.objects().get(key)}
        assert changed <= touched
    anew = Wanted()
    for group, (objects, rank) in sorted(groups.items(), reverse=True):
        anew.put(group, objects, rank)
    assert dict(anew.objects()) == dict(wanted.objects())


def test_a_route_of_somebody_else_that_gives_way_is_named() -> None:
    wanted = Route(0x0A050900, 24, 7, 0x0A050900, True)
    foreign = Route(0x0A050900, 24, 2, 0xC00002FE, protocol=4)
    flannels = Route(0x0A050900, 24, 2, 0xC00002FE, protocol=3)
    want = {key_of(wanted): wanted}
    for there, lines in ((foreign, 1), (flannels, 0), (wanted, 0)):
        have = {key_of(there): there}
        assert len(list(displaced(plan(want, have), have))) == lines
    assert list(displaced(plan({}, {}, [foreign]), {})) == [
        "the host's route 10.5.9.0/24 via 192.0.2.254 gave way to the lease of that subnet"
    ]
