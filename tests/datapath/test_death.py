"""A worker killed with packets in hand: the next one, with its descriptors and flight memory, finishes its work."""

from __future__ import annotations

import itertools
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.datapath import traffic
from tests.datapath.building import sanitized_runner
from tests.datapath.hand import Hand
from tests.datapath.site import RUNNERS, End, Site
from tests.packets import flows, vnet
from tests.packets.flows import Flow
from tests.packets.vnet import UDP

TO_A, TO_B = {"10.77.1.0/24": "192.168.77.1"}, {"10.77.2.0/24": "192.168.77.2"}
BURST = 40
KILLS = 10
OUT = Flow(protocol=UDP, source=bytes((10, 77, 1, 0)), target=bytes((10, 77, 2, 5)), frag=0)
IN = Flow(protocol=UDP, source=bytes((10, 77, 2, 5)), target=bytes((10, 77, 1, 0)), frag=0)
DEATHS = [
    "read:after:5",
    "read:after:20",
    "sendmmsg:before:1",
    "sendmmsg:after:1",
    "recvmmsg:after:1",
    "writev:before:1",
    "writev:before:3",
    "writev:after:1",
]


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return list(sanitized_runner(tmp_path_factory.mktemp("mortal") / "runner"))


def burst(flow: Flow) -> list[bytes]:
    """Runs of eight packets that belong together, each run of another size and to another port."""
    return [
        replace(flow, ports=(1000, 2000 + i // 8), ident=1 + i).packet(flows.payload_of(i, 50 + 7 * (i // 8)))
        for i in range(BURST)
    ]


def assert_arrives(packets: list[bytes], arriving: Iterator[list[bytes]]) -> None:
    """All of the packets and no others arrive, some perhaps twice."""
    wanted = {vnet.aged(packet) for packet in packets}
    arrived: set[bytes] = set()
    while not wanted <= arrived:
        arrived |= set(next(arriving))
    assert arrived == wanted


@pytest.mark.parametrize("death", DEATHS)
def test_what_a_killed_worker_had_in_hand_arrives_as_it_left(death: str, mortal: list[str]) -> None:
    with ExitStack() as stack:
        site = stack.enter_context(Site())
        end = stack.enter_context(End(site.a, TO_B, runner=mortal))
        hand = stack.enter_context(Hand(site, end))
        outward, inward = burst(OUT), burst(IN)
        for packet in outward:
            hand.into_tun(packet)
        for packet in inward:
            hand.onto_wire(packet)
        assert end.dies(environ={"DIE": death}) == -signal.SIGKILL
        end.runner = RUNNERS["user"]
        end.start()
        assert_arrives(outward, iter(lambda: [hand.from_wire()], None))
        assert_arrives(inward, iter(hand.packets_from_tun, None))
        assert end.counters()["replayed"] > 0


def test_a_worker_killed_while_idle_leaves_nothing_to_do_again() -> None:
    with ExitStack() as stack:
        site = stack.enter_context(Site())
        end = stack.enter_context(End(site.a, TO_B)).start()
        hand = stack.enter_context(Hand(site, end))
        for packet, aged in zip(burst(OUT), map(vnet.aged, burst(OUT)), strict=True):
            hand.into_tun(packet)
            assert hand.from_wire() == aged
        hand.onto_wire(burst(IN)[0])
        assert hand.from_tun() == vnet.aged(burst(IN)[0])
        end.idle()
        end.kill()
        end.start()
        marker = replace(OUT, ident=999).packet(b"after the death")
        hand.into_tun(marker)
        assert hand.from_wire() == vnet.aged(marker)
        assert end.counters()["replayed"] == 0


def killed_again_and_again(end: End, between: Callable[[], None]) -> None:
    for _ in range(KILLS):
        between()
        end.kill()
        end.start()


def test_killing_again_and_again_loses_no_datagram() -> None:
    with ExitStack() as stack:
        site = stack.enter_context(Site())
        a = stack.enter_context(End(site.a, TO_B)).start()
        b = stack.enter_context(End(site.b, TO_A)).start()
        asking = stack.enter_context(traffic.udp_socket(site.a, a.overlay))
        answering = stack.enter_context(traffic.udp_socket(site.b, b.overlay))
        numbers = itertools.count()

        def exchange() -> None:
            for number in itertools.islice(numbers, 50):
                asking.sendto(struct.pack(">I", number), answering.getsockname())
                answering.sendto(struct.pack(">I", number), asking.getsockname())

        killed_again_and_again(a, exchange)
        wanted = {struct.pack(">I", number) for number in range(next(numbers))}
        for receiving in (asking, answering):
            arrived: set[bytes] = set()
            while not wanted <= arrived:  # some came twice
                arrived.add(receiving.recv(10))


def test_a_tcp_transfer_survives_killing_again_and_again() -> None:
    with ExitStack() as stack:
        site = stack.enter_context(Site())
        a = stack.enter_context(End(site.a, TO_B)).start()
        b = stack.enter_context(End(site.b, TO_A)).start()
        digests: list[tuple[str, str]] = []
        transfer = threading.Thread(
            target=lambda: digests.append(traffic.digests_of_a_transfer(site.a, site.b, b.overlay, 300))
        )
        transfer.start()
        killed_again_and_again(a, lambda: transfer.join(0.05))
        transfer.join()
        assert len(digests) == 1
        assert digests[0][0] == digests[0][1]
