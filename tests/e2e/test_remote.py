"""Hosts that take their leases from flanneld servers: what a server's death, hang or return means for them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
import time
from pathlib import Path

from flannel_multi.model.lease import LeaseAttrs
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.options import SqliteOptions
from flannel_multi.store.sqlite import SqliteStore
from tests.e2e.conftest import PREFIX, MakeOverlay, assert_nothing_lost
from tests.lab.flanneld import Flanneld, eventually, kill
from tests.lab.kernel import kernel_state
from tests.lab.overlay import EMBEDDED, THREE, Overlay
from tests.lab.server import Server
from tests.lab.storehosts import FLANNELCTL
from tests.lab.world import World

ONE = {"blue": THREE["blue"]}
STRANGER = {"PublicIP": "192.0.2.77", "BackendType": "vxlan", "BackendData": {"VtepMAC": "02:00:00:00:00:77"}}


def test_traffic_flows_while_the_server_is_killed_and_the_networks_say_so(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(store=EMBEDDED)
    overlay.start()
    overlay.attach()
    workers = [daemon.worker_pids() for daemon in overlay.daemons]
    pings = overlay.ping()
    threading.Event().wait(0.6)  # so many that one lost would be seen
    overlay.server.kill()
    for daemon in overlay.daemons:
        for network in overlay.networks:
            line = daemon.wait_phase(network, "degraded")
            assert overlay.server.address in line.text, line.text
    marks = [daemon.mark() for daemon in overlay.daemons]
    overlay.server.start()
    for daemon, mark in zip(overlay.daemons, marks, strict=True):
        for network in overlay.networks:
            daemon.wait_ready(network, after=mark, timeout_s=15.0)
    assert_nothing_lost(pings.stop())
    assert [daemon.worker_pids() for daemon in overlay.daemons] == workers


def test_a_worker_killed_while_the_server_is_down_serves_what_it_knows(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(store=EMBEDDED, networks=ONE)
    overlay.start()
    overlay.attach()
    daemon = overlay.daemons[0]
    before = kernel_state(daemon.host)
    overlay.server.kill()
    daemon.wait_phase("blue", "degraded")
    mark = daemon.mark()
    kill(daemon.worker_pid("blue"), signal.SIGKILL)
    daemon.wait_phase("blue", "degraded", after=mark)
    overlay.reach(daemon, overlay.daemons[1], "blue")
    assert kernel_state(daemon.host) == before


def test_a_hung_server_is_noticed_within_ten_seconds(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(store=EMBEDDED, networks=ONE, hosts=1)
    overlay.start()
    daemon, began_s = overlay.daemons[0], time.time()
    overlay.server.pause()
    line = daemon.wait_phase("blue", "degraded", timeout_s=15.0)
    assert line.at_s - began_s < 10.0
    mark = daemon.mark()
    overlay.server.resume()
    daemon.wait_ready("blue", after=mark, timeout_s=15.0)


def test_a_lease_revoked_by_flannelctl_is_taken_again_and_a_reservation_moves_the_host(
    make_overlay: MakeOverlay,
) -> None:
    overlay = make_overlay(store=EMBEDDED, networks=ONE)
    overlay.start()
    daemon, other = overlay.daemons
    old = overlay.subnet(daemon, "blue")
    _ctl(overlay, "reserve", "blue", "10.101.200.0/24", daemon.host.address)
    _ctl(overlay, "revoke", "blue", old)
    eventually(lambda: overlay.subnet(daemon, "blue") == "10.101.200.0/24", "the host moves to its reservation")
    eventually(lambda: _has_route(other, "10.101.200.0"), "its peer follows")
    eventually(lambda: not _has_route(other, old.partition("/")[0]), "and forgets the old subnet")


def test_a_network_waits_for_its_config_and_starts_when_it_is_written(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(store=EMBEDDED, networks=ONE, hosts=1)
    overlay.server.start()
    daemon = overlay.daemons[0].start()
    daemon.wait_phase("blue", "waiting-for-config")
    overlay.publish("blue", {"Network": "10.101.0.0/16", "SubnetLen": 40})
    line = daemon.wait_phase("blue", "quarantined")
    assert "SubnetLen 40 is too long" in line.text
    overlay.publish("blue", THREE["blue"])
    daemon.wait_ready("blue")


def test_the_unnamed_network_is_ready_by_a_server_and_waits_for_its_config(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(store=EMBEDDED, networks={"": THREE["blue"]}, hosts=1)
    overlay.server.start()
    daemon = overlay.daemons[0].start()
    daemon.wait_phase("", "waiting-for-config")
    overlay.publish("", THREE["blue"])
    daemon.wait_ready("")


def test_a_client_goes_to_the_next_server_and_hears_of_new_peers_there(tmp_path: Path) -> None:
    with World(PREFIX, hosts=1, extra=("one", "two")) as world:
        store = f"sqlite://{tmp_path / 'store.db'}"
        servers = [
            Server(store, tmp_path, host=world[name].address, netns=world[name].netns, name=name)
            for name in ("one", "two")
        ]
        _write_config(store)
        with servers[0], servers[1]:
            remote = "--remote=" + ",".join(server.address for server in servers)
            daemon = Flanneld(world["h1"], tmp_path, networks=["blue"], store=[remote])
            try:
                daemon.start().wait_ready("blue")
                mark = daemon.mark()
                servers[0].kill()
                answer = servers[1].ask("POST", "/v1/blue/leases", json.dumps(STRANGER))
                assert answer.status == 200
                subnet = json.loads(answer.body)["Subnet"]
                eventually(lambda: _has_route(daemon, subnet.partition("/")[0]), "the peer's route comes by the other")
                said = [line.text for line in daemon.lines[mark:] if line.network == "supervisor"]
                assert not any("degraded" in text for text in said), said
            finally:
                daemon.close()


def test_networks_of_one_machine_share_a_store_file_without_a_server(make_overlay: MakeOverlay, tmp_path: Path) -> None:
    with World(PREFIX, hosts=1) as world:
        store = f"sqlite://{tmp_path / 'store.db'}"
        for name, config in THREE.items():
            _write_config(store, name, json.dumps(config))
        daemon = Flanneld(world["h1"], tmp_path, networks=list(THREE), store=[f"--store={store}"])
        try:
            daemon.start()
            for name in THREE:
                daemon.wait_ready(name)
            mark = daemon.mark()
            kill(daemon.worker_pid("blue"), signal.SIGKILL)
            daemon.wait_ready("blue", after=mark)
            _put_peer(tmp_path / "store.db", "green", "10.102.9.0/24")
            eventually(lambda: _has_route(daemon, "10.102.9.0"), "a peer that another process wrote is heard of")
        finally:
            daemon.close()


def _has_route(daemon: Flanneld, base: str) -> bool:
    return f"{base}/24 " in daemon.host.ip("route")


def _ctl(overlay: Overlay, *arguments: str) -> str:
    return _run(overlay.store_url, *arguments)


def _run(store: str, *arguments: str, stdin: str = "") -> str:
    command = [FLANNELCTL, f"--store={store}", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


def _write_config(store: str, network: str = "blue", config: str = json.dumps(THREE["blue"])) -> None:
    _run(store, "config", "set", network, "-", stdin=config)


def _put_peer(path: Path, network: str, subnet: str) -> None:
    async def story() -> None:
        store = SqliteStore(SqliteOptions(str(path)))
        data = {"VNI": 102, "VtepMAC": "02:00:00:00:00:99"}
        await store.put_lease(network, Subnet.parse(subnet), LeaseAttrs(parse_ip("192.0.2.99"), "vxlan", data))
        await store.close()

    asyncio.run(story())
