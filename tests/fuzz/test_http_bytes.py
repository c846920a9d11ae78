"""A server that is sent anything at all answers or closes, and goes on serving others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.options.listen import parse_listen
from flannel_multi.server.exchange import Request, Response
from flannel_multi.server.http.limits import Limits
from flannel_multi.server.http.listening import open_listener
from flannel_multi.server.http.server import HttpServer

GOOD = b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n"
PIECES = (
    GOOD, b"GET / HTTP/1.1\r\n", b"POST /p HTTP/1.1\r\nHost: x\r\n", b"HEAD / HTTP/1.0\r\n", b"Host: y\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"\r\n", b"\n", b"5\r\nabcde\r\n",
    b"0\r\n\r\n", b"fffffffff\r\n", b"hello", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\x05hello",
    b" ", b"\0",
)  # fmt: skip
garbage = st.lists(st.sampled_from(PIECES) | st.binary(max_size=40), max_size=8).map(b"".join)


async def answer(request: Request) -> Response:
    await asyncio.sleep(0)
    return Response(200, b"ok")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    listener = open_listener(parse_listen("127.0.0.1:0"), {}, 0)
    number = listener.getsockname()[1]
    loop = asyncio.new_event_loop()
    failures: list[object] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    server = HttpServer(answer, Limits(linger_s=0.2))

    async def until_stopped() -> None:
        server.start([listener])
        await stopped.wait()
        server.close()

    stopped = asyncio.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(loop.run_until_complete, until_stopped())
        yield number
        loop.call_soon_threadsafe(stopped.set)
        running.result(10.0)
    loop.close()
    assert failures == []


@given(data=garbage, cut=st.integers(0, 200), ends=st.booleans())
def test_any_bytes_are_answered_or_the_connection_ends(port: int, data: bytes, cut: int, ends: bool) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as sock:
        got = _sent(sock, data[:cut]) and _sent(sock, data[cut:])
        if ends and got and _end(sock):
            answers = _all(sock)
            for part in answers.split(b"HTTP/1.1 ")[1:]:
                assert part[:3] in (b"100", b"102", b"200", b"400", b"413", b"414", b"431", b"501", b"505")
            assert answers == b"" or answers.startswith(b"HTTP/1.1 ")
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as sock:
        sock.sendall(GOOD)
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")


@given(before=st.integers(0, 5), data=garbage)
def test_requests_before_garbage_are_answered(port: int, before: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as sock:
        sock.sendall(GOOD * before + b"\r\nno request\r\n\r\n" + data)
        sock.shutdown(socket.SHUT_WR)
        answers = _all(sock)
        assert answers.count(b"HTTP/1.1 200 OK") == before
        assert answers.count(b"HTTP/1.1 400 Bad Request") == 1


def _sent(sock: socket.socket, data: bytes) -> bool:
    try:
        sock.sendall(data)
    except OSError:
        return False
    return True


def _end(sock: socket.socket) -> bool:
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return False
    return True


def _all(sock: socket.socket) -> bytes:
    got = b""
    try:
        while part := sock.recv(65536):
            got += part
    except ConnectionResetError:
        pass
    return got
