"""Bounds of time and number, with clients that keep to none."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flannel_multi.server.exchange import Request, Response
from flannel_multi.server.http.ends import LINGERERS
from flannel_multi.server.http.limits import SPARE_FILES, Limits
from flannel_multi.server.http.waits import GRACE_S
from tests.server.http.rig import WITHIN_S, Client, LongPoll, get, post, run, serving, until

QUICK = Limits(head_s=0.3, body_s=0.4, idle_s=0.5, stalled_s=0.4)


def test_a_head_that_does_not_come_is_a_408_although_bytes_keep_coming() -> None:
    async def story() -> None:
        async with serving(limits=QUICK) as served, served.client() as client:
            started_s = time.monotonic()
            dripping = asyncio.create_task(_drip(client, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1000))
            assert (await client.reply()).status == 408
            assert 0.2 < time.monotonic() - started_s < 2.0
            dripping.cancel()

    run(story)


def test_a_body_that_does_not_come_is_a_408() -> None:
    async def story() -> None:
        async with serving(limits=QUICK) as served, served.client() as client:
            started_s = time.monotonic()
            dripping = asyncio.create_task(_drip(client, post(bytes(1000))))
            assert (await client.reply()).status == 408
            assert 0.3 < time.monotonic() - started_s < 3.0
            dripping.cancel()

    run(story)


def test_a_connection_without_a_word_is_closed_in_silence() -> None:
    async def story() -> None:
        async with serving(limits=QUICK) as served, served.client() as mute, served.client() as idle:
            await idle.get("/")
            assert await mute.ended() == b""
            assert served.server.connections == 1
            assert await idle.ended() == b""

    run(story)


def test_bounds_of_time_do_not_touch_a_long_poll_nor_one_who_asks_now_and_then() -> None:
    async def story() -> None:
        poll = LongPoll()
        async with serving(poll, QUICK) as served, served.client() as waiting, served.client() as now_and_then:
            await waiting.say(get("/wait"))
            for _ in range(6):
                assert (await now_and_then.get("/")).status == 200
                await asyncio.sleep(0.25)
            poll.answer.set_result(Response(200, b"at last"))
            assert (await waiting.reply()).body == b"at last"

    run(story)


def test_hundreds_of_slow_senders_are_told_off_while_others_are_served() -> None:
    async def story() -> None:
        async with serving(limits=Limits(head_s=1.0)) as served, served.client() as honest:
            slow = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(500)]
            for sock in slow:
                sock.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
            await until(lambda: served.server.connections == 501)
            while served.server.connections > 1:
                for sock in slow[:50]:
                    _send_anyway(sock, b"a")
                started_s = time.monotonic()
                assert (await honest.get("/")).status == 200
                assert time.monotonic() - started_s < 0.5
                await asyncio.sleep(0.05)
            told = 0
            for sock in slow[100:]:  # those that were quiet
                sock.settimeout(5.0)
                told += _all_of(sock).startswith(b"HTTP/1.1 408 ")
            for sock in slow:
                sock.close()
            assert told == 400

    run(story)


def test_when_full_the_oldest_without_a_request_goes_and_those_who_wait_for_an_answer_stay() -> None:
    async def story() -> None:
        poll = LongPoll()
        async with (
            serving(poll, Limits(connections=3)) as served,
            served.client() as waiting,
            served.client() as half_open,
            served.client() as idle,
        ):
            await waiting.say(get("/wait"))
            await poll.until(lambda it: it.waiting == 1)
            await idle.get("/")
            await asyncio.sleep(2 * GRACE_S)
            async with served.client() as first:
                assert (await first.get("/")).status == 200  # in place of the half-open one
                assert await half_open.ended() == b""
                await asyncio.sleep(2 * GRACE_S)
                async with served.client() as second:
                    assert (await second.get("/")).status == 200  # in place of the one idle for longest
                    assert await idle.ended() == b""
                assert (await first.get("/")).status == 200
            poll.answer.set_result(Response(200, b"still here"))
            assert (await waiting.reply()).body == b"still here"

    run(story)


def test_when_all_wait_for_an_answer_a_new_one_is_told_to_come_later(capfd: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        poll = LongPoll()
        async with (
            serving(poll, Limits(connections=2)) as served,
            served.client() as one,
            served.client() as two,
        ):
            await one.say(get("/wait"))
            await two.say(get("/wait"))
            await poll.until(lambda it: it.waiting == 2)
            for _ in range(150):
                reply = await served.asked(get("/"))
                assert reply.status == 503
                assert b"try again later" in reply.body
            assert served.server.connections == 2
            poll.answer.set_result(Response(200))
            assert (await one.reply()).status == (await two.reply()).status == 200
            await asyncio.sleep(2 * GRACE_S)
            assert (await served.asked(get("/"))).status == 200

    run(story)
    assert capfd.readouterr().err.count("2 connections, the limit, all waiting for an answer") == 1


@pytest.fixture
def few_files() -> Iterator[None]:
    """Descriptors for a dozen connections more than there are now."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_descriptors_nothing_spins_and_the_loop_goes_on(
    few_files: None, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        poll = LongPoll()
        async with serving(poll) as served:
            socks = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(40)]
            for sock in socks[:20]:
                sock.send(get("/wait"))
            await poll.until(lambda it: it.waiting == 20)
            late = [socket.socket() for _ in range(30)]
            hogged = _all_descriptors()
            for sock in late:  # half-open ones must go for these, and then there is no room at all
                sock.connect(("127.0.0.1", served.port))
                sock.send(get("/wait"))
            started_s, used_s = time.monotonic(), time.process_time()
            await asyncio.sleep(1.5)
            assert time.process_time() - used_s < 0.5 * (time.monotonic() - started_s)
            assert poll.cancelled == 0
            poll.answer.set_result(Response(200, b"answered"))
            for sock in (*socks[:20], *late):
                sock.setblocking(False)
                async with asyncio.timeout(WITHIN_S):
                    assert (await asyncio.get_running_loop().sock_recv(sock, 65536)).endswith(b"answered")
                sock.close()
            for fd in hogged:
                os.close(fd)
            for sock in socks[20:]:
                sock.close()

    run(story)
    assert capfd.readouterr().err.count("cannot accept a connection: Too many open files; see LimitNOFILE") == 1


