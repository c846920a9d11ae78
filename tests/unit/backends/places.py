"""Hosts, leases and configs that the backends' tests share."""

from __future__ import annotations

from typing import Any

from flannel_multi.model.config import NetworkConfig, parse_config
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_worker.backends.protocol import Place
from flannel_worker.backends.uplink import Uplink
from flannel_worker.kernel.objects import LinkState

OWN_MAC = bytes.fromhex("0200000000aa")
UPLINK = Uplink("eth0", 2, 1500, parse_ip("192.168.77.1"), parse_ip("192.168.77.1"), ((parse_ip("192.168.77.0"), 24),))
PLACE = Place(UPLINK, LinkState(9, "flannel.1", OWN_MAC, 1450, True, "vxlan"))


def config(backend: str, network: str = "10.5.0.0/16") -> NetworkConfig:
    """`backend` is the text of the Backend object."""
    return parse_config(f'{{"Network":"{network}","Backend":{backend}}}'.encode())


def lease(subnet: str = "10.5.34.0/24", ip: str = "192.168.77.2", kind: str = "", data: Any = None) -> LeaseRecord:
    return LeaseRecord(Subnet.parse(subnet), LeaseAttrs(parse_ip(ip), kind, data), 7, 11)
