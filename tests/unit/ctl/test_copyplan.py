"""A copy as a plan: what is there stays, what is missing comes, what cannot be is said."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.ctl.copyplan import NetworkPlan, Step, plan
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.store.protocol import Revision, Snapshot

CONFIG = b'{"Network":"10.1.0.0/16"}'
FILLED = b'{"Network":"10.1.0.0/16","SubnetMin":"10.1.1.0","SubnetMax":"10.1.255.0","SubnetLen":24}'
OTHER = b'{"Network":"10.2.0.0/16"}'


def lease(subnet: str, ip: str = "192.0.2.1", *, lease_id: int = 7, kind: str = "") -> LeaseRecord:
    return LeaseRecord(Subnet.parse(subnet), LeaseAttrs(parse_ip(ip), kind), lease_id, 1)


def store(config: bytes | None, *leases: LeaseRecord) -> Snapshot:
    return Snapshot(Revision("c", 1), config, {record.subnet: record for record in leases})


def after(made: NetworkPlan, target: Snapshot) -> Snapshot:
    """TO once `made` was carried out."""
    leases = {**target.leases, **{record.subnet: record for record in made.writes}}
    return Snapshot(target.revision, made.config if made.writes_config else target.config, leases)


def test_everything_comes_into_an_empty_store() -> None:
    reserved, leased = lease("10.1.1.0/24", lease_id=0), lease("10.1.2.0/24", "192.0.2.2")
    made = plan("blue", store(CONFIG, leased, reserved), store(None))
    assert made.step is Step.COPY
    assert made.writes == (reserved, leased)
    assert made.writes_config
    assert made.conflicts == ()


def test_what_stands_already_is_left() -> None:
    record = lease("10.1.1.0/24")
    made = plan("blue", store(CONFIG, record), store(CONFIG, record._replace(lease_id=9, revision=4)))
    assert (made.step, made.writes, made.there, made.conflicts, made.notes) == (Step.THERE, (), (record,), (), ())


def test_what_a_host_has_told_the_new_store_itself_is_left_and_said() -> None:
    made = plan("blue", store(CONFIG, lease("10.1.1.0/24")), store(CONFIG, lease("10.1.1.0/24", kind="vxlan")))
    assert made.writes == ()
    assert made.conflicts == ()
    assert "other backend data" in made.notes[0]


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        (lease("10.1.1.0/24", "192.0.2.9"), "10.1.1.0/24 is of 192.0.2.1 in FROM and of 192.0.2.9 in TO"),
        (lease("10.1.0.0/22", "192.0.2.9"), "10.1.1.0/24 of 192.0.2.1 overlaps 10.1.0.0/22 of 192.0.2.9 in TO"),
        (lease("10.1.1.128/25"), "10.1.1.0/24 of 192.0.2.1 overlaps 10.1.1.128/25 of 192.0.2.1 in TO"),
    ],
)
def test_a_subnet_that_another_has_is_a_conflict_and_nothing_is_written(standing: LeaseRecord, words: str) -> None:
    made = plan("blue", store(CONFIG, lease("10.1.1.0/24"), lease("10.1.9.0/24", "192.0.2.7")), store(None, standing))
    assert made.conflicts == (words,)
    assert made.writes == ()
    assert not made.writes_config
    assert [str(record.subnet) for record in made.missing] == ["10.1.9.0/24"]


def test_a_reservation_that_is_a_lease_in_the_new_store_is_a_conflict() -> None:
    made = plan("blue", store(CONFIG, lease("10.1.1.0/24", lease_id=0)), store(None, lease("10.1.1.0/24")))
    assert "is a reservation in FROM and a lease in TO" in made.conflicts[0]


def test_a_lease_that_is_a_reservation_in_the_new_store_stays_one() -> None:
    made = plan("blue", store(CONFIG, lease("10.1.1.0/24")), store(CONFIG, lease("10.1.1.0/24", lease_id=0)))
    assert (made.writes, made.conflicts) == ((), ())


def test_a_host_that_would_have_two_subnets_is_named() -> None:
    made = plan("blue", store(CONFIG, lease("10.1.1.0/24")), store(CONFIG, lease("10.1.9.0/24")))
    assert "192.0.2.1 has 10.1.9.0/24 in TO already, and now 10.1.1.0/24 too" in made.notes[0]
    assert len(made.writes) == 1


def test_a_config_that_differs_is_a_conflict_unless_it_shall_be_replaced() -> None:
    source, target = store(OTHER, lease("10.2.1.0/24")), store(CONFIG)
    made = plan("blue", source, target)
    assert made.step is Step.CONFLICT
    assert "Network 10.1.0.0/16 becomes 10.2.0.0/16" in made.conflicts[0]
    assert made.writes == ()
    replaced = plan("blue", source, target, replace_configs=True)
    assert (replaced.step, replaced.conflicts, len(replaced.writes)) == (Step.REPLACE, (), 1)


def test_a_config_that_an_old_server_filled_in_is_the_same() -> None:
    assert plan("blue", store(FILLED), store(CONFIG)).step is Step.THERE


@pytest.mark.parametrize("replace", [False, True])
def test_a_wrong_config_is_never_written(replace: bool) -> None:
    made = plan("blue", store(b'"the server says: no"'), store(None), replace_configs=replace)
    assert made.step is Step.CONFLICT
    assert "the config in FROM is wrong" in made.conflicts[0]


def test_a_network_without_a_config_keeps_its_leases() -> None:
    made = plan("blue", store(None, lease("10.1.1.0/24")), store(CONFIG))
    assert (made.step, len(made.writes), made.writes_config) == (Step.ABSENT, 1, False)


WIDE = st.builds(lambda base, length: Subnet.of(base << 24, length), st.integers(10, 11), st.integers(5, 9))
NARROW = st.builds(
    lambda at, length: Subnet.of((10 << 24) | (at << 14), length), st.integers(0, 7), st.integers(16, 20)
)
SUBNETS = WIDE | NARROW


def snapshots(configs: Iterable[bytes | None]) -> st.SearchStrategy[Snapshot]:
    records = st.builds(
        lambda subnet, ip, kind, lease_id: LeaseRecord(subnet, LeaseAttrs(ip, kind), lease_id, 1),
        SUBNETS, st.integers(1, 4), st.sampled_from(["", "vxlan"]), st.integers(0, 2),
    )  # fmt: skip
    return st.builds(lambda config, leases: store(config, *leases), st.sampled_from(list(configs)), st.lists(records))


FROM = snapshots((None, CONFIG, OTHER, b"wrong"))
TO = snapshots((None, CONFIG, FILLED, OTHER, b"wrong"))


@given(FROM, TO, st.booleans())
def test_no_lease_that_stands_is_ever_changed(source: Snapshot, target: Snapshot, replace: bool) -> None:
    made = plan("blue", source, target, replace_configs=replace)
    result = after(made, target)
    assert {subnet: result.leases[subnet] for subnet in target.leases} == dict(target.leases)
    assert all(source.leases[record.subnet] == record for record in made.writes)
    if not replace and target.config is not None:
        assert result.config == target.config


@given(FROM, TO, st.booleans())
def test_copying_twice_changes_nothing(source: Snapshot, target: Snapshot, replace: bool) -> None:
    first = plan("blue", source, target, replace_configs=replace)
    second = plan("blue", source, after(first, target), replace_configs=replace)
    assert second.writes == ()
    assert not second.writes_config
    assert second.conflicts == first.conflicts


@given(FROM, TO)
def test_without_a_conflict_all_is_there_and_no_two_hosts_share_an_address(source: Snapshot, target: Snapshot) -> None:
    made = plan("blue", source, target)
    assert len(made.missing) + len(made.there) + len(made.held) == len(source.leases)
    if made.conflicts:
        assert after(made, target) == target
        return
    result = after(made, target).leases
    assert all(result[subnet].attrs.public_ip == record.attrs.public_ip for subnet, record in source.leases.items())
    for record in made.writes:
        strangers = target.leases.keys() - source.leases.keys()
        assert not [subnet for subnet in strangers if subnet.overlaps(record.subnet)]
