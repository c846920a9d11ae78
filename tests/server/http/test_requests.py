"""What a client sees of HTTP/1.1 that goes well, and of faults in it."""

from __future__ import annotations

import asyncio
import re

import pytest

from flannel_multi import log
from flannel_multi.server.exchange import Request, Response
from flannel_multi.server.http.limits import Limits
from tests.server.http.rig import LongPoll, echo, get, post, run, serving


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def story() -> None:
        async with serving() as served, served.client() as client:
            for number in range(3):
                reply = await client.get(f"/v1/_/leases?next={number}")
                assert reply.body == f"GET /v1/_/leases?next={number} ".encode()
                assert reply.status == 200
                assert reply.head["content-type"] == "application/json; charset=utf-8"
                assert re.fullmatch(r"[A-Z]..,? \d\d [A-Z].. 20\d\d \d\d:\d\d:\d\d GMT", reply.head["date"])
                assert "connection" not in reply.head
            assert served.server.connections == 1

    run(story)


def test_requests_sent_ahead_are_answered_one_at_a_time_in_their_order() -> None:
    async def story() -> None:
        running = most = 0

        async def slowly(request: Request) -> Response:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1
            return await echo(request)

        async with serving(slowly) as served, served.client() as client:
            await client.say(b"".join(get(f"/{n}") + post(b"body%d" % n) for n in range(40)))
            for number in range(40):
                assert (await client.reply()).body == b"GET /%d? " % number
                assert (await client.reply()).body == b"POST /p? body%d" % number
            assert most == 1

    run(story)


def test_more_requests_sent_ahead_than_one_read_takes_are_all_answered() -> None:
    async def story() -> None:
        async def not_at_once(request: Request) -> Response:
            for _ in range(3):
                await asyncio.sleep(0)
            return await echo(request)

        async with serving(not_at_once) as served, served.client() as client:
            count = 3000
            sending = asyncio.create_task(client.say(b"".join(get(f"/{n:040}") for n in range(count))))
            for number in range(count):
                assert (await client.reply()).body == b"GET /%040d? " % number
            await sending

    run(story)


def test_a_request_that_comes_byte_by_byte_is_understood() -> None:
    async def story() -> None:
        async with serving() as served, served.client() as client:
            for byte in post(b"abc") + get("/next"):
                await client.say(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.reply()).body == b"POST /p? abc"
            assert (await client.reply()).body == b"GET /next? "

    run(story)


def test_a_body_in_chunks_arrives_whole() -> None:
    async def story() -> None:
        async with serving() as served, served.client() as client:
            await client.say(b"PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n")
            await client.say(b"4\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n" + get("/after"))
            assert (await client.reply()).body == b"PUT /c? abcdefg"
            assert (await client.reply()).body == b"GET /after? "

    run(story)


def test_a_client_that_asks_first_is_told_to_send_its_body() -> None:
    async def story() -> None:
        async with serving() as served, served.client() as client:
            head = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
            await client.say(head)
            assert await client.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.say(b"body")
            assert (await client.reply()).body == b"POST /p? body"
            await client.say(head + b"body")  # it did not wait: nothing to tell it
            assert (await client.reply()).interim == ()

    run(story)


def test_a_client_that_asks_first_with_too_large_a_body_is_told_no() -> None:
    async def story() -> None:
        async with serving() as served:
            head = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n"
            reply = await served.asked(head)
            assert (reply.status, reply.interim) == (413, ())

    run(story)


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET /old HTTP/1.0\r\n\r\n", b"GET /old HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"],
    ids=["HTTP/1.0", "close"],
)
def test_a_client_that_wants_one_answer_is_left_after_it(request_bytes: bytes) -> None:
    async def story() -> None:
        async with serving() as served, served.client() as client:
            await client.say(request_bytes)
            reply = await client.reply()
            assert (reply.status, reply.body, reply.head["connection"]) == (200, b"GET /old? ", "close")
            assert await client.ended() == b""

    run(story)


def test_an_answer_is_not_lost_to_a_client_that_sends_on_after_the_last_one() -> None:
    async def story() -> None:
        async with serving() as served, served.client() as client:
            await client.say(b"GET /last HTTP/1.0\r\n\r\n")
            for _ in range(5):
                await asyncio.sleep(0.01)
                await client.say(get("/more"))
            assert (await client.reply()).body == b"GET /last? "
            assert await client.ended() == b""

    run(story)


def test_an_answer_without_body_has_a_length_and_no_type() -> None:
    async def nothing(_: Request) -> Response:
        return Response(200)

    async def story() -> None:
        async with serving(nothing) as served:
            reply = await served.asked(get())
            assert reply.head["content-length"] == "0"
            assert "content-type" not in reply.head

    run(story)


def test_head_is_answered_without_a_body() -> None:
    async def absent(_: Request) -> Response:
        return Response(404, b"404 page not found\n", "text/plain", (("X-Content-Type-Options", "nosniff"),))

    async def story() -> None:
        async with serving(absent) as served, served.client() as client:
            await client.say(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + get("/"))
            reply = await client.reply(to_head=True)
            assert (reply.status, reply.head["content-length"]) == (404, "19")
            assert reply.head["x-content-type-options"] == "nosniff"
            assert (await client.reply()).body == b"404 page not found\n"  # nothing stood between them

    run(story)


