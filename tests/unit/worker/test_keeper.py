"""What of a worker outlives it: handed up, held, replaced, let go."""

from __future__ import annotations

import os

import pytest

from flannel_multi.model.messages import Keep, LetGo, Up
from flannel_worker.keeper import Keeper


class Supervisor:
    """Takes what is handed up, as a duplicate, like the real one."""

    def __init__(self) -> None:
        self.said: list[Up] = []
        self.fds: list[int] = []

    def hear(self, message: Up, fd: int | None) -> None:
        if fd is not None:
            self.fds.append(os.dup(fd))
        self.said.append(message)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_what_is_kept_is_handed_up_and_held() -> None:
    supervisor, fd = Supervisor(), os.open("/dev/null", os.O_RDONLY)
    keeper = Keeper(supervisor.hear, "blue", {})
    assert keeper.held("tun") is None
    keeper.keep("tun", fd)
    assert keeper.held("tun") == fd
    assert supervisor.said == [Keep("blue.tun")]
    assert os.path.sameopenfile(supervisor.fds[0], fd)
    os.close(fd)
    supervisor.close()


def test_what_was_inherited_is_held_without_a_word() -> None:
    supervisor = Supervisor()
    keeper = Keeper(supervisor.hear, "blue", {"tun": 7, "udp": 8})
    assert (keeper.held("tun"), keeper.held("udp"), keeper.held("other")) == (7, 8, None)
    assert supervisor.said == []


def test_a_successor_takes_the_place_of_the_former_which_is_closed() -> None:
    supervisor = Supervisor()
    former, latter = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
    keeper = Keeper(supervisor.hear, "", {"udp": former})
    keeper.keep("udp", latter)
    assert keeper.held("udp") == latter
    assert (is_open(former), is_open(latter)) == (False, True)
    keeper.keep("udp", latter)
    assert is_open(latter)
    assert supervisor.said == [Keep("_.udp"), Keep("_.udp")]
    os.close(latter)
    supervisor.close()


def test_what_is_let_go_is_closed_and_said_once() -> None:
    supervisor, fd = Supervisor(), os.open("/dev/null", os.O_RDONLY)
    keeper = Keeper(supervisor.hear, "blue", {"tun": fd})
    keeper.let_go("tun")
    keeper.let_go("tun")
    assert keeper.held("tun") is None
    assert not is_open(fd)
    assert supervisor.said == [LetGo("blue.tun")]


@pytest.mark.parametrize(("role", "fd"), [("tun", 1 << 20), ("a role", 0)], ids=["no descriptor", "no role"])
def test_a_refused_one_changes_nothing(role: str, fd: int) -> None:
    supervisor = Supervisor()
    keeper = Keeper(supervisor.hear, "blue", {"tun": 0})
    with pytest.raises((OSError, ValueError)):
        keeper.keep(role, fd)
    assert (keeper.held("tun"), keeper.held("a role")) == (0, None)
    assert is_open(0)
    assert supervisor.said == []
