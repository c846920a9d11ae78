"""The conversation with the parent about what exists once on a host."""

from __future__ import annotations

import pytest

from flannel_multi.model.claims import Claim, Clash
from flannel_multi.model.config import parse_config
from flannel_multi.model.errors import Conflict
from flannel_multi.model.messages import ClaimAnswer, ClaimAsked, ClaimsDropped, Phase, Up
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.clashes import Clashes
from flannel_worker.claimant import Claimant, explain, needs
from flannel_worker.standing import Waiting
from tests.unit.worker.place import ALLOC, VXLAN

CIDR = Claim("cidr", "10.5.0.0/16")
CLASH = Clash(CIDR, "green", "10.0.0.0/8")


def test_a_vxlan_network_needs_its_device_port_range_and_env_file() -> None:
    config = parse_config(VXLAN)
    kinds = [claim.kind for claim in needs(config, backend_for(config), "/run/b.env")]
    assert kinds == ["device", "vni-port", "cidr", "env-file"]
    config = parse_config(ALLOC)
    assert needs(config, backend_for(config), "/e") == (CIDR, Claim("env-file", "/e"))


def asked(*answers: ClaimAnswer) -> tuple[Claimant, list[Up]]:
    """A claimant that has asked for CIDR and heard `answers`."""
    sent: list[Up] = []
    claimant = Claimant(sent.append)
    claimant.ask((CIDR,), held=False)
    for answer in answers:
        claimant.heard(answer)
    return claimant, sent


def test_a_network_waits_for_the_answer_and_asks_once() -> None:
    claimant, sent = asked()
    for _ in range(2):
        with pytest.raises(Waiting):
            claimant.clear((CIDR,), Clashes(), held=False)
    assert sent == [ClaimAsked(1, (CIDR,), False)]
    claimant.heard(ClaimAnswer(1))
    assert claimant.clear((CIDR,), Clashes(), held=False) == []


def test_an_answer_to_an_older_question_is_no_answer() -> None:
    claimant, _ = asked()
    claimant.ask((), held=False)
    claimant.heard(ClaimAnswer(1))
    assert not claimant.answered


def test_a_refusal_names_both_sides_and_the_fix_and_ends_when_asked_again() -> None:
    claimant, _ = asked(ClaimAnswer(1, (CLASH,)))
    with pytest.raises(Conflict) as refused:
        claimant.clear((CIDR,), Clashes(), held=False)
    assert refused.value.message == (
        'cidr 10.5.0.0/16 clashes with 10.0.0.0/8 of network "green": give one of them another Network'
    )
    claimant.ask_again()
    with pytest.raises(Waiting):
        claimant.clear((CIDR,), Clashes(), held=False)
    claimant.heard(ClaimAnswer(2))
    assert claimant.clear((CIDR,), Clashes(), held=False) == []


def test_what_the_host_has_in_the_way_gives_back_what_was_granted() -> None:
    claimant, sent = asked(ClaimAnswer(1))
    with pytest.raises(Conflict, match="a foreign route"):
        claimant.clear((CIDR,), Clashes(("a foreign route",)), held=False)
    assert sent[1:] == [ClaimsDropped()]


def test_a_network_that_runs_is_told_its_faults_and_goes_on() -> None:
    claimant, _ = asked(ClaimAnswer(1, (CLASH,)))
    assert claimant.clear((CIDR,), Clashes(("a foreign route",)), held=True) == ["a foreign route", explain((CLASH,))]


def test_a_network_that_runs_keeps_its_hands_off_a_device_that_is_anothers() -> None:
    claimant, _ = asked(ClaimAnswer(1, (Clash(Claim("vni-port", "1/8472"), "green", "1/8472"),)))
    with pytest.raises(Waiting) as waiting:
        claimant.clear((CIDR,), Clashes(), held=True)
    assert waiting.value.phase is Phase.DEGRADED


def test_what_was_granted_can_be_asked_back_and_dropping_is_said_once() -> None:
    claimant, sent = asked(ClaimAnswer(1))
    claimant.give_way()
    assert claimant.yielding
    claimant.stays()
    assert not claimant.yielding
    claimant.give_way()
    claimant.drop()
    claimant.drop()
    assert (claimant.answered, claimant.yielding) == (False, False)
    assert sent[1:] == [ClaimsDropped()]
