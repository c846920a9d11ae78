"""The worker's event loop: asyncio's tasks and time-outs run on it, and an error in a callback ends it."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator

import pytest

from flannel_worker.loop import Loop


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        yield here, there


def test_it_answers_with_what_the_coroutine_returns_or_raises() -> None:
    async def seven() -> int:
        await asyncio.sleep(0)
        return 7

    async def fails() -> None:
        raise OSError("no")

    assert Loop().run(seven()) == 7
    with pytest.raises(OSError, match="no"):
        Loop().run(fails())


def test_callbacks_run_in_the_order_in_which_they_are_due() -> None:
    async def story() -> list[str]:
        loop, said = asyncio.get_running_loop(), list[str]()
        now_s = loop.time()
        for at_s, word in ((0.02, "late"), (0.01, "first"), (0.01, "second")):
            loop.call_at(now_s + at_s, said.append, word)
        loop.call_later(0.005, said.append, "never").cancel()
        loop.call_soon(said.append, "soon")
        await asyncio.sleep(0.03)
        return said

    assert Loop().run(story()) == ["soon", "first", "second", "late"]


def test_tasks_wait_for_one_another_and_time_out() -> None:
    async def story() -> str:
        event = asyncio.Event()
        waiter = asyncio.create_task(event.wait())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(event.wait(), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await event.wait()
        event.set()
        await asyncio.gather(waiter, asyncio.sleep(0))
        return "done"

    assert Loop().run(story()) == "done"


def test_a_cancelled_task_ends_and_its_waiter_hears_of_it() -> None:
    async def story() -> bool:
        task = asyncio.create_task(asyncio.sleep(60.0))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert Loop().run(story())


def test_a_descriptor_is_read_and_written_when_it_is_ready(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair

    async def story() -> tuple[bytes, bytes]:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        heard: list[bytes] = []

        def read() -> None:
            heard.append(here.recv(100))
            loop.remove_reader(here.fileno())
            done.set()

        def write() -> None:
            here.send(b"out")
            loop.remove_writer(here.fileno())

        loop.add_reader(here.fileno(), read)
        loop.add_writer(here.fileno(), write)
        there.send(b"in")
        await done.wait()
        there.send(b"more")
        await asyncio.sleep(0.01)  # nobody reads any more
        assert not loop.remove_reader(here.fileno())
        return heard[0], there.recv(100)

    assert Loop().run(story()) == (b"in", b"out")


def test_a_reader_hears_of_the_other_sides_end(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair

    async def story() -> bytes:
        loop = asyncio.get_running_loop()
        end: asyncio.Future[bytes] = loop.create_future()

        def read() -> None:
            loop.remove_reader(here.fileno())
            end.set_result(here.recv(100))

        loop.add_reader(here.fileno(), read)
        there.close()
        return await asyncio.wait_for(end, 1.0)

    assert Loop().run(story()) == b""


def test_a_reader_taken_away_by_another_in_the_same_turn_is_not_called(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, there = pair
    other, writer = socket.socketpair()

    async def story() -> int:
        loop, calls = asyncio.get_running_loop(), list[int]()

        def one(mine: int, others: int) -> None:
            calls.append(mine)
            loop.remove_reader(mine)
            loop.remove_reader(others)

        loop.add_reader(here.fileno(), one, here.fileno(), other.fileno())
        loop.add_reader(other.fileno(), one, other.fileno(), here.fileno())
        there.send(b"x")
        writer.send(b"x")
        await asyncio.sleep(0.01)
        return len(calls)

    with other, writer:
        assert Loop().run(story()) == 1


def test_an_error_in_a_callback_ends_the_loop() -> None:
    async def story() -> None:
        asyncio.get_running_loop().call_later(0.01, int, "no number")
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            pass

    with pytest.raises(ValueError, match="no number"):
        Loop().run(story())


def test_an_idle_loop_sleeps() -> None:
    began_s = time.process_time()
    Loop().run(asyncio.sleep(0.3))
    assert time.process_time() - began_s < 0.1


def test_it_leaves_no_descriptor_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    Loop().run(asyncio.sleep(0))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
