"""Reservations (spec §6.7): what may be reserved in a network, and doing it in any ledger."""

from __future__ import annotations

import asyncio

from flannel_multi.model.config import NetworkConfig, parse_config
from flannel_multi.model.errors import ConfigError, KeyAbsent
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.protocol import Ledger

MASK_INCOMPATIBLE = "reservation subnet has mask incompatible with network config"  # X41
OUTSIDE = "reservation subnet is outside of flannel network"  # X42


class NotReservable(ConfigError):
    """The subnet is none that the network's config could lease. Whoever asked names another one."""


def check(config: NetworkConfig, subnet: Subnet) -> None:
    """Raises NotReservable. SubnetMin and SubnetMax do not bound reservations, as in flannel: an address range kept
    out of the lottery is a good one to reserve from."""
    if subnet.length != config.subnet_len:
        raise NotReservable(
            f"{subnet} cannot be reserved: the network leases subnets of length /{config.subnet_len}", MASK_INCOMPATIBLE
        )
    if not subnet.overlaps(config.network):
        raise NotReservable(f"{subnet} cannot be reserved: it is outside of network {config.network}", OUTSIDE)


async def reserve(
    ledger: Ledger, network: str, subnet: Subnet, public_ip: int, *, timeout_s: float = 5.0
) -> LeaseRecord:
    """Reserves `subnet` for `public_ip`, as the network's config allows.

    Raises KeyAbsent when there is no config, ConfigError (NotReservable), LeaseHeld, StoreUnavailable, StoreRefused.
    """
    clock = asyncio.get_running_loop().time
    ends_s = clock() + timeout_s
    found = await ledger.read_config(network, timeout_s=timeout_s)
    if found.config is None:
        raise KeyAbsent(ledger.keys(network).config.decode(), found.revision.number)
    check(parse_config(found.config), subnet)
    return await ledger.reserve(network, subnet, public_ip, timeout_s=max(0.0, ends_s - clock()))
