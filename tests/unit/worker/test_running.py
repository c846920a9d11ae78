"""Which config is in force."""

from __future__ import annotations

import pytest

from flannel_multi.model.errors import ConfigError
from flannel_worker.running import Running
from tests.unit.worker.place import ALLOC, KEY, VXLAN


def running_on(raw: bytes) -> Running:
    """A config that the network runs on."""
    running = Running(KEY)
    running.take(raw)
    running.served = True
    return running


def test_the_first_config_is_taken_and_a_later_one_only_remarked() -> None:
    assert Running(KEY).shown(ALLOC)
    running = running_on(ALLOC)
    assert not running.shown(VXLAN)
    assert "config changed" in running.remark(VXLAN)
    assert "config gone" in running.remark(None)
    assert running.remark(ALLOC) == ""


def test_a_network_that_never_ran_follows_its_key() -> None:
    running = Running(KEY)
    running.take(ALLOC)
    assert running.shown(VXLAN)
    assert not running.shown(ALLOC)
    assert not running.shown(None)


@pytest.mark.parametrize(("confirmed", "wanted"), [(True, False), (False, True)])
def test_only_a_start_of_the_daemon_takes_another_config_over_the_remembered_one(confirmed: bool, wanted: bool) -> None:
    running = Running(KEY)
    running.remember(ALLOC, confirmed=confirmed)
    assert running.shown(VXLAN) is wanted


@pytest.mark.parametrize("first", [ALLOC, None])
def test_once_the_store_had_its_say_a_rewrite_waits(first: bytes | None) -> None:
    running = Running(KEY)
    running.remember(ALLOC, confirmed=False)
    assert not running.shown(first)
    assert not running.shown(VXLAN)


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"Network":"10.5.0.0/31"}', b'{"Network":"10.5.0.0/16","Backend":{}}'])
def test_a_refused_value_names_its_key_and_leaves_the_old_one_in_force(raw: bytes) -> None:
    running = Running(KEY)
    running.remember(ALLOC, confirmed=False)
    lines = set()
    for _ in range(2):
        with pytest.raises(ConfigError) as refused:
            running.take(raw)
        lines.add(refused.value.message)
    (line,) = lines
    assert KEY in line
    assert running.now is not None
    assert running.now.raw == ALLOC
    running.take(VXLAN)
    assert running.now.backend.kind == "vxlan"
    assert running.before is not None
    assert running.before.raw == ALLOC


def test_odd_but_valid_values_are_taken_with_their_warnings() -> None:
    assert len(Running(KEY).take(b'{"Network":"10.5.7.7/16","EnableIPv6":true,"Backend":{"Type":"alloc"}}')) == 2
