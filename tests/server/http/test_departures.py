"""Clients that go away while their request is being served."""

from __future__ import annotations

import asyncio
import socket

import pytest

from flannel_multi.server.exchange import Response
from flannel_multi.server.http.limits import Limits
from tests.server.http.rig import Client, LongPoll, get, run, serving, until


@pytest.mark.parametrize("sent_ahead", [b"", get("/more")], ids=["alone", "with more sent ahead"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_goes_away_cancels_the_handler(how: str, sent_ahead: bytes) -> None:
    async def story() -> None:
        poll = LongPoll()
        async with serving(poll) as served, served.client() as client, served.client() as other:
            await client.say(get("/wait") + sent_ahead)
            await poll.until(lambda it: it.waiting == 1)
            if how == "reset":
                client.reset()
            else:
                client.writer.close()
            await poll.until(lambda it: it.cancelled == 1)
            await until(lambda: served.server.connections == 1)
            assert (await other.get("/")).status == 200

    run(story)


def test_a_client_that_goes_away_from_a_unix_socket_cancels_the_handler(tmp_path: object) -> None:
    async def story() -> None:
        poll = LongPoll()
        path = f"{tmp_path}/s.sock"
        async with serving(poll, listen=f"unix://{path}") as served:
            reader, writer = await asyncio.open_unix_connection(path)
            await Client(reader, writer).say(get("/wait"))
            await poll.until(lambda it: it.waiting == 1)
            writer.close()
            await writer.wait_closed()
            await poll.until(lambda it: it.cancelled == 1)
            await until(lambda: served.server.connections == 0)

    run(story)


@pytest.mark.parametrize("wait_s", [0.0, 0.6], ids=["at once", "after it was found to be still there"])
def test_a_client_that_only_ended_its_own_side_is_answered(wait_s: float) -> None:
    async def story() -> None:
        poll = LongPoll()
        async with serving(poll) as served, served.client() as client:
            await client.say(get("/wait"))
            client.writer.write_eof()
            await poll.until(lambda it: it.waiting == 1)
            await asyncio.sleep(wait_s)
            poll.answer.set_result(Response(200, b"late"))
            reply = await client.reply()
            assert (reply.status, reply.body) == (200, b"late")
            assert reply.interim == ((102,) if wait_s else ())
            assert await client.ended() == b""
            assert poll.cancelled == 0

    run(story)


def test_all_that_was_sent_before_the_end_of_input_is_answered() -> None:
    async def story() -> None:
        async with serving() as served, served.client() as client:
            await client.say(get("/1") + get("/2") + get("/3"))
            client.writer.write_eof()
            for number in (1, 2, 3):
                assert (await client.reply()).body == b"GET /%d? " % number
            assert await client.ended() == b""

    run(story)


def test_a_client_of_http_1_0_that_ended_its_side_is_answered_without_interim_answers() -> None:
    async def story() -> None:
        poll = LongPoll()
        async with serving(poll) as served, served.client() as client:
            await client.say(b"GET /wait HTTP/1.0\r\n\r\n")
            client.writer.write_eof()
            await poll.until(lambda it: it.waiting == 1)
            await asyncio.sleep(0.5)
            poll.answer.set_result(Response(200, b"late"))
            assert (await client.reply()).interim == ()

    run(story)


def test_a_client_that_leaves_within_a_request_costs_nothing() -> None:
    async def story() -> None:
        async with serving(limits=Limits(head_s=60.0)) as served:
            for part in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"):
                async with served.client() as client:
                    await client.say(part)
                    await until(lambda: served.server.connections == 1)
                await until(lambda: served.server.connections == 0)

    run(story)


def test_thousands_that_leave_at_once_are_all_noticed() -> None:
    async def story() -> None:
        poll = LongPoll()
        async with serving(poll) as served:
            count = 1000
            socks = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(count)]
            for sock in socks:
                sock.send(get("/wait"))
            await poll.until(lambda it: it.waiting == count)
            for sock in socks:
                sock.close()
            await poll.until(lambda it: it.cancelled == count)
            assert served.server.connections == 0

    run(story)
