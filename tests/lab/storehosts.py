"""What a small cluster keeps its leases in, on a host of its own: etcd, or a `flanneld --listen` over a SQLite file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.etcd import Etcd
from tests.lab.server import Server
from tests.lab.world import Host

PREFIX = "/coreos.com/network"
ETCD, EMBEDDED = "etcd", "embedded"
FLANNELCTL = str(Path(sys.executable).with_name("flannelctl"))


def config_key(network: str) -> str:
    """The etcd key of a network's config."""
    return f"{PREFIX}/{network}/config" if network else f"{PREFIX}/config"


class EtcdHost:
    """One etcd member. `flags` are what a flanneld needs to use it."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.etcd = Etcd(host=host.address, netns=host.netns, folder=folder)
        self.flags: Sequence[str] = [f"--etcd-endpoints={self.etcd.url}"]

    def start(self) -> None:
        self.etcd.start()

    def publish(self, network: str, config: str) -> None:
        self.etcd.put(config_key(network), config)

    def close(self) -> None:
        self.etcd.close()


class EmbeddedHost:
    """One server and its file, whose configs are written as an operator does it."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.url = f"sqlite://{folder / 'store.db'}"
        self.server = Server(self.url, folder, host=host.address, netns=host.netns)
        self.flags: Sequence[str] = [f"--remote={self.server.address}"]

    def start(self) -> None:
        self.server.start()

    def publish(self, network: str, config: str) -> None:
        command = [FLANNELCTL, f"--store={self.url}", "config", "set", "--force", network or "_", "-"]
        subprocess.run(command, input=config, text=True, check=True, capture_output=True)

    def close(self) -> None:
        self.server.kill()


STORES = {ETCD: EtcdHost, EMBEDDED: EmbeddedHost}
