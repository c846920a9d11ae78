"""A whole small cluster: hosts, a store on their bridge, a flanneld on each, containers to ping and pings.

with Overlay("e2e", folder, networks={"blue": vxlan("10.101.0.0/16", 101)}) as overlay:
    overlay.start()
    overlay.attach()
    pings = overlay.ping()
    ...
    counts = pings.stop()
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab.etcd import Etcd
from tests.lab.flanneld import PROGRAM, Flanneld
from tests.lab.pinger import Count, Pinger
from tests.lab.server import Server
from tests.lab.storehosts import EMBEDDED, ETCD, STORES, EmbeddedHost, EtcdHost, config_key
from tests.lab.world import Host, World

__all__ = ["EMBEDDED", "ETCD", "THREE", "Overlay", "Pings", "crowd", "host_gw", "udp", "vxlan"]
Config = Mapping[str, Any]


def vxlan(network: str, vni: int, **backend: Any) -> dict[str, Any]:
    """A network config with the vxlan backend."""
    return {"Network": network, "Backend": {"Type": "vxlan", "VNI": vni, **backend}}


def host_gw(network: str) -> dict[str, Any]:
    """A network config with the host-gw backend."""
    return {"Network": network, "Backend": {"Type": "host-gw"}}


def udp(network: str, **backend: Any) -> dict[str, Any]:
    """A network config with the udp backend."""
    return {"Network": network, "Backend": {"Type": "udp", **backend}}


THREE: Mapping[str, Config] = {
    "blue": vxlan("10.101.0.0/16", 101),
    "green": vxlan("10.102.0.0/16", 102),
    "red": vxlan("10.103.0.0/16", 103),
}


class Overlay:
    """`networks` maps each name to its config; the name "" stands for the one network of single-network mode. `store`:
    ETCD, or EMBEDDED for a `flanneld --listen` over a SQLite file, which the hosts use by --remote."""

    def __init__(
        self,
        prefix: str,
        folder: Path,
        *,
        networks: Mapping[str, Config] = THREE,
        hosts: int = 2,
        flags: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        store: str = ETCD,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.networks = dict(networks)
        self.folder = folder
        self.pings: list[Pings] = []
        self.daemons: list[Flanneld] = []
        self.world = World(prefix, hosts=hosts, extra=("store",))
        try:
            self.store_host = self.world["store"]
            self._store: EtcdHost | EmbeddedHost = STORES[store](self.store_host, folder)
            names = [name for name in networks if name]
            self.daemons = [
                Flanneld(
                    host,
                    folder,
                    networks=names,
                    store=self._store.flags,
                    flags=flags,
                    environ=environ,
                    program=program,
                )
                for host in self.world.hosts
            ]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Overlay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything by force and removes the namespaces."""
        for pings in self.pings:
            pings.kill()
        for daemon in self.daemons:
            daemon.close()
        if hasattr(self, "_store"):
            self._store.close()
        self.world.close()

    @property
    def hosts(self) -> list[Host]:
        return self.world.hosts

    # -- the store -----------------------------------------------------------------------------------------------

    @property
    def etcd(self) -> Etcd:
        """The etcd behind it all; only where there is one."""
        assert isinstance(self._store, EtcdHost)
        return self._store.etcd

    @property
    def server(self) -> Server:
        """The server over the embedded store; only where there is one."""
        assert isinstance(self._store, EmbeddedHost)
        return self._store.server

    @property
    def store_url(self) -> str:
        """The embedded store, for flannelctl."""
        assert isinstance(self._store, EmbeddedHost)
        return self._store.url

    def config_key(self, network: str) -> str:
        return config_key(network)

    def lease_key(self, network: str, subnet: str) -> str:
        """The key of a lease; `subnet` as 10.1.2.0/24."""
        return f"{config_key(network).removesuffix('config')}subnets/{subnet.replace('/', '-')}"

    def publish(self, network: str, config: Config) -> None:
        """Writes a network's config."""
        self._store.publish(network, json.dumps(config))

    # -- the daemons ---------------------------------------------------------------------------------------------

    def start(self, *, timeout_s: float = 20.0) -> None:
        """The store, the configs, the daemons, until every network is ready on every host."""
        self._store.start()
        for network, config in self.networks.items():
            self.publish(network, config)
        self.start_daemons(timeout_s=timeout_s)

    def start_daemons(self, daemons: Sequence[Flanneld] = (), *, timeout_s: float = 20.0) -> None:
        """The daemons alone (all, or those given), until every network is ready on their hosts."""
        daemons = daemons or self.daemons
        marks = [daemon.mark() for daemon in daemons]
        for daemon in daemons:
            daemon.start()
        for daemon, mark in zip(daemons, marks, strict=True):
            for network in self.networks:
                daemon.wait_ready(network, after=mark, timeout_s=timeout_s)

    def subnet(self, daemon: Flanneld, network: str) -> str:
        """The lease of a host, as 10.1.2.0/24, by its env file."""
        address, _, length = daemon.env(network)["FLANNEL_SUBNET"].partition("/")
        return f"{address.rpartition('.')[0]}.{int(address.rpartition('.')[2]) - 1}/{length}"

    # -- traffic -------------------------------------------------------------------------------------------------

    def container(self, daemon: Flanneld, network: str) -> str:
        """The address of a host's container bridge in a network."""
        return daemon.env(network)["FLANNEL_SUBNET"].partition("/")[0]

    def attach(self) -> None:
        """A container bridge for each network on each host, by the env files; waits until all reach all."""
        for daemon in self.daemons:
            for network in self.networks:
                daemon.host.attach(network or "one", daemon.env(network)["FLANNEL_SUBNET"])
        for here, there in itertools.permutations(self.daemons, 2):
            for network in self.networks:
                self.reach(here, there, network)

    def reach(self, here: Flanneld, there: Flanneld, network: str, *, timeout_s: int = 5) -> None:
        """One answered ping between two containers. Raises LabError when none is answered in time."""
        here.host.run(
            "ping", "-n", "-q", "-c1", "-i0.05", f"-w{timeout_s}",
            "-I", self.container(here, network), self.container(there, network),
        )  # fmt: skip

    def ping(self) -> Pings:
        """Pings between all hosts in all networks, 100 a second each, until `stop`."""
        pings = Pings(self)
        self.pings.append(pings)
        return pings


