"""What a worker may hand up, and what becomes of it."""

from __future__ import annotations

import os
import string

import pytest

from flannel_multi.model.messages import Beat, Keep, LetGo, Up
from flannel_multi.supervisor.kept import MOST, Kept, refusal

FULL = [f"blue.{letter}" for letter in string.ascii_lowercase[:MOST]]

ALLOWED: dict[str, tuple[Up, bool, list[str]]] = {
    "a word of another kind": (Beat(1), False, FULL),
    "the first": (Keep("blue.tun"), True, []),
    "the eighth": (Keep("blue.z"), True, FULL[1:]),
    "a known one, though eight are kept": (Keep(FULL[0]), True, FULL),
    "a new one, though another network has eight": (Keep("blue.tun"), True, [n.replace("blue", "green") for n in FULL]),
    "letting go": (LetGo("blue.tun"), False, ["blue.tun"]),
    "letting go of nothing": (LetGo("blue.tun"), False, []),
}
REFUSED: dict[str, tuple[Up, bool, list[str], str]] = {
    "another network's name": (Keep("green.tun"), True, [], "Keep of 'green.tun', which is no descriptor's name"),
    "letting go of another's": (LetGo("green.tun"), False, ["green.tun"], "LetGo of 'green.tun', which is no"),
    "no name": (Keep("tun"), True, [], "which is no descriptor's name of this network"),
    "a ninth": (Keep("blue.z"), True, FULL, "Keep of 'blue.z', with 8 descriptors kept already"),
    "nothing to keep": (Keep("blue.tun"), False, [], "Keep without a descriptor"),
    "letting go with a descriptor": (LetGo("blue.tun"), True, [], "LetGo with a descriptor"),
    "a word of another kind with one": (Beat(1), True, [], "Beat with a descriptor"),
}


@pytest.mark.parametrize(("message", "descriptor", "held"), ALLOWED.values(), ids=ALLOWED.keys())
def test_what_a_worker_may_say(message: Up, descriptor: bool, held: list[str]) -> None:
    assert refusal("blue", message, held, descriptor=descriptor) == ""


@pytest.mark.parametrize(("message", "descriptor", "held", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_it_may_not_say(message: Up, descriptor: bool, held: list[str], why: str) -> None:
    assert why in refusal("blue", message, held, descriptor=descriptor)


def test_a_name_that_goes_on_and_on_is_cut() -> None:
    assert len(refusal("blue", Keep("x" * 50_000), [], descriptor=True)) < 200


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_the_kept_are_given_by_role_to_their_own_network_alone() -> None:
    kept, tun, udp, green = Kept(), os.dup(0), os.dup(0), os.dup(0)
    kept.heard("blue", Keep("blue.tun"), tun)
    kept.heard("blue", Keep("blue.udp"), udp)
    kept.heard("green", Keep("green.tun"), green)
    kept.heard("green", Beat(1), None)
    assert (kept.of("blue"), kept.of("green"), kept.of("")) == ({"tun": tun, "udp": udp}, {"tun": green}, {})
    for fd in (tun, udp, green):
        os.close(fd)


def test_the_replaced_and_the_let_go_are_closed() -> None:
    kept, former, latter = Kept(), os.dup(0), os.dup(0)
    kept.heard("", Keep("_.tun"), former)
    kept.heard("", Keep("_.tun"), latter)
    assert (is_open(former), kept.of("")) == (False, {"tun": latter})
    kept.heard("", LetGo("_.tun"), None)
    assert (is_open(latter), kept.of("")) == (False, {})


def test_a_refused_one_is_closed_and_what_was_kept_stays() -> None:
    kept, tun, alien = Kept(), os.dup(0), os.dup(0)
    kept.heard("blue", Keep("blue.tun"), tun)
    with pytest.raises(ValueError, match=r"green\.tun"):
        kept.heard("blue", Keep("green.tun"), alien)
    assert not is_open(alien)
    assert kept.of("blue") == {"tun": tun}
    os.close(tun)
