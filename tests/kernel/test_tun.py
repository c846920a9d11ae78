"""The TUN device: exact form, whose it is, what is kept, put right and made anew (spec §7.4)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from subprocess import PIPE

import pytest

from flannel_multi.model.errors import KernelRefused, Occupied
from flannel_worker.kernel.objects import LinkState
from flannel_worker.kernel.reconcile import Reconciler
from tests.kernel.place import ask, links, next_drift, open_files, open_tun, quiet, reconciler, run, set_alias
from tests.kernel.place import tun as wish


@pytest.fixture
def fds() -> Iterator[list[int]]:
    """Descriptors that a test has to close at its end."""
    held: list[int] = []
    yield held
    for fd in held:
        os.close(fd)


def with_reconciler(story: Callable[[Reconciler], Awaitable[None]]) -> None:
    async def told() -> None:
        async with reconciler() as opened:
            await story(opened)

    asyncio.run(told())


def test_the_device_is_flannels_and_stays_when_nobody_has_it_open() -> None:
    async def story(opened: Reconciler) -> None:
        made = await opened.ensure_tun(wish(), None)
        os.close(made.fd)
        link = links()["flannel0"]
        state = LinkState(link["ifindex"], "flannel0", b"", 1472, True, "tun", "flannel network blue", 2000)
        assert made.link == state
        assert {"POINTOPOINT", "MULTICAST", "NOARP", "UP"} <= set(link["flags"])
        assert (link["mtu"], link["txqlen"], link["ifalias"]) == (1472, 2000, "flannel network blue")
        data = link["linkinfo"]["info_data"]
        assert {key: data[key] for key in ("type", "pi", "vnet_hdr", "persist")} == {
            "type": "tun", "pi": False, "vnet_hdr": True, "persist": True,
        }  # fmt: skip
        assert not any(row.get("addr_info") for row in ask("ip -6 -j address show dev flannel0")), "no link-local"

    with_reconciler(story)


def test_its_making_is_no_news_to_who_makes_it(fds: list[int]) -> None:
    async def story(opened: Reconciler) -> None:
        await opened.host()
        fds.append((await opened.ensure_tun(wish(), None)).fd)
        assert await quiet(opened) is None

    with_reconciler(story)


def test_a_flannel0_of_somebody_else_is_not_taken(fds: list[int]) -> None:
    run("ip tuntap add flannel0 mode tun")
    set_alias("flannel0", "flannel network green")
    before = links()["flannel0"]

    async def story(opened: Reconciler) -> None:
        made = await opened.ensure_tun(wish(name="flannel0"), None)
        fds.append(made.fd)
        assert made.link.name == "flannel1"

    with_reconciler(story)
    assert links()["flannel0"] == before


def test_a_device_that_nobody_reads_is_found_again_by_its_mark_with_all_that_is_on_it(fds: list[int]) -> None:
    async def story(opened: Reconciler) -> None:
        first = await opened.ensure_tun(wish(), None)
        run("ip address add 10.5.1.0/32 dev flannel0")
        run("ip route add 10.5.0.0/16 dev flannel0 proto 102")
        os.close(first.fd)
        run("ip link set flannel0 down")
        run("ip link set flannel0 name mine0")  # whatever it is called
        run("ip link set mine0 up")
        again = await opened.ensure_tun(wish(), None)
        fds.append(again.fd)
        assert again.link == first.link._replace(name="mine0")
        assert ask("ip -4 -j address show dev mine0")[0]["addr_info"][0]["local"] == "10.5.1.0"

    with_reconciler(story)
    assert "flannel0" not in links()


def test_a_kept_descriptor_is_the_device_whatever_became_of_its_alias(fds: list[int]) -> None:
    async def story(opened: Reconciler) -> None:
        first = await opened.ensure_tun(wish(), None)
        fds.append(first.fd)
        run("ip link set flannel0 alias mine")
        assert await opened.ensure_tun(wish(), first.fd) == first
        assert links()["flannel0"]["ifalias"] == "flannel network blue"

    with_reconciler(story)


@pytest.mark.parametrize("spoil", ["mtu 1300", "txqueuelen 10", "down", "alias mine"])
def test_what_somebody_changes_is_drift_and_put_right(spoil: str, fds: list[int]) -> None:
    async def story(opened: Reconciler) -> None:
        await opened.host()
        first = await opened.ensure_tun(wish(), None)
        fds.append(first.fd)
        run(f"ip link set flannel0 {spoil}")
        assert "link flannel0 changed" in await next_drift(opened)
        assert await opened.ensure_tun(wish(), first.fd) == first

    with_reconciler(story)


def test_a_deleted_device_is_drift_and_comes_back_under_its_name_with_a_new_descriptor(fds: list[int]) -> None:
    async def story(opened: Reconciler) -> None:
        await opened.host()
        first = await opened.ensure_tun(wish(), None)
        fds.append(first.fd)
        run("ip tuntap add flannel7 mode tun")  # so that flannel0 is not all there can be
        run("ip link del flannel0")
        assert (await next_drift(opened)).startswith("link flannel0 ")  # first it goes down
        again = await opened.ensure_tun(wish(name="flannel0"), first.fd)
        fds.append(again.fd)
        assert again.fd != first.fd
        assert again.link == first.link._replace(ifindex=again.link.ifindex)

    with_reconciler(story)


def test_a_deleted_device_whose_name_is_another_programs_now_gets_the_next_number(fds: list[int]) -> None:
    async def story(opened: Reconciler) -> None:
        first = await opened.ensure_tun(wish(), None)
        fds.append(first.fd)
        run("ip link del flannel0")
        run("ip tuntap add flannel0 mode tun")
        again = await opened.ensure_tun(wish(name="flannel0"), first.fd)
        fds.append(again.fd)
        assert again.link.name == "flannel1"

    with_reconciler(story)


def test_a_descriptor_without_the_virtio_header_gets_a_new_device(fds: list[int]) -> None:
    fds.append(open_tun("flannel0", vnet_header=False))

    async def story(opened: Reconciler) -> None:
        made = await opened.ensure_tun(wish(name="flannel0"), fds[0])
        fds.append(made.fd)
        assert links()["flannel0"]["linkinfo"]["info_data"]["vnet_hdr"] is True
        assert made.fd != fds[0]

    with_reconciler(story)


def test_a_device_that_was_moved_to_another_namespace_is_given_up_for_a_new_one(fds: list[int]) -> None:
    async def story(opened: Reconciler) -> None:
        first = await opened.ensure_tun(wish(), None)
        fds.append(first.fd)
        elsewhere = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; read end"], stdin=PIPE, stdout=PIPE)
        with elsewhere:
            assert elsewhere.stdout is not None
            assert elsewhere.stdout.readline() == b"ready\n"
            run(f"ip link set flannel0 netns {elsewhere.pid}")
            again = await opened.ensure_tun(wish(name="flannel0"), first.fd)
            fds.append(again.fd)
            assert again.link.name == "flannel0"
            assert again.fd != first.fd

    with_reconciler(story)


def test_a_host_without_tun_devices_is_told_what_to_load() -> None:
    """In a mount namespace whose /dev/net is empty."""
    program = "from flannel_worker.kernel import tun; tun.create('')"
    hidden = f'mount -t tmpfs none /dev/net && exec "{sys.executable}" -c "{program}"'
    done = subprocess.run(["unshare", "-m", "sh", "-c", hidden], capture_output=True, text=True, check=False)
    assert "KernelRefused: a new TUN device refused: ENOENT; /dev/net/tun is missing: load the module" in done.stderr


def test_a_device_of_ours_that_another_program_has_open_is_said_and_not_made_twice(fds: list[int]) -> None:
    async def story(opened: Reconciler) -> None:
        fds.append((await opened.ensure_tun(wish(), None)).fd)
        for _ in range(3):
            with pytest.raises(Occupied, match="device flannel0 of this network is open in another program"):
                await opened.ensure_tun(wish(), None)

    with_reconciler(story)
    assert {name for name in links() if name.startswith("flannel")} == {"flannel0"}


def test_a_device_that_does_not_come_out_as_asked_for_is_gone_again() -> None:
    async def story(opened: Reconciler) -> None:
        with pytest.raises(KernelRefused, match="MTU 70000"):
            await opened.ensure_tun(wish(mtu=70000), None)

    before = open_files()
    with_reconciler(story)
    assert open_files() == before
    assert not any(name.startswith("flannel") for name in links())