class Pings:
    """A pinger on each host, from each container to that of each other host."""

    def __init__(self, overlay: Overlay) -> None:
        self._pingers: list[Pinger] = []
        for here in overlay.daemons:
            pinger = Pinger(here.host)
            self._pingers.append(pinger)
            for there in overlay.daemons:
                for network in overlay.networks:
                    if there is not here:
                        name = f"{network or '_'}/{here.host.name}-{there.host.name}"
                        pinger.add(name, overlay.container(here, network), overlay.container(there, network))

    def stop(self) -> dict[str, Count]:
        """The counts by network, summed over all pairs of hosts."""
        by_network: dict[str, Count] = {}
        for pinger in self._pingers:
            for name, count in pinger.stop().items():
                network = name.partition("/")[0]
                by_network[network] = _sum(by_network.get(network, Count(0, 0, 0.0, ())), count)
        self._pingers = []
        return by_network

    def kill(self) -> None:
        """Ends what still runs, without counts."""
        for pinger in self._pingers:
            pinger.kill()
        self._pingers = []


def _sum(one: Count, other: Count) -> Count:
    return Count(
        one.sent + other.sent,
        one.lost + other.lost,
        max(one.longest_gap_s, other.longest_gap_s),
        one.lost_at + other.lost_at,
    )


def crowd(overlay: Overlay, network: str, count: int) -> Iterator[tuple[str, str]]:
    """Keys and values of the leases of up to 15,000 peers in 10.130.0.0/24, 10.130.1.0/24, ...; their addresses are in
    198.18.0.0/15, the range for benchmarks (RFC 2544)."""
    for number in range(count):
        high, low = divmod(number, 256)
        data = {"VtepMAC": f"02:00:00:01:{high:02x}:{low:02x}"}
        value = {"PublicIP": f"198.18.{high}.{low}", "BackendType": "vxlan", "BackendData": data}
        yield overlay.lease_key(network, f"10.{130 + high}.{low}.0/24"), json.dumps(value)
