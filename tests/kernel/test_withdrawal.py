"""What a network leaves behind when its config changed while it did not run: gone, with an uplink or without."""

from __future__ import annotations

import asyncio

import pytest

from flannel_multi.model.config import parse_config
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.protocol import Backend
from flannel_worker.dataplane import Dataplane
from flannel_worker.tunnel import Tunnel
from tests.kernel.place import NETWORK, ask, keeper, reconciler, routes, run, set_alias

VXLAN = backend_for(parse_config(b'{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'))
HOST_GW = backend_for(parse_config(b'{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}'))
DEVICE = "ip link add flannel.1 type vxlan id 1 dev eth0 local 192.168.77.1 dstport 8472 nolearning"


def withdraw(backend: Backend) -> None:
    """A worker that has not looked for an uplink yet lets go of what network blue had."""

    async def story() -> None:
        async with reconciler() as opened:
            await Dataplane(opened, "blue", Tunnel(opened, keeper())).withdraw(backend, NETWORK)

    asyncio.run(story())


def names() -> set[str]:
    return {link["ifname"] for link in ask("ip -j link show")}


def test_the_old_device_goes_with_its_routes() -> None:
    run(DEVICE)
    set_alias("flannel.1", "flannel network blue")
    run("ip link set flannel.1 up")
    run("ip route add 10.5.34.0/24 via 10.5.34.0 dev flannel.1 onlink proto 102")
    withdraw(VXLAN)
    assert names() == {"lo", "eth0", "far"}
    assert "10.5.34.0/24" not in routes()


@pytest.mark.parametrize("alias", ["", "mine", "flannel network green"])
def test_a_device_that_this_network_never_marked_stays(alias: str) -> None:
    run(DEVICE)
    set_alias("flannel.1", alias)
    run("ip link set flannel.1 up")
    run("ip route add 10.5.34.0/24 via 10.5.34.0 dev flannel.1 onlink proto static")
    withdraw(VXLAN)
    assert "flannel.1" in names()
    assert "10.5.34.0/24" in routes()


def test_a_device_of_another_kind_stays() -> None:
    run("ip link add flannel.1 type bridge")
    withdraw(VXLAN)
    assert "flannel.1" in names()


def test_old_routes_by_the_uplink_go_and_others_routes_stay() -> None:
    run("ip route add 10.5.34.0/24 via 192.168.77.34 proto 102")
    run("ip route add 10.6.34.0/24 via 192.168.77.34 proto 102")
    run("ip route add 10.5.35.0/24 via 192.168.77.34 proto static")
    withdraw(HOST_GW)
    assert set(routes()) == {"default", "192.168.77.0/24", "10.6.34.0/24", "10.5.35.0/24"}