def test_a_target_in_the_form_for_proxies_means_its_path() -> None:
    async def story() -> None:
        async with serving() as served:
            reply = await served.asked(b"GET http://x:8888/v1/?next=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert reply.body == b"GET /v1/?next=1 "

    run(story)


def test_the_path_is_handed_on_as_it_came() -> None:
    async def story() -> None:
        async with serving() as served:
            assert (await served.asked(get("/v1/%5F/a%2Fb//?x=%20?y"))).body == b"GET /v1/%5F/a%2Fb//?x=%20?y "

    run(story)


FAULTS = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "TLS to a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a space in the path": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a letter beyond ASCII in the path": ("GET /é HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
    "a bad header": (b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
    "a negative length": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "a length of 5,000 digits": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n", 400),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a bad chunk": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "a chunk's head without end": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 20000, 400),
    "another coding": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3.7": (b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505),
    "a request line without end": (b"GET /" + b"a" * 20000, 414),
    "a request line too long": (get("/" + "a" * 20000), 414),
    "a header without end": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20000, 431),
    "many headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 4000 + b"\r\n", 431),
    "a length beyond the bound": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1049601\r\n\r\n", 413),
}  # fmt: skip


@pytest.mark.parametrize(("request_bytes", "status"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_answered_in_words_and_ends_the_connection(request_bytes: bytes, status: int) -> None:
    async def story() -> None:
        async with serving() as served, served.client() as client:
            await client.say(get("/before") + request_bytes)
            assert (await client.reply()).body == b"GET /before? "
            reply = await client.reply()
            assert (reply.status, reply.head["connection"]) == (status, "close")
            assert reply.head["content-type"] == "text/plain; charset=utf-8"
            assert 10 < len(reply.body) < 200
            assert reply.body.isascii()
            assert await client.ended() == b""
            assert (await served.asked(get("/other"))).status == 200

    run(story)


def test_a_head_just_above_the_bound_is_refused_even_when_it_comes_in_one_piece() -> None:
    async def story() -> None:
        async with serving(limits=Limits(head_bytes=1000)) as served:
            frame = len(get("/"))
            assert (await served.asked(get("/" + "a" * (1000 - frame)) + get("/" + "b" * 900))).status == 200
            assert (await served.asked(get("/" + "a" * (1001 - frame)))).status == 431

    run(story)


def test_a_body_up_to_the_bound_is_taken_and_one_byte_more_is_not() -> None:
    async def story() -> None:
        async with serving(limits=Limits(body_bytes=1000)) as served:
            assert len((await served.asked(post(bytes(1000)))).body) == 1009
            assert (await served.asked(post(bytes(1001)))).status == 413
            chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            assert (await served.asked(chunked + b"1\r\na\r\n" * 1000 + b"0\r\n\r\n")).status == 200
            assert (await served.asked(chunked + b"1\r\na\r\n" * 1001)).status == 413

    run(story)


def test_a_client_that_sends_a_huge_body_reads_why_it_was_refused() -> None:
    async def story() -> None:
        async with serving() as served, served.client() as client:
            await client.say(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000))
            assert (await client.reply()).status == 413
            assert await client.ended() == b""

    run(story)


def test_a_handler_that_fails_is_a_500_and_one_line_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    async def broken(request: Request) -> Response:
        if request.path == "/broken":
            raise KeyError("secret\nX: y")
        if request.path == "/injected":
            return Response(301, headers=(("Location", "/a\r\nX: y"),))
        return await echo(request)

    async def story() -> None:
        async with serving(broken) as served, served.client() as client:
            for path in ("/broken", "/injected"):
                reply = await client.get(path)
                assert (reply.status, reply.body) == (500, b"internal error")
                assert "x" not in reply.head
            assert (await client.get("/sound")).status == 200

    run(story)
    errors = [line for line in capfd.readouterr().err.splitlines() if "internal error" in line]
    assert len(errors) == 2
    assert "GET /broken: internal error: KeyError" in errors[0]
    assert "test_requests.py line" in errors[0]


def test_something_cancelled_within_the_handler_is_an_answer_too() -> None:
    async def broken(_: Request) -> Response:
        raise asyncio.CancelledError

    async def story() -> None:
        async with serving(broken) as served:
            assert (await served.asked(get())).status == 500

    run(story)


@pytest.mark.parametrize(("verbosity", "gets_told"), [(0, False), (1, True)])
def test_requests_are_told_in_the_log_reads_that_go_well_at_v1_only(
    verbosity: int, gets_told: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    async def by_path(request: Request) -> Response:
        return Response(404 if request.path == "/gone" else 200)

    async def story() -> None:
        async with serving(by_path) as served, served.client() as client:
            await client.get("/v1/_/config")
            await client.get("/gone")
            await client.get("/" + "x" * 5000)
            await client.say(post(b""))
            await client.reply()

    log.configure(fmt="text", verbosity=verbosity)
    run(story)
    said = [line.partition("] ")[2] for line in capfd.readouterr().err.splitlines()]
    assert "GET /gone - 404" in said
    assert "POST /p - 200" in said
    assert ("GET /v1/_/config - 200" in said) is gets_told
    assert all(len(line) < 250 for line in said)


def test_close_cuts_every_connection_and_cancels_what_waits() -> None:
    async def story() -> None:
        poll = LongPoll()
        async with serving(poll) as served, served.client() as waiting, served.client() as idle:
            await waiting.say(get("/wait"))
            await idle.get("/")
            await poll.until(lambda it: it.waiting == 1)
            served.server.close()
            assert await waiting.ended() == b""
            assert await idle.ended() == b""
            assert poll.cancelled == 1
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", served.port)

    run(story)
