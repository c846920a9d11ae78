"""A datagram of a worker with its descriptor, through a real socketpair."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from flannel_multi.model.messages import Beat, Keep, encode
from flannel_multi.supervisor.hearing import receive

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The supervisor's end, the worker's end; no descriptor is left over at the end."""
    before = open_fds()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs
    assert open_fds() == before


def open_fds() -> list[str]:
    return os.listdir("/proc/self/fd")  # noqa: PTH208


def test_a_descriptor_comes_with_its_message_and_ends_at_an_exec(pair: Pair) -> None:
    socket.send_fds(pair[1], [encode(Keep("blue.tun"))], [0])
    letter = receive(pair[0])
    assert letter is not None
    assert letter.message == Keep("blue.tun")
    assert letter.fd is not None
    assert os.path.sameopenfile(letter.fd, 0)
    assert fcntl.fcntl(letter.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(letter.fd)


def test_a_message_without_one_and_the_end_of_file(pair: Pair) -> None:
    pair[1].send(encode(Beat(1)))
    assert receive(pair[0]) == (Beat(1), None)
    with pytest.raises(BlockingIOError):
        receive(pair[0])
    pair[1].close()
    assert receive(pair[0]) is None


@pytest.mark.parametrize(
    ("datagram", "count"),
    [(encode(Keep("blue.tun")), 2), (encode(Keep("blue.tun")), 253), (b"\xff\x00{", 1), (b"", 1)],
    ids=["two", "as many as fit", "with foreign bytes", "with nothing"],
)
def test_surplus_descriptors_are_refused_and_closed(pair: Pair, datagram: bytes, count: int) -> None:
    socket.send_fds(pair[1], [datagram], [0] * count)
    with pytest.raises(ValueError):
        receive(pair[0])


def test_one_that_this_process_has_no_room_for_is_refused(pair: Pair) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    socket.send_fds(pair[1], [encode(Keep("blue.tun"))], [0])
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(ValueError, match="than this process can open"):
            receive(pair[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
