"""Opening what `--listen` says: TCP, sockets that were handed over, unix sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flannel_multi.options.listen import parse_listen
from flannel_multi.server.http.listening import open_listener
from tests.server.http.rig import WITHIN_S, Client, run, serving

APART = Path(__file__).parent / "apart.py"


def opened(text: str, environ: dict[str, str] | None = None) -> socket.socket:
    return open_listener(parse_listen(text), environ or {}, os.getpid())


@pytest.mark.parametrize(
    ("listen", "reached", "not_reached"),
    [
        ("127.0.0.1:0", ("127.0.0.1",), ("127.0.0.2", "::1")),
        ("0.0.0.0:0", ("127.0.0.1", "127.0.0.2"), ("::1",)),
        ("[::]:0", ("127.0.0.1", "::1"), ()),
        (":0", ("127.0.0.1", "::1"), ()),
        ("tcp://[::1]:0", ("::1",), ("127.0.0.1",)),
        ("localhost:0", ("127.0.0.1",), ("::1",)),
    ],
)
def test_addresses_that_reach_a_tcp_listener(
    listen: str, reached: tuple[str, ...], not_reached: tuple[str, ...]
) -> None:
    async def story() -> None:
        async with serving(listen=listen) as served:
            for address in reached:
                reader, writer = await asyncio.open_connection(address, served.port)
                assert (await Client(reader, writer).get("/")).status == 200
                writer.close()
                await writer.wait_closed()
            for address in not_reached:
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(address, served.port)

    run(story)


def test_a_port_that_is_taken_is_an_error_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {listen}: address already in use; another server has it"):
            opened(listen)


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("192.0.2.1:8888", "no interface of this host has that address"),
        ("no-such-host.invalid:8888", "cannot listen on no-such-host.invalid:8888: "),
        ("a..b:8888", "is no host name"),
    ],
)
def test_an_address_that_is_not_ours_is_an_error_that_says_so(listen: str, said: str) -> None:
    with pytest.raises(OSError) as caught:
        opened(listen)
    assert said in str(caught.value)


def test_a_port_is_taken_again_while_connections_of_before_still_time_out() -> None:
    port = 0
    for _ in range(2):
        listener = opened(f"127.0.0.1:{port}")
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            there, _ = listener.accept()
            there.close()  # first, so that the pause is on this side
            assert client.recv(1) == b""
        listener.close()


def test_a_unix_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    before = os.umask(0)
    try:
        opened(f"unix://{path}").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_dead_servers_socket_file_is_replaced_and_a_live_ones_is_not(tmp_path: Path) -> None:
    listen = f"unix://{tmp_path}/server.sock"
    opened(listen).close()
    with opened(listen) as live:
        with pytest.raises(OSError, match=f"cannot listen on {listen}: another server listens there"):
            opened(listen)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{tmp_path}/server.sock")
            live.accept()[0].close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(OSError, match="a file is there that is no socket"):
        opened(f"unix://{tmp_path}/precious")
    assert (tmp_path / "precious").read_text() == "data"
    with pytest.raises(OSError, match=r"folder .*nowhere: no such file or directory"):
        opened(f"unix://{tmp_path}/nowhere/server.sock")


def test_a_handed_over_socket_is_served_and_others_are_refused_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as idle:
        fds = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(max(listening.fileno(), idle.fileno()) - 2)}
        again = opened(f"fd://{listening.fileno()}", fds)
        assert again.getsockname() == listening.getsockname()
        assert not os.get_inheritable(again.fileno())
        again.detach()
        with pytest.raises(ValueError, match=f"descriptor {idle.fileno()} is no listening stream socket"):
            opened(f"fd://{idle.fileno()}", fds)
        with pytest.raises(ValueError, match=r"fd://9000 is out of range: activated sockets are 3 to "):
            opened("fd://9000", fds)
        for nothing in (
            {},
            {"LISTEN_PID": "1", "LISTEN_FDS": "100"},
            {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
            {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"},
            {"LISTEN_FDS": "1"},
        ):
            with pytest.raises(ValueError, match="fd:// is out of range: no socket was handed over"):
                opened("fd://", nothing)


def test_a_handed_over_file_is_refused() -> None:
    with open("/dev/null") as null:
        fds = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(null.fileno() - 2)}
        with pytest.raises(ValueError, match=f"descriptor {null.fileno()} is no socket"):
            opened(f"fd://{null.fileno()}", fds)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.mark.parametrize(("listen", "which"), [("fd://", 0), ("fd://3", 0), ("fd://4", 1)])
def test_systemd_starts_the_server_with_the_first_connection(listen: str, which: int) -> None:
    ports = [free_port(), free_port()]
    command = ["systemd-socket-activate", *(f"--listen=127.0.0.1:{port}" for port in ports), "--"]
    with subprocess.Popen(
        [*command, sys.executable, str(APART), listen], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            while "Listening on" not in (line := process.stderr.readline()) or str(ports[1]) not in line:
                assert line, "systemd-socket-activate has ended"

            async def story() -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", ports[which])
                reply = await Client(reader, writer).get("/")  # the one that started it is served too
                assert (reply.status, reply.body) == (200, b"hello")
                writer.close()
                await writer.wait_closed()
                # the other socket was handed over and is not served: connecting works, and nobody answers
                with socket.create_connection(("127.0.0.1", ports[1 - which]), timeout=WITHIN_S):
                    pass

            run(story)
            assert process.stdout is not None
            assert process.stdout.readline() == f"{ports[which]}\n"
        finally:
            process.send_signal(signal.SIGTERM)


def test_systemd_hands_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with subprocess.Popen(
        ["systemd-socket-activate", f"--listen={path}", "--", sys.executable, str(APART), "fd://"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            while "Listening on" not in (line := process.stderr.readline()):
                assert line, "systemd-socket-activate has ended"

            async def story() -> None:
                reader, writer = await asyncio.open_unix_connection(path)
                assert (await Client(reader, writer).get("/")).body == b"hello"
                writer.close()
                await writer.wait_closed()

            run(story)
        finally:
            process.send_signal(signal.SIGTERM)