def test_the_soft_limit_of_files_is_raised_and_the_hard_one_bounds_connections(few_files: None) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    assert Limits(connections=1000).allowed_connections() == 1000
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1000 + SPARE_FILES, hard)
    assert Limits(connections=hard).allowed_connections() == hard - SPARE_FILES
    assert Limits(connections=10).allowed_connections() == 10
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_client_that_does_not_read_its_answer_is_cut() -> None:
    async def large(_: Request) -> Response:
        return Response(200, bytes(8 << 20))

    async def story() -> None:
        async with serving(large, QUICK) as served:
            with socket.create_connection(("127.0.0.1", served.port)) as sock:
                sock.send(get())
                await until(lambda: served.server.connections == 1)
                started_s = time.monotonic()
                await until(lambda: served.server.connections == 0)
                assert 0.3 < time.monotonic() - started_s < 3.0

    run(story)


def _all_descriptors() -> list[int]:
    """Takes what the process may still have."""
    highest = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    taken = []
    try:
        while True:
            taken.append(os.dup(2))
    except OSError:
        return taken


def test_a_client_that_reads_a_trickle_is_cut_and_one_that_reads_slowly_but_steadily_is_not() -> None:
    async def large(_: Request) -> Response:
        return Response(200, bytes(2 << 20))

    async def read_all(port: int, piece: int) -> int:
        loop, got = asyncio.get_running_loop(), 0
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, get())
            try:
                while got < 2 << 20 and (data := await loop.sock_recv(sock, piece)):
                    got += len(data)
                    await asyncio.sleep(0.002)
            except ConnectionResetError:
                pass
        return got

    async def story() -> None:
        async with serving(large, Limits(stalled_s=0.5)) as served:
            steady, trickle = await asyncio.gather(read_all(served.port, 16384), read_all(served.port, 20))
            assert steady >= 2 << 20
            assert trickle < 1 << 20

    run(story)


def test_what_is_sent_ahead_stays_in_the_kernel_while_a_request_is_served() -> None:
    async def story() -> None:
        poll = LongPoll()
        async with serving(poll) as served:
            with socket.create_connection(("127.0.0.1", served.port)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(sock, get("/wait"))
                await poll.until(lambda it: it.waiting == 1)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(loop.sock_sendall(sock, bytes(4 << 20)), 1.0)

    run(story)


def test_those_who_do_not_leave_after_their_error_hold_a_bounded_number_of_descriptors() -> None:
    async def story() -> None:
        async with serving(limits=Limits(linger_s=60.0)) as served:
            socks = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(300)]
            before = len(list(Path("/proc/self/fd").iterdir()))
            for sock in socks:
                sock.send(b"garbage\r\n\r\n")
            await asyncio.sleep(0.2)
            await until(lambda: served.server.connections == 0)
            assert len(list(Path("/proc/self/fd").iterdir())) < before + LINGERERS + 10
            for sock in socks:
                with sock:
                    assert sock.recv(100).startswith(b"HTTP/1.1 400 ")

    run(story)


async def _drip(client: Client, data: bytes) -> None:
    for byte in data:
        await client.say(bytes([byte]))
        await asyncio.sleep(0.01)


def _send_anyway(sock: socket.socket, data: bytes) -> None:
    try:
        sock.send(data)
    except OSError:
        pass


def _all_of(sock: socket.socket) -> bytes:
    got = b""
    try:
        while part := sock.recv(65536):
            got += part
    except OSError:
        pass
    return got
