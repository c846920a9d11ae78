"""Want, have, plan: every prefix of a plan is safe, and a restart changes nothing."""

from __future__ import annotations

import random

from flannel_worker.kernel.objects import FdbEntry, KernelObject, Key, Neighbour, Nexthop, Route, nexthop_id
from flannel_worker.kernel.plan import Change, Drop, Put, key_of, plan
from flannel_worker.kernel.wanted import Wanted
from hypothesis import given
from hypothesis import strategies as st

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
