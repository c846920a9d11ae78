"""Whatever a worker sends, with however many descriptors: the supervisor keeps what it may, and leaks none."""

from __future__ import annotations

import os
import socket

from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.fdnames import role_of
from flannel_multi.model.messages import Beat, Keep, LetGo, encode
from flannel_multi.supervisor.hearing import receive
from flannel_multi.supervisor.kept import MOST, Kept

NAMES = st.sampled_from([f"blue.{letter}" for letter in "abcdefghij"]) | st.text(max_size=8).map("blue.".__add__)
WORDS = st.builds(encode, st.builds(Keep, NAMES) | st.builds(LetGo, NAMES) | st.builds(Beat, st.integers(0, 9)))
LETTERS = st.lists(st.tuples(WORDS | st.binary(max_size=30), st.sampled_from([0, 0, 1, 1, 1, 2, 3])), max_size=30)


@given(LETTERS, st.sampled_from(["blue", "green"]))
def test_only_descriptors_of_the_own_network_are_kept_and_none_is_lost(
    letters: list[tuple[bytes, int]], network: str
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kept = Kept()
    with ours, theirs:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for datagram, count in letters:
            socket.send_fds(theirs, [datagram], [0] * count) if count else theirs.send(datagram)
            try:
                letter = receive(ours)
                if letter is not None:
                    kept.heard(network, *letter)
            except ValueError:
                pass
        held = kept.of(network)
        assert len(os.listdir("/proc/self/fd")) - before == len(held) <= MOST  # noqa: PTH208
        assert all(role_of(network, f"{network}.{role}") == role for role in held)
        assert network == "blue" or not held
        for fd in held.values():
            os.close(fd)
