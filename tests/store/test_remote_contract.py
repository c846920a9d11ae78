"""RemoteStore is a lease store and a ledger, over a server on etcd and over one on the embedded store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from flannel_multi.model.errors import Compacted, StoreRefused
from flannel_multi.model.lease import LEASE_TTL_S
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.store.protocol import ConfigWritten, Known, LeaseGone, LeaseWritten
from flannel_multi.store.remote import RemoteStore
from tests.lab.etcd import Etcd
from tests.lab.server import Server
from tests.lab.store_file import StoreFile
from tests.store.contract import SMALL
from tests.store.ledger_contract import LedgerContract
from tests.store.ledger_hooks import FIVE, ends_in
from tests.store.remote_rig import admin, opened_remote
from tests.store.rig import attrs, config, run, value, watched
from tests.store.test_contract import EtcdHooks


class RemoteContract(LedgerContract):
    """What v1 changes of the contract, in the tests that say it."""

    server: Server

    def open(self) -> AbstractAsyncContextManager[RemoteStore]:
        return opened_remote(self.server.url)

    def begin_anew(self) -> None:
        """A server remembers what its store has forgotten, until it ends."""
        self.server.kill()
        self.server.start()

    def test_a_full_network_is_said_and_a_lease_that_goes_makes_room(self, net: str) -> None:
        """The server allocates, by the config that it has."""
        self.put_config(net, SMALL)
        super().test_a_full_network_is_said_and_a_lease_that_goes_makes_room(net)

    def test_an_outdated_first_listing_grants_no_subnet_twice(self, net: str) -> None:
        """The server allocates, by the config that it has."""
        self.put_config(net, SMALL)
        super().test_an_outdated_first_listing_grants_no_subnet_twice(net)

    def test_a_watch_gives_every_change_after_its_revision_in_order(self, net: str) -> None:
        """Leases and config come on two connections: each in its order, with the numbers that tell the whole order."""

        async def story() -> None:
            async with self.open() as store:
                start = await store.snapshot(net)
                self.put_lease(net, "10.1.5.0-24", value("192.0.2.5"))
                async with watched(store, net, start.revision) as watch:
                    await watch.until(lambda: len(watch.changes) == 1)
                    await asyncio.to_thread(self.put_config, net, b"two")
                    await asyncio.to_thread(self.delete_lease, net, "10.1.5.0-24")
                    await asyncio.to_thread(self.delete_config, net)
                    await watch.until(lambda: len(watch.changes) == 4)
                configs = [change for change in watch.changes if isinstance(change, ConfigWritten)]
                leases = [change for change in watch.changes if not isinstance(change, ConfigWritten)]
                assert [change.config for change in configs] == [b"two", None]
                written, gone = leases
                assert isinstance(written, LeaseWritten)
                assert isinstance(gone, LeaseGone)
                numbers = [start.revision.number, written.record.revision, configs[0].revision, gone.revision]
                assert sorted({*numbers, configs[1].revision}) == [*numbers, configs[1].revision]

        run(story())

    def test_a_lease_by_another_config_than_the_one_in_force_is_said(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                with pytest.raises(StoreRefused, match=r"does not fit the one in force here \(10\.9\.0\.0/16, /24\)"):
                    await store.acquire(net, config(b'{"Network":"10.9.0.0/16"}'), attrs("192.0.2.1"), prefer=None)

        run(story())

    def test_a_known_lease_whose_value_turns_bad_is_gone_and_then_skipped(self, net: str) -> None:
        """v1 has no event for what is skipped: the server logs it."""
        self.put_lease(net, "10.1.5.0-24", value("192.0.2.5"))

        async def story() -> None:
            async with self.open() as store:
                start = await store.snapshot(net)
                async with watched(store, net, start.revision) as watch:
                    await asyncio.to_thread(self.put_lease, net, "10.1.5.0-24", b"\xff\x00{")
                    await asyncio.to_thread(self.put_lease, net, "10.1.6.0-24", value("192.0.2.6"))
                    await watch.until(lambda: len(watch.changes) == 2)
                    assert isinstance(watch.changes[0], LeaseGone)
                    assert isinstance(watch.changes[1], LeaseWritten)

        run(story())

    def test_a_reservation_given_back_ends_in_a_day_with_its_attributes_and_again(self, net: str) -> None:
        """Who has never asked about the network does not know where to look for the end."""

        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                await ledger.reserve(net, FIVE, parse_ip("192.0.2.1"))
                start = await ledger.snapshot(net)
                async with watched(ledger, net, start.revision) as watch:
                    first = await ledger.unreserve(net, FIVE)
                    await watch.until(lambda: len(watch.changes) == 1)
                    again = await ledger.unreserve(net, FIVE)
                    await watch.until(lambda: len(watch.changes) == 2)
                assert watch.changes == [LeaseWritten(first), LeaseWritten(again)]
                assert not again.permanent
                await other.snapshot(net)
                await other.learn_expiries([again])
                for store in (ledger, other):
                    assert ends_in(store, again, LEASE_TTL_S)

        run(story())

    def test_history_is_not_told_by_a_store_that_is_served_itself(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as store:
                snapshot = await store.snapshot(net)
                with pytest.raises(Compacted):
                    await store.replay(net, after=snapshot.revision.number, upto=snapshot)

        run(story())

    def test_nothing_is_listed_again_when_nothing_was_written(self, net: str) -> None:
        self.put_lease(net, "10.1.5.0-24", value("192.0.2.5"))

        async def story() -> None:
            async with self.open() as store:
                first = await store.snapshot(net)
                marked = {Subnet.parse("10.1.5.0/24"): first.leases[FIVE]._replace(lease_id=77)}
                again = await store.snapshot(net, known=Known(first.revision, marked))
                assert again.leases is marked  # taken from what is known: the listing would have said otherwise
                self.put_lease(net, "10.1.6.0-24", value("192.0.2.6"))
                assert len((await store.snapshot(net, known=Known(first.revision, marked))).leases) == 2

        run(story())


@pytest.fixture(scope="module")
def over_etcd(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on the tests' etcd."""
    folder = tmp_path_factory.mktemp("served")
    flags = [f"--etcd-endpoints={','.join(etcd.urls)}", *admin(folder)]
    with Server("etcd", folder, flags=flags) as server:
        yield server


