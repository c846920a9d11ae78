"""The event filter, on the kernel's own events: siblings wake nobody, everything that can matter passes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from flannel_multi.model.subnet import parse_ip
from flannel_worker.kernel import wire
from flannel_worker.kernel.frame import messages
from flannel_worker.kernel.linkwire import parse_link
from flannel_worker.kernel.objects import Route, Scope, nexthop_id
from flannel_worker.kernel.socketfilter import attach, event_filter
from flannel_worker.kernel.watch import GROUPS
from tests.kernel.place import NETWORK, run, uplink

OURS = "flannel.1"
SIBLING = "flannel.9"


@contextlib.contextmanager
def listening(*, device: bool = True, in_scope: bool = True, port: int = 1) -> Iterator[socket.socket]:
    for name, vni in ((OURS, 1), (SIBLING, 9)):
        run(f"ip link add {name} type vxlan id {vni} dev eth0 local 192.168.77.1 dstport 8472 nolearning")
        run(f"ip link set {name} up")
    ifindex = socket.if_nametoindex(OURS) if device else 0
    scope = Scope(ifindex, uplink(), NETWORK) if in_scope else None
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0) as sock:
        attach(sock, event_filter(port, ifindex, scope))
        sock.bind((0, 0))
        for group in GROUPS:
            sock.setsockopt(270, 1, group)
        yield sock


def heard(sock: socket.socket, *, but_link: int = 0) -> set[int]:
    """Types of the messages that came through, without those about the link `but_link`."""
    kinds = set()
    with contextlib.suppress(BlockingIOError):
        while True:
            data = sock.recv(65536)
            for message in messages(data):
                link = parse_link(data, message.start, message.end) if message.kind in (16, 17) else None
                if link is None or link.ifindex != but_link:
                    kinds.add(message.kind)
    return kinds


def on(device: str, network: str) -> list[tuple[str, int]]:
    number = nexthop_id(parse_ip(f"{network}.3.0"))
    return [
        (f"ip link set {device} mtu 1400", 16),
        (f"ip address add {network}.1.0/32 dev {device}", 20),
        (f"ip address del {network}.1.0/32 dev {device}", 21),
        (f"ip address add {network}.1.0/32 dev {device}", 20),
        (f"ip neigh add {network}.2.0 lladdr 02:00:00:00:00:02 dev {device} nud permanent", 28),
        (f"ip neigh del {network}.2.0 dev {device}", 29),
        (f"bridge fdb add 02:00:00:00:00:02 dev {device} dst 192.168.77.2", 28),
        (f"bridge fdb del 02:00:00:00:00:02 dev {device}", 29),
        (f"ip route add {network}.2.0/24 via {network}.2.0 dev {device} onlink proto 102", 24),
        (f"ip route del {network}.2.0/24", 25),
        (f"ip nexthop add id {number} via {network}.3.0 dev {device} onlink proto 102", 104),
        (f"ip nexthop del id {number}", 105),
        (f"ip link del {device}", 17),
    ]


def test_everything_about_our_own_device_and_network_passes() -> None:
    with listening() as sock:
        for command, kind in on(OURS, "10.5"):
            run(command)
            assert kind in heard(sock), command


def test_nothing_that_a_sibling_does_passes_but_its_end() -> None:
    with listening() as sock:
        for command, kind in on(SIBLING, "10.9"):
            run(command)
            # the kernel names the uplink when a device goes
            assert heard(sock, but_link=uplink()) == ({17} if kind == 17 else set()), command


@pytest.mark.parametrize(
    ("name", "passes"), [("flannel7", False), ("flannel12", False), ("flannel-up", True), ("flannelb", True)]
)
def test_the_tun_of_a_sibling_does_not_pass_and_what_is_called_almost_so_does(name: str, passes: bool) -> None:
    run(f"ip tuntap add {name} mode tun")
    with listening() as sock:
        run(f"ip link set {name} mtu 1400")
        run(f"ip address add 10.9.1.0/32 dev {name}")
        assert heard(sock) == ({16, 20} if passes else set())


def test_nothing_of_an_overlay_but_its_end_passes_before_there_is_a_device() -> None:
    with listening(device=False, in_scope=False) as sock:
        for command, kind in [*on(SIBLING, "10.9"), *on(OURS, "10.5")]:
            run(command)
            assert heard(sock, but_link=uplink()) == ({17} if kind == 17 else set()), command


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        ("ip link set eth0 mtu 1400", {16}),
        ("ip address add 192.168.78.1/24 dev eth0", {20, 24}),
        ("ip route add 10.77.0.0/16 via 192.168.77.3", {24}),
        ("ip route del default", {25}),
        ("ip route add 10.5.7.0/24 dev far proto 102", {24}),
        ("ip route add 10.77.0.0/16 via 192.168.77.3 proto 102", set()),
        ("ip route add default via 192.168.77.3 metric 9 proto 102", set()),
        ("ip route add 10.77.0.0/16 via 192.168.77.3 table 200", set()),
        ("ip route add local 10.77.0.1 dev eth0 table local", set()),
        ("ip neigh add 192.168.77.3 lladdr 02:00:00:00:00:02 dev eth0 nud permanent", set()),
        ("bridge fdb add 02:00:00:00:00:02 dev eth0 self permanent", set()),
        ("ip nexthop add id 7 via 192.168.77.3 dev far onlink", set()),
        ("ip nexthop add id 7 via 192.168.77.3 dev eth0", {104}),
    ],
)
def test_of_the_host_what_can_matter_passes(command: str, kinds: set[int]) -> None:
    with listening() as sock:
        run(command)
        assert heard(sock) == kinds


def test_a_bridges_word_about_its_ports_does_not_pass() -> None:
    run("ip link add br0 type bridge")
    with listening() as sock:
        run("ip link set far master br0")
        run("ip link set far nomaster")
        families = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                families.add(sock.recv(65536)[16])
        assert families == {0}


def test_own_orders_do_not_come_back() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asking:
        asking.bind((0, 0))
        with listening(port=asking.getsockname()[0]) as sock:
            device = socket.if_nametoindex(OURS)
            item = Route(parse_ip("10.5.2.0"), 24, device, parse_ip("10.5.2.0"), onlink=True)
            asking.send(wire.put(item, 1))
            assert heard(sock) == set()
            asking.send(wire.drop(item, 2))
            assert heard(sock) == set()
            run("ip route add 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink proto 102")
            assert heard(sock) == {24}
