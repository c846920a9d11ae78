"""The bytes under an HTTP connection, on the worker's own loop and on asyncio's."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from flannel_multi.store.sockets import addresses, connect, connect_unix
from flannel_worker.loop import Loop

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=[asyncio.run, lambda main: Loop().run(main)], ids=["asyncio", "worker"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5.0)
        yield listening


def test_what_is_written_arrives_and_what_is_answered_is_read(run: Run, server: socket.socket) -> None:
    async def story() -> tuple[bytes, bytes]:
        wire = await connect("127.0.0.1", server.getsockname()[1])
        there, _ = server.accept()
        with there:
            await wire.write(b"question")
            question = there.recv(100)
            there.send(b"answer")
            answer = await wire.read()
            assert not wire.ended()
        assert await wire.read() == b""
        assert wire.ended()
        wire.abort()
        return question, answer

    assert run(story()) == (b"question", b"answer")


def test_more_than_the_kernel_holds_is_written_bit_by_bit(run: Run, server: socket.socket) -> None:
    size = 20 << 20
    got: list[int] = []

    def swallow() -> None:
        there, _ = server.accept()
        with there:
            while part := there.recv(1 << 20):
                got.append(len(part))

    async def story() -> None:
        wire = await connect("127.0.0.1", server.getsockname()[1])
        await wire.write(bytes(size))
        wire.abort()

    reader = threading.Thread(target=swallow)
    reader.start()
    run(story())
    reader.join(10.0)
    assert sum(got) == size


def test_whoever_reads_is_woken_by_an_abort(run: Run, server: socket.socket) -> None:
    async def story() -> None:
        wire = await connect("127.0.0.1", server.getsockname()[1])
        asyncio.get_running_loop().call_later(0.01, wire.abort)
        with pytest.raises(ConnectionAbortedError):
            await asyncio.wait_for(wire.read(), 5.0)
        wire.abort()  # once more does no harm

    run(story())


def test_a_reader_that_gave_up_can_read_again(run: Run, server: socket.socket) -> None:
    async def story() -> bytes:
        wire = await connect("127.0.0.1", server.getsockname()[1])
        there, _ = server.accept()
        with there:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wire.read(), 0.01)
            there.send(b"late")
            try:
                return await wire.read()
            finally:
                wire.abort()

    assert run(story()) == b"late"


def test_a_refused_connection_says_so_and_leaves_no_socket(run: Run, server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()

    async def story() -> None:
        with pytest.raises(ConnectionRefusedError):
            await connect("127.0.0.1", port)
        with pytest.raises(FileNotFoundError):
            await connect_unix("/nonexistent/store.sock")

    run(story())  # a socket left open is a ResourceWarning, and so a failure


def test_a_literal_is_taken_as_it_is_and_a_name_leaves_no_thread(run: Run) -> None:
    async def story() -> None:
        assert await addresses("192.0.2.1") == ["192.0.2.1"]
        assert await addresses("2001:db8::1") == ["2001:db8::1"]
        assert "127.0.0.1" in await addresses("localhost")
        with pytest.raises(OSError, match="is no host name"):
            await addresses("a" * 300)

    before = threading.active_count()
    run(story())
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(1.0)
    assert threading.active_count() <= before