class TestRemoteOverEtcd(EtcdHooks, RemoteContract):
    @pytest.fixture(autouse=True)
    def _served(self, over_etcd: Server) -> None:
        self.server = over_etcd

    def compact(self) -> None:
        super().compact()
        self.begin_anew()


@pytest.fixture(scope="module")
def over_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, StoreFile]]:
    """A server on a store file."""
    folder = tmp_path_factory.mktemp("served")
    file = StoreFile(folder / "store.db")
    with Server(file.url, folder, flags=admin(folder)) as server:
        yield server, file


class TestRemoteOverSqlite(RemoteContract):
    @pytest.fixture(autouse=True)
    def _served(self, over_file: tuple[Server, StoreFile]) -> None:
        self.server, self._file = over_file

    def put_config(self, network: str, raw: bytes) -> None:
        self._file.put_config(network, raw)

    def delete_config(self, network: str) -> None:
        self._file.delete_config(network)

    def put_lease(self, network: str, name: str | bytes, raw: str | bytes, *, permanent: bool = False) -> None:
        self._file.put_lease(network, name, raw, permanent=permanent)

    def put_leases(self, network: str, items: list[tuple[str, str]]) -> None:
        self._file.put_leases(network, items)

    def delete_lease(self, network: str, name: str) -> None:
        self._file.delete_lease(network, name)

    def expire(self, network: str, name: str) -> None:
        self._file.end(network, name)

    def compact(self) -> None:
        self._file.forget()
        self.begin_anew()
