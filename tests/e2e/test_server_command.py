"""`flanneld --listen` as a command: how it starts, what it says to the service manager, and how it ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.lab.flanneld import PROGRAM, eventually
from tests.lab.manager import Manager
from tests.lab.server import Server
from tests.lab.store_file import StoreFile
from tests.lab.tls import make_certificates

CONFIG = b'{"Network":"10.50.0.0/16","Backend":{"Type":"alloc"}}'
POLLS = 500


@pytest.fixture
def store(tmp_path: Path) -> StoreFile:
    (tmp_path / "store").mkdir()
    found = StoreFile(tmp_path / "store" / "store.db")
    found.put_config("blue", CONFIG)
    return found


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FLANNELD_")} | dict(more or {})


def ended(*flags: str) -> tuple[int, str]:
    """The command's exit status and what it said, of one that ends by itself."""
    done = subprocess.run(
        [*PROGRAM, "--config=", *flags], env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=20.0, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# -- the start -------------------------------------------------------------------------------------------------------


def test_the_service_manager_is_told_ready_when_the_server_answers_and_not_before(
    tmp_path: Path, store: StoreFile
) -> None:
    with Manager(tmp_path / "notify", watchdog_s=0.4) as manager, taken_port() as port:
        address = f"127.0.0.1:{port}"
        status = subprocess.run(
            [*PROGRAM, "--config=", f"--listen={address}", f"--store={store.url}"], env=environment(manager.environ),
            capture_output=True, timeout=20.0, check=False,
        ).returncode  # fmt: skip
        assert (status, manager.told) == (1, [])
        server = Server(store.url, tmp_path, flags=["--config="])
        process = subprocess.Popen(
            [*PROGRAM, "--config=", f"--listen={server.address}", f"--store={store.url}"], stderr=subprocess.DEVNULL,
            env=environment(manager.environ),
        )  # fmt: skip
        try:
            manager.wait(lambda message: message == "READY=1", "READY=1")
            assert server.ask("GET", "/v1/").status == 200
            assert f"STATUS=serving on {server.address}" in manager.told
            seen = len(manager.told)
            manager.wait(lambda message: message == "WATCHDOG=1", "the watchdog's beat", after=seen)
        finally:
            process.terminate()
            assert process.wait(10.0) == 0


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--listen=foo://1"], "--listen"),
        (["--listen=localhost"], "--listen"),
        (["--listen=127.0.0.1:99999"], "--listen"),
        (["--listen=unix://relative"], "--listen"),
        (["--listen=fd://x"], "--listen"),
        (["--listen=127.0.0.1:0", "--remote=127.0.0.1:1"], "--listen: a server has a store of its own"),
        (["--listen=127.0.0.1:0", "--remote-certfile=/c"], "--remote-certfile: key and certificate go together"),
        (["--listen=127.0.0.1:0", "--remote-keyfile=/k"], "--remote-keyfile: key and certificate go together"),
        (["--listen=127.0.0.1:0", "--store=sqlite://x"], "--store"),
    ],
)
def test_a_wrong_command_line_is_exit_2_and_names_the_flag(flags: list[str], why: str) -> None:
    status, said = ended(*flags)
    assert (status, why in said) == (2, True), said


def test_what_the_system_refuses_is_exit_1_and_names_it(tmp_path: Path, store: StoreFile) -> None:
    keep = f"--store={store.url}"
    with taken_port() as port:
        status, said = ended(f"--listen=127.0.0.1:{port}", keep)
        assert (status, f"127.0.0.1:{port}" in said, "already" in said) == (1, True, True), said
    status, said = ended("--listen=fd://", keep)
    assert (status, "out of range" in said) == (1, True), said
    status, said = ended("--listen=127.0.0.1:0", keep, "--remote-certfile=/nope.pem", "--remote-keyfile=/nope.key")
    assert (status, "/nope.pem" in said, "No such file" in said) == (1, True, True), said


def test_a_broken_settings_file_is_exit_78_at_the_start(tmp_path: Path) -> None:
    settings = tmp_path / "flanneld.toml"
    settings.write_text("[policy.web-1]\nadmin = 1\n")
    status, said = ended("--listen=127.0.0.1:0", f"--config={settings}")
    assert (status, f"{settings}: [policy.web-1] admin" in said) == (78, True), said


def test_networks_on_the_command_line_are_one_warning(tmp_path: Path, store: StoreFile) -> None:
    with Server(store.url, tmp_path, flags=["--config=", "--networks=blue,green"]) as server:
        warnings = [line for line in server.log.splitlines() if " W " in line]
        assert len(warnings) == 1
        assert "--networks is not used: a server joins no network" in warnings[0]
        assert server.ask("GET", "/v1/blue/config").status == 200


# -- the end ---------------------------------------------------------------------------------------------------------


