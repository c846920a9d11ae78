"""What a worker hands up outlives it, whatever ends it, and reaches nobody but its successors."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from flannel_multi.model.messages import Beat, Keep, LetGo, Said, Up, encode
from flannel_multi.options import NetworkOptions
from flannel_worker.keeper import Keeper
from tests.e2e.supervisor.rig import Life, Supervisor, obedient, open_files, say, supervised

KILLS = 50
NO_WAIT = ("--restart-settled=1ms", "--restart-floor=1ms", "--restart-cap=1ms")


def utter(sock: socket.socket, message: Up | bytes, fds: Sequence[int] = ()) -> None:
    datagram = message if isinstance(message, bytes) else encode(message)
    if fds:
        socket.send_fds(sock, [datagram], fds)
    else:
        sock.send(datagram)


def hand_up(sock: socket.socket) -> Callable[[Up, int | None], None]:
    return lambda message, fd: utter(sock, message, () if fd is None else (fd,))


@contextmanager
def stopped(supervisor: Supervisor) -> Iterator[None]:
    """The gap: a worker that ends meanwhile has no successor yet."""
    os.kill(supervisor.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(supervisor.pid, signal.SIGCONT)


def mailbox(folder: Path) -> Life:
    """A worker with a bound socket that its first incarnation makes. It says what it found in it."""

    def live(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        keeper = Keeper(hand_up(sock), options.name, kept)
        if keeper.held("udp") is None:
            box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            box.bind(str(folder / (options.name or "_")))
            keeper.keep("udp", box.detach())
        fd = keeper.held("udp")
        assert fd is not None
        say(sock, Beat(1), Said("ready", f"born with {sorted(kept)}", True))
        while True:
            ready, _, _ = select.select([fd, sock], [], [])
            if sock in ready:
                return 0
            say(sock, Said("ready", f"got {os.read(fd, 100).decode()}", True))

    return live


def post(folder: Path, network: str, text: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), str(folder / network))


def marked(folder: Path, network: str) -> str:
    """The path of a file that is open nowhere but where it was handed up."""
    path = folder / f"marker-{network}"
    path.touch()
    return str(path)


def holds(pid: int, path: str) -> int:
    return list(open_files(pid).values()).count(path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM], ids=str)
def test_what_was_sent_in_the_gap_is_read_by_the_next_worker(tmp_path: Path, number: signal.Signals) -> None:
    with supervised(mailbox(tmp_path)) as supervisor:
        supervisor.await_line("blue: ready: born with []")
        pid = supervisor.worker("blue")
        with stopped(supervisor):
            os.kill(pid, number)
            post(tmp_path, "blue", "the packet of the gap")
        supervisor.await_line(f"blue: killed by {number.name}")
        supervisor.await_line("blue: ready: born with ['udp']")
        supervisor.await_line("blue: ready: got the packet of the gap")


def test_the_one_network_without_a_name_has_its_own_too(tmp_path: Path) -> None:
    with supervised(mailbox(tmp_path), "--networks=") as supervisor:
        supervisor.await_line("_: ready: born with []")
        pid = supervisor.worker("_")
        with stopped(supervisor):
            os.kill(pid, signal.SIGKILL)
            post(tmp_path, "_", "the packet of the gap")
        supervisor.await_line("_: ready: got the packet of the gap")


def test_nothing_is_lost_over_many_deaths_and_the_supervisor_leaks_nothing(tmp_path: Path) -> None:
    with supervised(mailbox(tmp_path), *NO_WAIT) as supervisor:
        supervisor.await_line("blue: ready")
        supervisor.await_line("green: ready")
        before = len(open_files(supervisor.pid))
        for number in range(KILLS):
            pid = supervisor.worker("blue")
            with stopped(supervisor):
                os.kill(pid, signal.SIGKILL)
                post(tmp_path, "blue", f"packet {number}.")
            supervisor.await_line(f"got packet {number}.")
        assert len(open_files(supervisor.pid)) == before


def test_a_replaced_one_is_closed_by_the_supervisor(tmp_path: Path) -> None:
    def replacing(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        if options.name == "blue":
            fd = os.open(marked(tmp_path, "blue"), os.O_RDONLY)
            Keeper(hand_up(sock), options.name, kept).keep("tun", fd)
        return obedient(options, sock, kept)

    with supervised(replacing, *NO_WAIT) as supervisor:
        supervisor.await_line("green: ready")
        for number in range(KILLS):
            supervisor.await_line("blue: ready", times=number + 1)
            os.kill(supervisor.worker("blue"), signal.SIGKILL)
        supervisor.await_line("blue: ready", times=KILLS + 1)
        assert holds(supervisor.pid, marked(tmp_path, "blue")) == 1
        assert holds(supervisor.worker("blue"), marked(tmp_path, "blue")) == 1


def test_two_networks_never_have_each_others_open(tmp_path: Path) -> None:
    def marking(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        if not kept:
            Keeper(hand_up(sock), options.name, kept).keep("tun", os.open(marked(tmp_path, options.name), os.O_RDONLY))
        return obedient(options, sock, kept)

    blue, green = marked(tmp_path, "blue"), marked(tmp_path, "green")
    with supervised(marking) as supervisor:
        for name in ("blue", "green"):
            supervisor.await_line(f"{name}: ready")
        for name in ("blue", "green"):
            os.kill(supervisor.worker(name), signal.SIGKILL)
            supervisor.await_line(f"{name}: ready", times=2)
        assert (holds(supervisor.worker("blue"), blue), holds(supervisor.worker("blue"), green)) == (1, 0)
        assert (holds(supervisor.worker("green"), blue), holds(supervisor.worker("green"), green)) == (0, 1)
        assert (holds(supervisor.pid, blue), holds(supervisor.pid, green)) == (1, 1)


def test_what_is_let_go_is_closed_and_not_inherited(tmp_path: Path) -> None:
    def tired(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        keeper = Keeper(hand_up(sock), options.name, kept)
        if not kept:
            keeper.keep("tun", os.open(marked(tmp_path, options.name), os.O_RDONLY))
            keeper.keep("udp", os.open("/dev/null", os.O_RDONLY))
        keeper.let_go("tun")
        say(sock, Said("ready", f"born with {sorted(kept)}", True))
        return obedient(options, sock, kept)

    with supervised(tired) as supervisor:
        supervisor.await_line("blue: ready: born with []")
        assert holds(supervisor.pid, marked(tmp_path, "blue")) == 0
        os.kill(supervisor.worker("blue"), signal.SIGKILL)
        supervisor.await_line("blue: ready: born with ['udp']")
        assert holds(supervisor.worker("blue"), marked(tmp_path, "blue")) == 0


def test_what_a_worker_hands_up_with_its_last_breath_reaches_its_successor(tmp_path: Path) -> None:
    def brief(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        if options.name == "blue" and not kept:
            os.kill(os.getppid(), signal.SIGSTOP)
            for number in range(100):
                say(sock, Beat(number))
            utter(sock, Keep("blue.tun"), [os.open(marked(tmp_path, "blue"), os.O_RDONLY)])
            os.posix_spawn("/bin/sh", ["sh", "-c", f"sleep 0.1; kill -CONT {os.getppid()}"], {}, setsid=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return obedient(options, sock, kept)

    with supervised(brief) as supervisor:
        supervisor.await_line("blue: ready")
        assert holds(supervisor.worker("blue"), marked(tmp_path, "blue")) == 1


def test_what_is_kept_goes_to_no_program_that_a_worker_starts(tmp_path: Path) -> None:
    def starting(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        for fd in kept.values():
            os.posix_spawn("/bin/ls", ["ls", "-l", f"/proc/self/fd/{fd}"], {})
        if not kept:
            utter(sock, Keep(f"{options.name}.tun"), [os.open(marked(tmp_path, options.name), os.O_RDONLY)])
        return obedient(options, sock, kept)

    with supervised(starting) as supervisor:
        supervisor.await_line("blue: ready")
        os.kill(supervisor.worker("blue"), signal.SIGKILL)
        supervisor.await_line("cannot access '/proc/self/fd/")


WRONG: dict[str, tuple[Up | bytes, int]] = {
    "another network's name": (Keep("green.tun"), 1),
    "no network's name": (Keep("tun"), 1),
    "a name that systemd would not take": (Keep("blue.a:b"), 1),
    "letting go of another's": (LetGo("green.tun"), 0),
    "nothing to keep": (Keep("blue.tun"), 0),
    "two at once": (Keep("blue.tun"), 2),
    "more than fit": (Keep("blue.tun"), 100),
    "one with a word that takes none": (Beat(2), 1),
    "one with foreign bytes": (b"\xff\x00{", 1),
    "one with nothing": (b"", 1),
}


@pytest.mark.parametrize(("message", "count"), WRONG.values(), ids=WRONG.keys())
def test_a_worker_that_hands_up_what_it_may_not_is_killed_alone_and_leaves_nothing_open(
    tmp_path: Path, message: Up | bytes, count: int
) -> None:
    def wrong(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        fd = os.open(marked(tmp_path, options.name), os.O_RDONLY)
        if options.name == "blue":
            utter(sock, message, [fd] * count)
        else:
            utter(sock, Keep("green.tun"), [fd])
        return obedient(options, sock, kept)

    with supervised(wrong, "--restart-floor=10s") as supervisor:
        supervisor.await_line("blue: killed, since it does not speak our language")
        supervisor.await_line("blue: killed by SIGKILL", times=2)
        supervisor.await_line("green: ready")
        assert holds(supervisor.pid, marked(tmp_path, "blue")) == 0
        assert holds(supervisor.pid, marked(tmp_path, "green")) == 1
        os.kill(supervisor.worker("green"), signal.SIGKILL)
        supervisor.await_line("green: ready", times=2)


def test_a_network_keeps_eight_and_is_killed_at_the_ninth(tmp_path: Path) -> None:
    def greedy(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        if options.name == "blue" and not kept:
            for role in "abcdefghi":
                utter(sock, Keep(f"blue.{role}"), [os.open(marked(tmp_path, "blue"), os.O_RDONLY)])
        say(sock, Said("ready", f"born with {sorted(kept)}", True))
        return obedient(options, sock, kept)

    with supervised(greedy) as supervisor:
        supervisor.await_line("blue: killed, since it does not speak our language: Keep of 'blue.i'")
        supervisor.await_line("blue: ready: born with ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']")
        assert holds(supervisor.pid, marked(tmp_path, "blue")) == 8


def test_a_worker_that_hands_nothing_up_is_born_with_its_socketpair_alone() -> None:
    def plain(options: NetworkOptions, sock: socket.socket, kept: Mapping[str, int]) -> int:
        say(sock, Said("ready", f"born with {dict(kept)}", True))
        return obedient(options, sock, kept)

    with supervised(plain) as supervisor:
        supervisor.await_line("blue: ready: born with {}")
        os.kill(supervisor.worker("blue"), signal.SIGKILL)
        supervisor.await_line("blue: ready: born with {}", times=2)
        assert len(set(open_files(supervisor.worker("blue"))) - {0, 1, 2}) == 1
