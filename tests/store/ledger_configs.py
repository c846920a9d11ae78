"""The ledger's contract: configs and networks."""

from __future__ import annotations

import asyncio

import pytest

from flannel_multi.model.errors import Compacted, KeyAbsent
from flannel_multi.store.protocol import (
    ConfigWritten,
    NetworkGone,
    NetworkWritten,
)
from tests.store.ledger_hooks import FIVE, ONE, LedgerHooks
from tests.store.rig import CONFIG, attrs, reading, run, value, watched


class ConfigsContract(LedgerHooks):
    # -- configs -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "raw",
        [CONFIG, b"", b"{", b"null\n", b'"text"', b"\x00\xff\xfe", '{ "Network" : "10.1.0.0/16", "é": 1 }\n'.encode(),
         b" " * 100_000 + b"x\r\n\r\n"],
        ids=["valid", "empty", "cut off", "null", "text", "bytes", "odd", "long"],
    )  # fmt: skip
    def test_a_config_is_kept_byte_for_byte_whatever_it_is(self, fresh: str, raw: bytes) -> None:
        async def story() -> None:
            async with self.open() as ledger, self.open() as other:
                revision = await ledger.write_config(fresh, raw)
                found = await other.read_config(fresh)
                assert found.config == raw
                assert found.revision.number >= revision > 0
                assert (await other.snapshot(fresh)).config == raw

        run(story())

    def test_a_config_that_is_absent_is_read_as_none(self, fresh: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                found = await ledger.read_config(fresh)
                assert found.config is None
                assert found.revision.cluster == (await ledger.snapshot(fresh)).revision.cluster

        run(story())

    def test_a_config_written_by_another_is_read_and_a_rewritten_one_replaces_it(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                assert (await ledger.read_config(net)).config == CONFIG
                first = await ledger.write_config(net, b"two")
                second = await ledger.write_config(net, b"three")
                assert (await ledger.read_config(net)).config == b"three"
                assert first < second

        run(story())

    def test_configs_written_and_deleted_are_told_to_watchers_with_their_revisions(self, net: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                start = await ledger.snapshot(net)
                async with watched(ledger, net, start.revision) as watch:
                    first = await ledger.write_config(net, b"two")
                    await watch.until(lambda: len(watch.changes) == 1)
                    again = await ledger.write_config(net, b"two")
                    await watch.until(lambda: len(watch.changes) == 2)
                    gone = await ledger.delete_config(net)
                    await watch.until(lambda: len(watch.changes) == 3)
                assert watch.changes == [
                    ConfigWritten(b"two", first),
                    ConfigWritten(b"two", again),
                    ConfigWritten(None, gone),
                ]

        run(story())

    def test_a_deleted_config_is_gone_and_the_leases_stay(self, net: str) -> None:
        self.put_lease(net, FIVE.key, value(ONE))

        async def story() -> None:
            async with self.open() as ledger:
                revision = await ledger.delete_config(net)
                found = await ledger.read_config(net)
                assert found.config is None
                assert found.revision.number >= revision
                assert list((await ledger.snapshot(net)).leases) == [FIVE]

        run(story())

    def test_deleting_an_absent_config_names_the_key_and_the_revision(self, fresh: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                now = (await ledger.read_config(fresh)).revision.number
                with pytest.raises(KeyAbsent) as caught:
                    await ledger.delete_config(fresh)
                error = caught.value
                assert error.key.endswith(f"{fresh}/config")
                assert error.revision >= now
                assert error.message == f"100: Key not found ({error.key}) [{error.revision}]"

        run(story())

    # -- networks ------------------------------------------------------------------------------------------------

    def test_networks_are_those_with_a_config_whatever_it_is_and_sorted(self, fresh: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                for name in ("c", "a", "B", "b.x", "b-x", "gone"):
                    await ledger.write_config(fresh + name, CONFIG if name == "a" else b"no config at all")
                await ledger.delete_config(fresh + "gone")
                self.put_lease(fresh + "leases-only", FIVE.key, value(ONE))
                self.put_lease(fresh + "a", FIVE.key, value(ONE))
                found = await ledger.networks()
                assert list(found.names) == sorted(found.names)
                ours = [name.removeprefix(fresh) for name in found.names if name.startswith(fresh)]
                assert ours == ["B", "a", "b-x", "b.x", "c"]

        run(story())

    def test_the_unnamed_network_is_never_named(self, fresh: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                start = await ledger.networks()
                async with reading(ledger.watch_networks(after=start.revision)) as watch:
                    await ledger.write_config("", CONFIG)
                    assert set((await ledger.networks()).names) == set(start.names)
                    await ledger.put_lease("", FIVE, attrs(ONE))
                    await ledger.revoke("", FIVE)
                    await ledger.delete_config("")
                    revision = await ledger.write_config(fresh, CONFIG)
                    await watch.until(lambda: bool(watch.changes))
                    assert watch.changes == [NetworkWritten(fresh, revision)]

        run(story())

    def test_networks_that_come_change_and_go_are_told_in_order_and_leases_are_not(self, fresh: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                start = await ledger.networks()
                first = await ledger.write_config(fresh, b"{}")  # before the watch stands
                async with reading(ledger.watch_networks(after=start.revision)) as watch:
                    await watch.until(lambda: len(watch.changes) == 1)
                    again = await ledger.write_config(fresh, CONFIG)
                    await ledger.put_lease(fresh, FIVE, attrs(ONE))
                    await ledger.revoke(fresh, FIVE)
                    other = await ledger.write_config(fresh + "x", CONFIG)
                    gone = await ledger.delete_config(fresh)
                    await watch.until(lambda: len(watch.changes) == 4)
                assert watch.changes == [
                    NetworkWritten(fresh, first),
                    NetworkWritten(fresh, again),
                    NetworkWritten(fresh + "x", other),
                    NetworkGone(fresh, gone),
                ]

        run(story())

    def test_a_network_listed_or_not_is_never_missed_between_listing_and_watch(self, fresh: str) -> None:
        async def story() -> None:
            async with self.open() as ledger:
                listed = []
                for at in range(5):
                    listed.append(await ledger.networks())
                    await ledger.write_config(f"{fresh}{at}", CONFIG)
                for at, listing in enumerate(listed):
                    async with reading(ledger.watch_networks(after=listing.revision)) as watch:
                        await watch.until(lambda at=at, watch=watch: len(watch.changes) == 5 - at)  # type: ignore[misc]
                    assert {change.name for change in watch.changes}.isdisjoint(listing.names)

        run(story())

    def test_a_watch_from_a_forgotten_revision_says_so_or_knows_all_the_same(self, net: str) -> None:
        """A server may remember what its store has forgotten. What never happens is a gap that nobody hears of."""

        async def story() -> None:
            async with self.open() as ledger:
                listing, snapshot = await ledger.networks(), await ledger.snapshot(net)
                first = await ledger.write_config(net, CONFIG)
                second = await ledger.write_config(net, CONFIG)
                await asyncio.to_thread(self.compact)
                async with reading(ledger.watch_networks(after=listing.revision)) as watch:
                    await watch.until(lambda: watch.ended is not None or len(watch.changes) == 2)
                    if isinstance(watch.ended, Compacted):
                        assert not watch.changes
                    else:
                        assert watch.changes == [NetworkWritten(net, first), NetworkWritten(net, second)]
                async with watched(ledger, net, snapshot.revision) as changes:
                    await changes.until(lambda: changes.ended is not None or bool(changes.changes))
                    if not isinstance(changes.ended, Compacted):
                        assert isinstance(told := changes.changes[0], ConfigWritten)
                        assert told.config == CONFIG

        run(story())
