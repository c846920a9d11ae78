"""A call was done and its answer got lost: nothing is done twice, nothing is left behind."""

from __future__ import annotations

import itertools

import pytest

from flannel_multi.model.errors import StoreUnavailable
from flannel_multi.model.subnet import Subnet
from tests.lab.etcd import Etcd
from tests.store.lossy import lossy
from tests.store.rig import PREFIX, attrs, config, opened, run

_numbers = itertools.count()
CREATE, GRANT = "/v3/kv/txn", "/v3/lease/grant"


@pytest.fixture
def net() -> str:
    return f"lossy{next(_numbers)}"


@pytest.mark.parametrize("lost", [GRANT, CREATE])
def test_a_lost_answer_on_a_kept_connection_is_asked_for_again(etcd: Etcd, net: str, lost: str) -> None:
    before = set(etcd.leases())

    async def story() -> None:
        async with lossy(etcd) as proxy, opened(etcd, endpoints=(proxy.url,)) as store:
            start = await store.snapshot(net)
            proxy.lose = [lost]
            lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None, first=start)
            assert proxy.lost == 1
            assert set(etcd.leases()) - before == {lease.record.lease_id}
            assert (await store.snapshot(net)).leases == {lease.record.subnet: lease.record}

    run(story())


@pytest.mark.parametrize("lost", [GRANT, CREATE])
def test_a_call_that_failed_half_way_is_cleared_up_by_the_next(etcd: Etcd, net: str, lost: str) -> None:
    before = set(etcd.leases())

    async def story() -> None:
        async with lossy(etcd) as proxy, opened(etcd, endpoints=(proxy.url,)) as store:
            start = await store.snapshot(net)
            proxy.lose = [lost, lost, "/v3/lease/revoke", "/v3/lease/revoke"]
            with pytest.raises(StoreUnavailable):
                await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None, first=start)
            proxy.lose = []
            lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=Subnet.parse("10.1.9.0/24"))
            assert set(etcd.leases()) - before == {lease.record.lease_id}
            assert len(etcd.keys(f"{PREFIX}/{net}/subnets/")) == 1

    run(story())


def test_a_publication_whose_answer_was_lost_is_no_lost_lease(etcd: Etcd, net: str) -> None:
    async def story() -> None:
        async with lossy(etcd) as proxy, opened(etcd, endpoints=(proxy.url,)) as store:
            lease = await store.acquire(net, config(), attrs("192.0.2.1"), prefer=None)
            proxy.lose = [CREATE]
            moved = await store.publish(net, lease, attrs("192.0.2.99", vni=4))
            assert proxy.lost == 1
            assert moved.record.attrs == attrs("192.0.2.99", vni=4)
            assert (await store.snapshot(net)).leases == {moved.record.subnet: moved.record}

    run(story())