def test_sigterm_ends_it_at_once_with_hundreds_of_long_polls_open(tmp_path: Path, store: StoreFile) -> None:
    took_s = [_ended_under_long_polls(tmp_path, store) for _ in range(3)]
    assert min(took_s) < 0.1, took_s  # the best of three: the others say how busy the machine is


def _ended_under_long_polls(folder: Path, store: StoreFile) -> float:
    """Seconds from SIGTERM to the end of the process."""
    with Server(store.url, folder, flags=["--config="]) as server, ExitStack() as stack:
        assert server.process is not None
        cursor = int(server.ask("GET", "/v1/blue/leases").headers["flannel-cursor"])
        polls = []
        for _ in range(POLLS):
            polls.append(stack.enter_context(socket.create_connection((server.host, server.port), timeout=10.0)))
            polls[-1].sendall(f"GET /v1/blue/leases?next={cursor} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        store.put_lease("blue", "10.50.1.0-24", '{"PublicIP":"10.9.0.1"}')
        for poll in polls:  # each of them does wait: the event reaches it
            assert poll.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
            poll.sendall(f"GET /v1/blue/leases?next={cursor + 1} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert server.ask("GET", "/v1/").status == 200
        assert select.select(polls, [], [], 0.2)[0] == []
        since_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait(10.0)
        took_s = time.monotonic() - since_s
        assert status == 0
        assert {poll.recv(100) for poll in polls} == {b""}
        assert "Traceback" not in server.log
        assert server.log.splitlines()[-1].endswith(" stopped")
        return took_s


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_with_exit_0(tmp_path: Path, store: StoreFile, number: signal.Signals) -> None:
    with Server(store.url, tmp_path, flags=["--config="]) as server:
        assert server.process is not None
        server.process.send_signal(number)
        assert server.process.wait(10.0) == 0


def test_nothing_is_written_outside_of_the_store(tmp_path: Path, store: StoreFile) -> None:
    """The server is given folders of its own for all that a daemon writes, and they stay empty."""
    home = tmp_path / "home"
    home.mkdir()
    before = {path for path in Path("/run").iterdir() if "flannel" in path.name}
    with Server(
        store.url, tmp_path, flags=["--config=", f"--run-dir={home}/run", f"--state-dir={home}/state"]
    ) as server:
        taken = server.ask("POST", "/v1/blue/leases", '{"PublicIP":"10.9.0.1"}')
        assert taken.status == 200
        links = [link for link in Path(f"/proc/{server.pid}/fd").iterdir() if int(link.name) > 2]
        files = {str(link.readlink()) for link in links if link.is_symlink()}
        beside = {path for path in files if path.startswith("/") and not path.startswith(("/dev/", str(store.path)))}
        assert beside == set()
        assert server.stop() == 0
    assert list(home.iterdir()) == []
    assert {path for path in Path("/run").iterdir() if "flannel" in path.name} == before
    assert {path.name for path in tmp_path.iterdir()} == {"home", "store", "server.log"}
    assert {path.name.removeprefix("store.db") for path in (tmp_path / "store").iterdir()} <= {"", "-wal", "-shm"}


# -- between ---------------------------------------------------------------------------------------------------------


def test_sighup_with_a_broken_or_missing_file_changes_nothing(tmp_path: Path, store: StoreFile) -> None:
    settings = tmp_path / "flanneld.toml"
    settings.write_text("[policy.anonymous]\nadmin = true\n")
    with Server(store.url, tmp_path, flags=[f"--config={settings}"]) as server:
        assert server.process is not None
        for number, text in enumerate(("[policy.anonymous]\nadmin = 3\n", "policy = [", None), start=1):
            if text is None:
                settings.unlink()
            else:
                settings.write_text(text)
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: server.log.count("nothing changes") == number, "a word in the log")  # noqa: B023
            assert server.ask("PUT", "/v1/blue/config", CONFIG).status == 200
        settings.write_text("")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.ask("PUT", "/v1/blue/config", CONFIG).status == 403, "the new policy in force")


def test_sigusr1_means_nothing(tmp_path: Path, store: StoreFile) -> None:
    with Server(store.url, tmp_path, flags=["--config="]) as server:
        assert server.process is not None
        server.process.send_signal(signal.SIGUSR1)
        assert server.ask("GET", "/v1/").status == 200


def test_a_server_with_tls_says_so_in_the_log_and_one_without_says_what_that_means(
    tmp_path: Path, store: StoreFile
) -> None:
    pki = make_certificates(tmp_path / "pki")
    files = [f"--remote-certfile={pki.server_cert}", f"--remote-keyfile={pki.server_key}"]
    for flags, said in (
        (["--config="], "(plain HTTP: whoever reaches it may take leases)"),
        (["--config=", *files], "with TLS"),
        (["--config=", *files, f"--remote-cafile={pki.ca}"], "with TLS; clients show certificates"),
    ):
        with Server(store.url, tmp_path, flags=flags, name=f"server{len(flags)}") as server:
            assert any(
                line.endswith(said) and f"listening on {server.address}" in line for line in server.log.splitlines()
            )
