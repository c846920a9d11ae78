"""Which subnet a host takes."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.allocation import Reuse, Take, choose, fits
from flannel_multi.model.config import NetworkConfig, parse_config
from flannel_multi.model.errors import NoSubnetLeft
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet

ME, OTHER = 0x0A090001, 0x0A090002


def config(network: str = "10.1.0.0/16", more: str = "") -> NetworkConfig:
    return parse_config(f'{{"Network":"{network}"{more},"Backend":{{"Type":"alloc"}}}}'.encode())


def lease(subnet: str, ip: int = OTHER) -> LeaseRecord:
    return LeaseRecord(Subnet.parse(subnet), LeaseAttrs(ip), lease_id=7)


def pick(cfg: NetworkConfig, leases: list[LeaseRecord], prefer: str = "") -> Reuse | Take:
    return choose(cfg, leases, public_ip=ME, prefer=Subnet.parse(prefer) if prefer else None, rng=random.Random(1))


def test_the_own_lease_is_reused() -> None:
    mine = lease("10.1.7.0/24", ME)
    assert pick(config(), [lease("10.1.6.0/24"), mine]) == Reuse(mine)


def test_an_own_lease_of_another_length_is_stale_and_another_is_taken() -> None:
    old = lease("10.1.7.0/25", ME)
    taken = pick(config(), [old], prefer="10.1.9.0/24")
    assert taken == Take(Subnet.parse("10.1.9.0/24"), stale=(old,))


def test_the_subnet_of_the_last_run_is_preferred_while_free() -> None:
    assert pick(config(), [], prefer="10.1.9.0/24") == Take(Subnet.parse("10.1.9.0/24"))
    other = pick(config(), [lease("10.1.9.0/24")], prefer="10.1.9.0/24")
    assert isinstance(other, Take)
    assert other.subnet != Subnet.parse("10.1.9.0/24")


def test_a_full_network_is_said_and_not_spun_on() -> None:
    with pytest.raises(NoSubnetLeft, match="out of subnets"):
        pick(config("10.1.0.0/24"), [lease("10.1.0.128/25")])


def test_a_wide_foreign_lease_is_leapt_over_in_one_step() -> None:
    began_s = time.perf_counter()
    take = pick(config("10.0.0.0/8", ',"SubnetLen":30'), [lease("10.0.0.0/9")])
    assert time.perf_counter() - began_s < 0.1
    assert isinstance(take, Take)
    assert take.subnet.base >= Subnet.parse("10.128.0.0/9").base


@given(
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(14, 30)), max_size=60),
    st.integers(18, 30),
    st.integers(0, 1 << 30),
)
def test_what_is_taken_fits_and_overlaps_nothing(spots: list[tuple[int, int]], length: int, seed: int) -> None:
    cfg = config(more=f',"SubnetLen":{length}')
    leases = [LeaseRecord(Subnet.of(0x0A010000 | low, bits), LeaseAttrs(OTHER), 7) for low, bits in spots]
    try:
        take = choose(cfg, leases, public_ip=ME, prefer=None, rng=random.Random(seed))
    except NoSubnetLeft:
        return
    assert isinstance(take, Take)
    assert fits(cfg, take.subnet)
    assert not any(take.subnet.overlaps(record.subnet) for record in leases)
