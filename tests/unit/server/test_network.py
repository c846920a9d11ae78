"""What clients of one network are told since their cursors, over one watch of the store for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.errors import Compacted, StoreUnavailable
from flannel_multi.model.subnet import Subnet
from flannel_multi.model.v1 import read_watch
from flannel_multi.server.following import PATIENCE_S
from flannel_multi.server.network import Network, News
from flannel_multi.server.turns import Turns
from tests.unit.server.memory import CONFIG, MemoryLedger, settle, story

A, B = "10.1.5.0/24", "10.1.6.0/24"
AWAY = StoreUnavailable("etcd is away")


@asynccontextmanager
async def network_of(ledger: MemoryLedger, name: str = "blue") -> AsyncIterator[Network]:
    network = Network(ledger, name, Turns())
    try:
        await network.follower.start()
        yield network
    finally:
        network.close()
        await settle()


def asking(network: Network, cursor: int, subnet: str = "", *, most: int = 1) -> asyncio.Task[News]:
    wanted = Subnet.parse(subnet) if subnet else None
    return asyncio.create_task(network.next_events(cursor, wanted, most=most, rich=False))


async def ask(network: Network, cursor: int, subnet: str = "", *, most: int = 1) -> tuple[list[str], int]:
    """Events in short (`+` or `-` and the subnet), and the next cursor."""
    return heard(await asking(network, cursor, subnet, most=most))


def heard(news: News) -> tuple[list[str], int]:
    assert news.body is not None, "a snapshot"
    told = read_watch(news.body)
    assert told.cursor == news.revision.number
    return [f"{'-' if event.removed else '+'}{event.lease.subnet}" for event in told.events], told.cursor


def test_an_event_wakes_all_who_wait_and_a_cursor_can_be_asked_again() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            start = ledger.number
            waiting = [asking(network, start) for _ in range(100)]
            await settle()
            assert not any(task.done() for task in waiting)
            ledger.put("blue", A)
            answers = [await task for task in waiting]
            assert all(heard(news) == ([f"+{A}"], start + 1) for news in answers)
            assert len({id(news.body) for news in answers}) == 1
            assert await ask(network, start) == ([f"+{A}"], start + 1)
            assert ledger.watches == 1

    story(told)


def test_one_event_an_answer_as_in_flannel_and_more_for_who_asks_for_more() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            start = ledger.number
            ledger.put("blue", A)
            ledger.put("blue", B)
            ledger.end("blue", A)
            await settle()
            assert await ask(network, start) == ([f"+{A}"], start + 1)
            assert await ask(network, start + 1) == ([f"+{B}"], start + 2)
            assert await ask(network, start, most=10) == ([f"+{A}", f"+{B}", f"-{A}"], start + 3)

    story(told)


def test_who_asks_about_one_lease_hears_of_that_one_alone() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            start = ledger.number
            waiting = asking(network, start, B)
            ledger.put("blue", A)
            ledger.put("green", B)
            await settle()
            assert not waiting.done()
            ledger.put("blue", B)
            assert heard(await waiting) == ([f"+{B}"], start + 3)
            assert await ask(network, start, A) == ([f"+{A}"], start + 1)

    story(told)


def test_leases_that_end_in_one_revision_are_told_in_one_answer_and_none_is_lost() -> None:
    async def told(ledger: MemoryLedger) -> None:
        ledger.put("blue", A)
        ledger.put("blue", B)
        async with network_of(ledger) as network:
            start = ledger.number
            ledger.end("blue", A, B)
            await settle()
            assert await ask(network, start) == ([f"-{A}", f"-{B}"], start + 1)

    story(told)


def test_cursor_zero_means_from_now() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            ledger.put("blue", A)
            await settle()
            waiting = asking(network, 0)
            await settle()
            assert not waiting.done()
            ledger.put("blue", B)
            assert heard(await waiting)[0] == [f"+{B}"]

    story(told)


def test_a_cursor_beyond_the_store_is_answered_by_a_snapshot_and_one_of_other_writes_waits() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            assert (await asking(network, 99_999_999)).body is None
            ledger.pass_by(50)  # of other networks: this one's watch has heard of nothing
            waiting = asking(network, ledger.number)
            await settle()
            assert not waiting.done()
            ledger.put("blue", A)
            assert heard(await waiting)[0] == [f"+{A}"]

    story(told)


def test_what_happened_before_the_server_was_started_is_read_from_the_store() -> None:
    async def told(ledger: MemoryLedger) -> None:
        start = ledger.number
        ledger.put("blue", A)
        ledger.put("green", A)
        ledger.put("blue", B)
        async with network_of(ledger) as network:
            assert await ask(network, start) == ([f"+{A}"], start + 1)
            assert await ask(network, start + 1) == ([f"+{B}"], start + 3)
            waiting = asking(network, start + 3)
            ledger.end("blue", A)
            assert heard(await waiting)[0] == [f"-{A}"]

    story(told)


def test_a_cursor_older_than_the_stores_history_is_answered_by_a_snapshot() -> None:
    async def told(ledger: MemoryLedger) -> None:
        start = ledger.number
        ledger.put("blue", A)
        ledger.compact()
        async with network_of(ledger) as network:
            assert (await asking(network, start)).body is None
            assert (await asking(network, 1, A)).body is None

    story(told)


def test_a_store_that_is_back_at_a_backup_answers_old_cursors_by_snapshots() -> None:
    async def told(ledger: MemoryLedger) -> None:
        for _ in range(5):
            ledger.put("blue", A)
        async with network_of(ledger) as network:
            waiting = asking(network, ledger.number)
            await settle()
            ledger.restore(3)
            ledger.break_watches(Compacted("the store was restored"))
            assert (await waiting).body is None
            assert (await asking(network, 2)).body is None
            ledger.put("blue", B)
            assert await ask(network, 3) == ([f"+{B}"], 4)

    story(told)


def test_a_lost_watch_loses_nobody_an_event() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            waiting = asking(network, ledger.number)
            await settle()
            ledger.break_watches(AWAY)
            await settle()
            ledger.put("blue", A)
            assert heard(await waiting)[0] == [f"+{A}"]

    story(told)


def test_a_history_that_the_store_forgot_sends_all_who_wait_to_a_snapshot() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            waiting = [asking(network, ledger.number), asking(network, ledger.number, A)]
            await settle()
            ledger.break_watches(AWAY)
            await settle()
            ledger.put("blue", A)
            ledger.compact()
            assert [(await task).body for task in waiting] == [None, None]
            assert (await waiting[0]).revision.number == ledger.number

    story(told)


def test_a_store_that_stays_away_is_said_to_who_waits_and_to_who_comes_until_it_is_back() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            loop = asyncio.get_running_loop()
            waiting = asking(network, ledger.number)
            await settle()
            ledger.fault = AWAY
            ledger.break_watches(AWAY)
            since_s = loop.time()
            with pytest.raises(StoreUnavailable, match="etcd is away"):
                await waiting
            assert PATIENCE_S <= loop.time() - since_s < 3 * PATIENCE_S
            with pytest.raises(StoreUnavailable):
                await asking(network, ledger.number)
            ledger.fault = None
            await asyncio.sleep(2 * PATIENCE_S)
            again = asking(network, ledger.number)
            await settle()
            ledger.put("blue", A)
            assert heard(await again)[0] == [f"+{A}"]

    story(told)


def test_clients_that_go_away_are_forgotten() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            waiting = [asking(network, ledger.number, subnet) for subnet in ("", A, B)]
            await settle()
            assert network.follower.waiting == 3
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert network.follower.waiting == 0

    story(told)


def test_poison_in_the_store_is_a_line_in_the_log_and_no_event(capfd: pytest.CaptureFixture[str]) -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            start = ledger.number
            ledger.poison("blue", "key foo is no subnet")
            ledger.put("blue", A)
            assert await ask(network, start) == ([f"+{A}"], start + 2)

    story(told)
    assert "blue: key foo is no subnet" in capfd.readouterr().err


def test_a_client_that_is_thousands_of_answers_behind_catches_up_by_a_snapshot() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            start = ledger.number
            for _ in range(1500):
                ledger.put("blue", A)
            while network.follower.revision.number < ledger.number:
                await settle()
            assert (await asking(network, start)).body is None
            assert len((await ask(network, start, most=1000))[0]) == 1000
            assert (await ask(network, start + 600))[0] == [f"+{A}"]

    story(told)


steps = st.lists(st.sampled_from(["put a", "put b", "end", "break", "wait", "ask"]), max_size=25)


@given(steps, st.integers(1, 4))
def test_a_client_that_follows_its_cursor_hears_every_event_once_over_lost_watches(words: list[str], most: int) -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            happened: list[str] = []
            found: list[str] = []
            cursor, standing = ledger.number, set[str]()
            for word in words:
                match word:
                    case "put a" | "put b":
                        subnet = A if word == "put a" else B
                        ledger.put("blue", subnet)
                        standing.add(subnet)
                        happened.append(f"+{subnet}")
                    case "end" if standing:
                        ledger.end("blue", *sorted(standing))
                        happened += [f"-{subnet}" for subnet in sorted(standing)]
                        standing.clear()
                    case "break":
                        ledger.break_watches(AWAY)
                    case "wait":
                        await settle()
                    case "ask" if len(found) < len(happened):
                        events, cursor = await ask(network, cursor, most=most)
                        found += events
            while len(found) < len(happened):
                events, cursor = await ask(network, cursor, most=most)
                found += events
            assert found == happened

    story(told)


# -- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["blue", ""])
def test_who_waits_for_a_config_is_told_when_it_is_written_and_when_it_is_deleted(name: str) -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger, name) as network:
            waiting = asyncio.create_task(network.next_config(ledger.number))
            ledger.put(name, A)
            await settle()
            assert not waiting.done()
            ledger.config(name)
            first = await waiting
            assert (first.config, first.revision.number) == (CONFIG, ledger.number)
            again = asyncio.create_task(network.next_config(first.revision.number))
            await settle()
            assert not again.done()
            ledger.config(name, None)
            assert (await again).config is None

    story(told)


def test_changes_of_a_config_are_told_one_by_one() -> None:
    async def told(ledger: MemoryLedger) -> None:
        async with network_of(ledger) as network:
            start = ledger.number
            ledger.config("blue", b"1")
            ledger.config("blue", b"2")
            await settle()
            first = await network.next_config(start)
            second = await network.next_config(first.revision.number)
            assert (first.config, second.config) == (b"1", b"2")

    story(told)


def test_a_config_cursor_of_before_the_server_was_started_is_answered_at_once() -> None:
    async def told(ledger: MemoryLedger) -> None:
        ledger.config("blue")
        ledger.pass_by(5)
        async with network_of(ledger) as network:
            assert (await network.next_config(ledger.number - 3)).config == CONFIG
            assert (await network.next_config(99_999_999)).config == CONFIG

    story(told)
