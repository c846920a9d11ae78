"""What happens in a network is told to everybody who waits for it: all of it, in order, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from flannel_multi.model.subnet import Subnet
from flannel_multi.options import SqliteOptions
from flannel_multi.server.network import BEHIND, Network
from flannel_multi.server.turns import Turns
from flannel_multi.store.sqlite import SqliteStore
from tests.lab.store_file import StoreFile
from tests.server.pollers import CONFIG, NETWORK, PATIENCE_S, Store, Told, polling, run, store_of

CLIENTS = 200
EVENTS = 50
STANDING = 10  # leases that are there before the clients come, and go while they wait


@pytest.fixture(params=["etcd", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with store_of(request.param, tmp_path) as made:
        for number in range(STANDING):
            made.write(number)
        yield made


def changes(store: Store) -> Iterator[Callable[[], Told]]:
    """EVENTS changes to make one after another: of each five the last ends a lease that stood before."""
    for number in range(EVENTS):
        if number % 5 == 4:
            yield partial(store.delete, number // 5)
        else:
            yield partial(store.write, 1000 + number)


async def make(changes: list[Callable[[], Told]]) -> list[Told]:
    return [await asyncio.to_thread(change) for change in changes]


@pytest.mark.parametrize("query", ["", "&max=1000"])
def test_every_client_is_told_every_event_in_order_and_once(store: Store, query: str) -> None:
    async def story() -> None:
        async with polling([server], CLIENTS, query) as pollers:
            told = await make(list(changes(store)))
            for poller in pollers:
                await poller.has(events=EVENTS)
                assert poller.events == told
                assert len(poller.snapshots) == 1

    with store.server() as server:
        run(story)


@pytest.mark.parametrize("query", ["", "&max=1000"])
def test_a_server_that_is_killed_and_started_again_loses_and_doubles_no_event(store: Store, query: str) -> None:
    async def story() -> None:
        async with polling([server], CLIENTS, query) as pollers:
            todo = list(changes(store))
            told = await make(todo[:20])
            await asyncio.to_thread(server.kill)
            told += await make(todo[20:35])
            await asyncio.to_thread(server.start)
            told += await make(todo[35:])
            for poller in pollers:
                await poller.has(events=EVENTS)
                assert poller.events == told
                assert len(poller.snapshots) == 1

    with store.server() as server:
        run(story)


@pytest.mark.parametrize("query", ["", "&max=1000"])
def test_clients_may_change_between_two_servers_with_every_question(store: Store, query: str) -> None:
    async def story() -> None:
        async with polling([one, other], CLIENTS, query) as pollers:
            told = await make(list(changes(store)))
            for poller in pollers:
                await poller.has(events=EVENTS)
                assert poller.events == told
                assert len(poller.snapshots) == 1

    with store.server("one") as one, store.server("other") as other:
        run(story)


def test_cursors_of_any_age_are_served_by_a_server_that_was_just_started(store: Store) -> None:
    with store.server() as server:
        pages = [json.loads(server.ask("GET", f"/v1/{NETWORK}/leases").body)]
        told = []
        for change in changes(store):
            told.append(change())
            pages.append(json.loads(server.ask("GET", f"/v1/{NETWORK}/leases").body))
        server.kill()
        server.start()
        for age in (1, 20, 10, EVENTS):
            answer = server.ask("GET", f"/v1/{NETWORK}/leases?next={pages[-1 - age]['cursor']}&max=1000")
            events = json.loads(answer.body)["events"]
            assert [(event["type"], event["lease"]["Subnet"]) for event in events] == told[-age:]


def test_a_cursor_from_before_what_the_store_remembers_is_answered_with_a_snapshot(store: Store) -> None:
    with store.server() as server:
        old = json.loads(server.ask("GET", f"/v1/{NETWORK}/leases").body)["cursor"]
        store.write(1)
        store.delete(0)
        remembered = json.loads(server.ask("GET", f"/v1/{NETWORK}/leases?next={old}").body)
        store.forget()
        assert json.loads(server.ask("GET", f"/v1/{NETWORK}/leases?next={old}").body) == remembered
        server.kill()
        server.start()
        answer = json.loads(server.ask("GET", f"/v1/{NETWORK}/leases?next={old}").body)
        assert answer["events"] is None
        assert [lease["Subnet"] for lease in answer["snapshot"]] == [f"10.0.{at}.0/24" for at in range(1, STANDING)]
        assert int(answer["cursor"]) > int(old)


def test_a_cursor_from_the_future_is_answered_with_a_snapshot_at_once(store: Store) -> None:
    with store.server() as server:
        now = json.loads(server.ask("GET", f"/v1/{NETWORK}/leases").body)
        assert json.loads(server.ask("GET", f"/v1/{NETWORK}/leases?next=99999999").body) == now


def test_clients_that_wait_while_the_store_is_restored_to_an_older_state_get_a_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        assert store.etcd is not None
        await asyncio.to_thread(store.etcd.save, tmp_path / "saved")
        await make([partial(store.write, number) for number in range(10, 30)])
        async with polling([server], 20) as pollers:
            await asyncio.to_thread(store.etcd.restore, tmp_path / "saved")
            for poller in pollers:
                await poller.has(snapshots=2)
                assert len(poller.snapshots[0]) == 30
                assert len(poller.snapshots[1]) == 10
            told = store.write(500)
            for poller in pollers:
                await poller.has(events=1)
                assert poller.events == [told]

    with store_of("etcd", tmp_path) as store:
        for number in range(10):
            store.write(number)
        with store.server() as server:
            run(story)


def test_a_restored_store_whose_revisions_have_caught_up_is_no_sequel_of_what_was_told(tmp_path: Path) -> None:
    """etcd keeps its name over a restore, and its numbers grow again: a client must not be told the lost events."""

    def restored() -> None:
        assert store.etcd is not None
        server.pause()
        store.etcd.restore(tmp_path / "saved")
        for number in range(100, 130):  # more than were lost, before the server looks again
            store.write(number)
        server.resume()

    async def story() -> None:
        assert store.etcd is not None
        await asyncio.to_thread(store.etcd.save, tmp_path / "saved")
        await make([partial(store.write, number) for number in range(10, 30)])
        before = server.ask("GET", f"/v1/{NETWORK}/leases").headers["flannel-cluster"]
        async with polling([server], 5) as pollers:
            for poller in pollers:
                await poller.has(snapshots=1)
            await asyncio.sleep(0.3)  # they wait for news by then
            await asyncio.to_thread(restored)
            for poller in pollers:
                await poller.has(snapshots=2)
                assert len(poller.snapshots[1]) == 10 + 30
                assert not poller.events
            answer = server.ask("GET", f"/v1/{NETWORK}/leases?next=20")
            assert json.loads(answer.body)["events"] is None, "a cursor of before is answered by a snapshot"
            assert answer.headers["flannel-cluster"] != before

    with store_of("etcd", tmp_path) as store:
        for number in range(10):
            store.write(number)
        with store.server() as server:
            run(story)


def test_clients_that_go_leave_nothing_behind(store: Store) -> None:
    async def story() -> None:
        process = psutil.Process(server.pid)
        async with polling([server], 1) as others:
            store.write(STANDING)  # once it is told, the server's own watch stands, and has its descriptors
            await others[0].has(events=1)
            before = process.num_fds()
            async with polling([server], CLIENTS):
                assert process.num_fds() == before + CLIENTS
            async with asyncio.timeout(PATIENCE_S):
                while process.num_fds() > before:
                    await asyncio.sleep(0.01)

    with store.server() as server:
        run(story)
        assert " E " not in server.log


@asynccontextmanager
async def network(file: StoreFile) -> AsyncIterator[Network]:
    """The network of `file` in this process."""
    file.put_config(NETWORK, CONFIG.encode())
    ledger = SqliteStore(SqliteOptions(str(file.path)))
    made = Network(ledger, NETWORK, Turns())
    try:
        yield made
    finally:
        made.close()
        await ledger.close()


def leases(count: int) -> list[tuple[str | bytes, str | bytes]]:
    return [(f"10.{at >> 8}.{at & 255}.0-24", f'{{"PublicIP":"198.18.{at >> 8}.{at & 255}"}}') for at in range(count)]


def test_questions_that_are_given_up_are_waited_for_by_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with network(StoreFile(tmp_path / "store.db")) as blue:
            asked = [
                asyncio.create_task(blue.next_events(0, subnet, most=1, rich=False))
                for subnet in (None, Subnet.parse("10.0.1.0/24")) * 100
            ]
            while blue.follower.waiting < len(asked):
                await asyncio.sleep(0.01)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            assert blue.follower.waiting == 0

    run(story)


def test_who_waits_for_its_own_lease_is_told_its_end_however_much_happened_to_others(tmp_path: Path) -> None:
    async def story() -> None:
        file = StoreFile(tmp_path / "store.db")
        file.put_lease(NETWORK, "10.200.0.0-24", '{"PublicIP":"198.19.0.1"}')
        own = Subnet.parse("10.200.0.0/24")
        async with network(file) as blue:
            asked = asyncio.create_task(blue.next_events(0, own, most=1, rich=False))
            while not blue.follower.waiting:
                await asyncio.sleep(0.01)
            began_at = blue.follower.revision.number
            for _ in range(5):  # in all more than a history holds
                await asyncio.to_thread(file.put_leases, NETWORK, leases(5000))
            while blue.follower.history.floor <= began_at:
                await asyncio.sleep(0.01)
            file.delete_lease(NETWORK, "10.200.0.0-24")
            news = await asked
            assert news.body is not None
            assert b'{"type":"removed","lease":{"Subnet":"10.200.0.0/24"' in news.body

    run(story)


def test_who_is_a_thousand_answers_behind_catches_up_by_a_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        file = StoreFile(tmp_path / "store.db")
        async with network(file) as blue:
            await blue.follower.start()
            cursor = blue.follower.revision.number
            for _ in range(2):
                file.put_leases(NETWORK, leases(BEHIND // 2))
            while blue.follower.history.behind(cursor) < BEHIND:
                await asyncio.sleep(0.01)
            assert (await blue.next_events(cursor, None, most=1, rich=False)).body is not None
            file.put_lease(NETWORK, *leases(1)[0])
            while blue.follower.history.behind(cursor) <= BEHIND:
                await asyncio.sleep(0.01)
            assert (await blue.next_events(cursor, None, most=1, rich=False)).body is None
            body = (await blue.next_events(cursor, None, most=2, rich=False)).body
            assert body is not None
            assert body.count(b'"type":"added"') == 2

    run(story)
