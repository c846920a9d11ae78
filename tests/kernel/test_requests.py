"""The asking socket: dumps whole and torn, answers matched to what was sent, the kernel's own words."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from flannel_multi.model.errors import KernelRefused
from flannel_multi.model.subnet import parse_ip
from flannel_worker.kernel import uapi as k
from flannel_worker.kernel import wire
from flannel_worker.kernel.frame import Buffer
from flannel_worker.kernel.linkwire import by_name
from flannel_worker.kernel.objects import Nexthop, Route, nexthop_id
from flannel_worker.kernel.requests import BATCH_BYTES, Refusal, Requests
from flannel_worker.kernel.seen import NexthopSeen, read_nexthops, read_routes
from tests.kernel.place import ask, run, uplink

NLMSG_NOOP = 1  # netlink.h: nobody answers it


@contextlib.contextmanager
def requests(**limits: Any) -> Iterator[Requests]:
    opened = Requests(**limits)
    try:
        yield opened
    finally:
        opened.close()


def nexthops(count: int) -> list[Nexthop]:
    gateway = parse_ip("192.168.77.3")
    return [Nexthop(nexthop_id(0x0A050000) + number, uplink(), gateway, onlink=False) for number in range(count)]


def sent(opened: Requests, items: list[Nexthop] | list[Route]) -> tuple[dict[int, Refusal], int]:
    """What was refused by place, and the number of batches."""
    batches = 0

    def after() -> None:
        nonlocal batches
        batches += 1

    return asyncio.run(opened.apply((partial(wire.put, item) for item in items), after)), batches


def test_a_dump_that_is_torn_by_a_change_is_taken_again() -> None:
    datagrams = 0

    def read_and_disturb(data: Buffer) -> list[NexthopSeen]:
        nonlocal datagrams
        datagrams += 1
        if datagrams == 1:
            run("ip nexthop add id 7 via 192.168.77.7 dev eth0")
        return read_nexthops(data)

    with requests() as opened:
        assert sent(opened, nexthops(3000))[0] == {}
        found = opened.dump(k.RTM_GETNEXTHOP, wire.ask_nexthops(), read_and_disturb)
        assert not isinstance(found, Refusal)
        assert {nexthop.id for nexthop in found} == {7, *(item.id for item in nexthops(3000))}
        assert len(found) == 3001, "nothing twice"
        assert len(ask("ip -j nexthop show")) == 3001


def test_a_refused_dump_leaves_the_socket_fit_for_the_next() -> None:
    with requests() as opened:
        refused = opened.dump(k.RTM_GETROUTE, wire.ask_routes(link=4711), read_routes)
        assert isinstance(refused, Refusal)
        assert refused.errno == errno.ENODEV
        routes = opened.dump(k.RTM_GETROUTE, wire.ask_routes(), read_routes)
        assert not isinstance(routes, Refusal)
        assert {(route.dst, route.length) for route in routes} == {(0, 0), (parse_ip("192.168.77.0"), 24)}


def test_an_empty_dump_is_empty() -> None:
    with requests() as opened:
        assert opened.dump(k.RTM_GETNEXTHOP, wire.ask_nexthops(), read_nexthops) == []


def test_messages_go_out_in_batches_and_refusals_come_back_by_place() -> None:
    run("ip link set lo up")
    good, lost = parse_ip("192.168.77.3"), parse_ip("203.0.113.5")
    routes = [
        Route(parse_ip("10.6.0.0") + 4 * number, 30, uplink(), lost if number % 7 == 0 else good)
        for number in range(1000)
    ]
    with requests() as opened:
        refused, batches = sent(opened, routes)
    assert sorted(refused) == list(range(0, 1000, 7))
    assert {refusal.errno for refusal in refused.values()} == {errno.ENETUNREACH}
    assert {refusal.words for refusal in refused.values()} == {"Nexthop has invalid gateway"}
    per_batch = BATCH_BYTES // len(wire.put(routes[0]))
    assert batches == -(-len(routes) // per_batch)
    assert len(ask("ip -j route show root 10.6.0.0/16")) == 1000 - len(refused)


def test_the_last_of_a_batch_may_be_the_refused_one() -> None:
    with requests() as opened:
        route = Route(parse_ip("10.6.0.0"), 24, uplink(), parse_ip("203.0.113.5"))
        refused, batches = sent(opened, [route])
        assert (list(refused), batches) == ([0], 1)
        gone = opened.order(k.RTM_DELLINK, by_name("flannel.1"))
        assert gone is not None
        assert gone.errno == errno.ENODEV
        assert sent(opened, []) == ({}, 0)


def test_lost_answers_are_a_refusal_and_are_not_taken_for_those_to_the_next_order() -> None:
    lost = [Route(parse_ip("10.6.0.0") + 4 * number, 30, uplink(), parse_ip("203.0.113.5")) for number in range(200)]
    with requests(buffer_bytes=1) as opened:
        with pytest.raises(KernelRefused, match="ENOBUFS; tried again later"):
            sent(opened, lost)
        assert sent(opened, nexthops(1)) == ({}, 1)
        found = opened.dump(k.RTM_GETNEXTHOP, wire.ask_nexthops(), read_nexthops)
        assert [nexthop.id for nexthop in found if isinstance(nexthop, NexthopSeen)] == [nexthops(1)[0].id]


def test_an_answer_that_does_not_come_is_a_refusal() -> None:
    with requests(answer_s=0.01) as opened:
        with pytest.raises(KernelRefused, match="no answer in time"):
            opened.get(NLMSG_NOOP, b"")
        assert opened.dump(k.RTM_GETNEXTHOP, wire.ask_nexthops(), read_nexthops) == []
