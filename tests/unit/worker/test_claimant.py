"""The conversation with the parent about what exists once on a host."""

from __future__ import annotations

from flannel_multi.model.claims import Claim, Clash
from flannel_multi.model.config import parse_config
from flannel_multi.model.messages import ClaimAnswer, ClaimAsked, ClaimsDropped, Up
from flannel_worker.backends.choose import backend_for
from flannel_worker.claimant import Claimant, explain, needs
from tests.unit.worker.place import ALLOC, VXLAN

CIDR = Claim("cidr", "10.5.0.0/16")
CLASH = Clash(CIDR, "green", "10.0.0.0/8")


def test_a_vxlan_network_needs_its_device_port_range_and_env_file() -> None:
    config = parse_config(VXLAN)
    kinds = [claim.kind for claim in needs(config, backend_for(config), "/run/b.env")]
    assert kinds == ["device", "vni-port", "cidr", "env-file"]
    config = parse_config(ALLOC)
    assert needs(config, backend_for(config), "/e") == (CIDR, Claim("env-file", "/e"))


def test_the_same_claims_are_asked_for_once() -> None:
    sent: list[Up] = []
    claimant = Claimant(sent.append)
    claimant.ask((CIDR,), held=False)
    claimant.ask((CIDR,), held=False)
    assert sent == [ClaimAsked(1, (CIDR,), False)]
    assert not claimant.granted
    claimant.heard(ClaimAnswer(1))
    assert claimant.granted


def test_an_answer_to_an_older_question_is_no_answer() -> None:
    claimant = Claimant(list[Up]().append)
    claimant.ask((CIDR,), held=False)
    claimant.ask((), held=False)
    claimant.heard(ClaimAnswer(1))
    assert not claimant.granted


def test_a_refusal_names_both_sides_and_the_fix_and_ends_when_asked_again() -> None:
    sent: list[Up] = []
    claimant = Claimant(sent.append)
    claimant.ask((CIDR,), held=False)
    claimant.heard(ClaimAnswer(1, (CLASH,)))
    assert not claimant.granted
    assert explain(claimant.clashes) == (
        'cidr 10.5.0.0/16 clashes with 10.0.0.0/8 of network "green": give one of them another Network'
    )
    claimant.ask_again()
    claimant.ask((CIDR,), held=False)
    claimant.heard(ClaimAnswer(2))
    assert claimant.granted


def test_what_was_granted_can_be_asked_back_and_dropping_is_said_once() -> None:
    sent: list[Up] = []
    claimant = Claimant(sent.append)
    claimant.drop()
    claimant.ask((CIDR,), held=False)
    claimant.heard(ClaimAnswer(1))
    claimant.give_way()
    assert claimant.yielding
    claimant.stays()
    assert (claimant.granted, claimant.yielding) == (True, False)
    claimant.give_way()
    claimant.drop()
    claimant.drop()
    assert (claimant.granted, claimant.yielding) == (False, False)
    assert sent[1:] == [ClaimsDropped()]


def test_a_device_that_is_anothers_is_told_from_other_clashes() -> None:
    claimant = Claimant(list[Up]().append)
    claimant.ask((CIDR,), held=True)
    claimant.heard(ClaimAnswer(1, (CLASH,)))
    assert not claimant.device_taken
    claimant.heard(ClaimAnswer(1, (CLASH, Clash(Claim("vni-port", "1/8472"), "green", "1/8472"))))
    assert claimant.device_taken
