"""The tunnel: socket first, then the device, then packets; nothing leaks, whatever is in the way (spec §7.4)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest

from flannel_multi.model.errors import KernelRefused, Occupied
from flannel_multi.model.fdnames import fd_name
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.messages import Keep, Up
from flannel_worker.keeper import Keeper
from tests.kernel.bench import BACKEND, FAR, LEASES, OWN, ROLES, Bench, end, on_bench
from tests.kernel.place import NETWORK, ask, links, next_drift, open_files, open_tun, routes, run, subnet


def tuns() -> set[str]:
    return {name for name in links() if name.startswith("flannel")}


def state() -> tuple[object, ...]:
    link = links()["flannel0"]
    address = ask("ip -4 -j address show dev flannel0")[0]["addr_info"][0]
    return link["ifindex"], address["local"], address["prefixlen"], routes(device="flannel0").keys()


def test_a_network_has_its_device_its_address_and_one_route() -> None:
    async def story(bench: Bench) -> None:
        assert await bench.step() == "flannel0"
        (address,) = ask("ip -4 -j address show dev flannel0")[0]["addr_info"]
        assert (address["local"], address["prefixlen"], address["scope"]) == ("10.5.1.0", 32, "global")
        (route,) = routes(device="flannel0").values()
        assert (route["dst"], route["protocol"]) == ("10.5.0.0/16", "102")
        assert "scope" not in route, "universe, as flannel 0.28 has it"
        for name, value in (("accept_local", "1"), ("ignore_routes_with_linkdown", "0")):
            assert Path(f"/proc/sys/net/ipv4/conf/flannel0/{name}").read_text().strip() == value

    end(on_bench(story))


def connects(address: str) -> int:
    """The errno of a TCP connect that is given half a second."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.5)
        return sock.connect_ex((address, 9))


def test_an_unknown_subnet_is_unreachable_at_once_and_a_peers_is_not() -> None:
    async def story(bench: Bench) -> None:
        await bench.step()
        assert connects("10.5.2.9") == errno.EAGAIN, "no answer: nobody lives at that peer"
        assert connects("10.5.9.9") == errno.ENETUNREACH
        newcomer = subnet(9)
        record = LeaseRecord(newcomer, LeaseAttrs(FAR), 9, 7)
        await bench.step({**LEASES, newcomer: record}, whole=False)
        assert connects("10.5.9.9") == errno.EAGAIN, "a lease that comes is a peer, without a look at the kernel"
        await bench.plane.apply(BACKEND, NETWORK, OWN, LEASES, [newcomer], whole=False)
        assert connects("10.5.9.9") == errno.ENETUNREACH

    end(on_bench(story))


@pytest.mark.parametrize("spoil", [
    "ip link del flannel0", "ip link set flannel0 down", "ip address flush dev flannel0",
    "ip route del 10.5.0.0/16", "ip link set flannel0 mtu 1300",
])  # fmt: skip
def test_whatever_is_done_to_the_device_the_next_step_repairs(spoil: str) -> None:
    async def story(bench: Bench) -> None:
        await bench.step()
        before = state()[1:]
        run(spoil)
        await next_drift(bench.reconciler)
        await bench.step()
        assert state()[1:] == before
        assert bench.tunnel.runs

    end(on_bench(story))
    assert tuns() == {"flannel0"}


def test_a_path_that_loses_its_device_says_so_by_itself() -> None:
    async def story(bench: Bench) -> None:
        await bench.step()
        run("ip link del flannel0")
        async with asyncio.timeout(2.0):
            while bench.tunnel.runs:
                await bench.reconciler.next_event()
        assert not bench.tunnel.runs

    end(on_bench(story))


def test_the_next_worker_goes_on_with_the_kept_descriptors() -> None:
    async def first(bench: Bench) -> None:
        await bench.step()

    kept = on_bench(first)
    before, inodes = state(), {role: os.fstat(fd).st_ino for role, fd in kept.items()}

    async def second(bench: Bench) -> None:
        await bench.step()
        assert state() == before
        held = {role: bench.keeper.held(role) for role in ROLES}
        assert {role: os.fstat(fd).st_ino for role, fd in held.items() if fd is not None} == inodes

    end(on_bench(second, kept))


def test_without_kept_descriptors_the_device_is_found_again() -> None:
    async def story(bench: Bench) -> None:
        await bench.step()

    end(on_bench(story))
    before = state()
    end(on_bench(story))
    assert state() == before
    assert tuns() == {"flannel0"}


