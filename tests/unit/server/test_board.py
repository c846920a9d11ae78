"""The listing of a network: read once for all who ask at one time, and never older than the question."""

from __future__ import annotations

import asyncio
import json

import pytest

from flannel_multi.model.errors import StoreUnavailable
from flannel_multi.model.v1 import read_watch
from flannel_multi.server.board import ASKED_AT_ONCE, Board
from tests.unit.server.memory import TTL_S, MemoryLedger, settle, story


def subnets(page: bytes) -> list[str]:
    return [str(lease.subnet) for lease in read_watch(page).snapshot]


def test_a_thousand_who_ask_at_once_cost_the_store_two_readings() -> None:
    async def told(ledger: MemoryLedger) -> None:
        board = Board(ledger, "blue")
        record = ledger.put("blue", "10.1.5.0/24")
        pages = await asyncio.gather(*(board.page(rich=False) for _ in range(1000)))
        assert ledger.reads <= 2
        assert {subnets(page)[0] for page, _ in pages} == {str(record.subnet)}
        assert len({id(page) for page, _ in pages}) == 1
        board.close()

    story(told)


def test_an_answer_is_never_older_than_its_question() -> None:
    async def told(ledger: MemoryLedger) -> None:
        board = Board(ledger, "blue")
        under_way = asyncio.create_task(board.read())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ledger.reads == 1
        ledger.put("blue", "10.1.5.0/24")
        answer = await board.read()
        assert [str(subnet) for subnet in answer.leases] == ["10.1.5.0/24"]
        await under_way
        board.close()

    story(told)


def test_leases_are_listed_by_address_and_reservations_have_no_end() -> None:
    async def told(ledger: MemoryLedger) -> None:
        board = Board(ledger, "blue")
        ledger.put("blue", "10.1.200.0/24", lease_id=1)
        ledger.put("blue", "10.1.9.0/24", lease_id=0)
        page, at = await board.page(rich=False)
        assert subnets(page) == ["10.1.9.0/24", "10.1.200.0/24"]
        told = read_watch(page)
        assert (told.cursor, at.number) == (ledger.number, ledger.number)
        assert told.snapshot[0].end_s == 0
        assert told.snapshot[1].end_s > 0
        board.close()

    story(told)


def test_a_page_follows_the_store_and_its_kind() -> None:
    async def told(ledger: MemoryLedger) -> None:
        board = Board(ledger, "blue")
        ledger.put("blue", "10.1.5.0/24", 1)
        plain, _ = await board.page(rich=False)
        rich, _ = await board.page(rich=True)
        assert b"LeaseID" not in plain
        assert read_watch(rich).snapshot[0].revision == ledger.number
        ledger.put("blue", "10.1.5.0/24", 2)
        ledger.put("blue", "10.1.6.0/24", 3)
        found = read_watch((await board.page(rich=False))[0]).snapshot
        assert [lease.attrs.public_ip for lease in found] == [2, 3]
        ledger.end("blue", "10.1.5.0/24")
        assert subnets((await board.page(rich=False))[0]) == ["10.1.6.0/24"]
        board.close()

    story(told)


def test_ends_of_many_leases_are_learnt_behind_the_answer_and_are_in_the_next() -> None:
    async def told(ledger: MemoryLedger) -> None:
        board = Board(ledger, "blue")
        count = 3 * ASKED_AT_ONCE
        for number in range(count):
            ledger.put("blue", f"10.{1 + number // 200}.{number % 200}.0/24", lease_id=number + 1)
        first = read_watch((await board.page(rich=False))[0]).snapshot
        await settle()
        assert len(ledger.asked) == count
        second = read_watch((await board.page(rich=False))[0]).snapshot
        assert all(early.end_s - late.end_s > TTL_S for early, late in zip(first, second, strict=True))
        board.close()

    story(told)


def test_a_store_that_is_away_is_said_to_each_who_asks_and_the_next_is_served() -> None:
    async def told(ledger: MemoryLedger) -> None:
        board = Board(ledger, "blue")
        ledger.fault = StoreUnavailable("gone fishing")
        answers = await asyncio.gather(*(board.read() for _ in range(3)), return_exceptions=True)
        assert [str(answer) for answer in answers] == ["gone fishing"] * 3
        ledger.fault = None
        assert json.loads((await board.page(rich=False))[0])["snapshot"] == []
        board.close()

    story(told)


def test_a_client_that_goes_away_does_not_take_the_reading_from_the_others() -> None:
    async def told(ledger: MemoryLedger) -> None:
        board = Board(ledger, "blue")
        gone, stays = (asyncio.create_task(board.read()) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        assert (await stays).revision.number == ledger.number
        with pytest.raises(asyncio.CancelledError):
            await gone
        board.close()

    story(told)