def test_a_port_in_use_is_said_with_what_to_do_and_leaves_no_device_and_no_descriptor() -> None:
    async def story(bench: Bench) -> None:
        files = open_files()
        for _ in range(10):
            with pytest.raises(Occupied, match=r"UDP port 8285 on 192\.168\.77\.1 is in use .* choose another Port"):
                await bench.step()
        assert open_files() == files
        assert tuns() == set()
        holder.close()
        assert await bench.step() == "flannel0"

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("0.0.0.0", 8285))
        end(on_bench(story))
    assert tuns() == {"flannel0"}


def test_a_device_that_cannot_be_had_gives_the_port_back() -> None:
    async def story(bench: Bench) -> None:
        await bench.step()
        bench.tunnel.close()
        busy = open_tun("flannel0")
        try:
            for _ in range(10):
                with pytest.raises(Occupied, match="device flannel0 of this network is open in another program"):
                    await bench.step()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
                free.bind(("192.168.77.1", 8285))
        finally:
            os.close(busy)
        assert await bench.step() == "flannel0"

    end(on_bench(story))


@pytest.mark.parametrize("role", ["udp", "tun"])
def test_a_descriptor_that_cannot_be_handed_up_is_tried_again_with_the_same_device(role: str) -> None:
    refusals = 3

    def send(message: Up, fd: int | None) -> None:
        nonlocal refusals
        if isinstance(message, Keep) and message.name == fd_name("blue", role) and refusals:
            refusals -= 1
            raise OSError(errno.ETOOMANYREFS, "too many descriptors on their way")

    async def story(outer: Bench) -> None:
        bench = Bench(outer.reconciler, Keeper(send, "blue", {}), BACKEND)
        files = open_files()
        for _ in range(3):
            with pytest.raises(KernelRefused, match=f"handing {role} descriptor .* too many descriptors on their way"):
                await bench.step()
        assert bench.keeper.held(role) is None
        assert open_files() <= files + 1, "a socket that was handed up is kept, nothing else"
        assert tuns() == {"flannel0"}
        assert await bench.step() == "flannel0"
        assert bench.tunnel.runs
        bench.tunnel.close()
        assert open_files() == files

    on_bench(story)
    assert tuns() == {"flannel0"}


def test_an_uplink_with_another_address_has_a_socket_there_and_the_same_device() -> None:
    async def story(bench: Bench) -> None:
        await bench.step()
        before = state()
        run("ip address add 192.168.77.101/24 dev eth0")
        run("ip address del 192.168.77.1/24 dev eth0")
        run("ip address replace 192.168.77.101/24 dev eth0")
        run("ip route replace default via 192.168.77.254 dev eth0")
        await bench.step()
        assert state() == before
        assert "192.168.77.101:8285" in run("ss -lun")
        assert "192.168.77.1:8285" not in run("ss -lun")
        assert bench.tunnel.runs

    end(on_bench(story))


def test_what_is_withdrawn_leaves_neither_device_nor_port() -> None:
    async def story(bench: Bench) -> None:
        await bench.step()
        await bench.plane.withdraw(BACKEND, NETWORK)
        assert [bench.keeper.held(role) for role in ROLES] == [None] * 3
        assert "8285" not in run("ss -lun")

    assert on_bench(story) == {}
    assert tuns() == set()
    assert "10.5.0.0/16" not in routes()


def test_a_device_that_an_earlier_run_left_is_withdrawn_without_an_uplink() -> None:
    async def story(bench: Bench) -> None:
        await bench.step()

    async def leave(bench: Bench) -> None:
        await bench.plane.withdraw(BACKEND, NETWORK)

    end(on_bench(story))
    on_bench(leave)
    assert tuns() == set()


def test_a_host_without_a_lease_has_a_device_and_nothing_on_it() -> None:
    async def story(bench: Bench) -> None:
        await bench.step()
        await bench.plane.stand_down(BACKEND, NETWORK)
        assert not bench.tunnel.runs
        assert routes(device="flannel0") == {}
        assert not any(row.get("addr_info") for row in ask("ip -4 -j address show dev flannel0"))
        await bench.step()
        assert bench.tunnel.runs

    end(on_bench(story))


def test_datagrams_that_find_the_queue_full_are_counted_though_nobody_reads(capfd: pytest.CaptureFixture[str]) -> None:
    async def story(bench: Bench) -> None:
        await bench.step()
        bench.tunnel.look()
        assert "in_queue_full" not in capfd.readouterr().err
        bench.tunnel.pause()  # as between two workers: the socket stands, and nobody reads
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            for _ in range(12_000):
                flood.sendto(bytes(1400), ("192.168.77.1", 8285))
        await bench.step()
        bench.tunnel.look()
        assert "packets so far: they arrived faster than they were read" in capfd.readouterr().err

    end(on_bench(story))
