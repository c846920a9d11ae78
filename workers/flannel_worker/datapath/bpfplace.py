"""Where a network's programs stand, and how they leave: the hooks of TUN and uplink, the pins, the merging pair."""

from __future__ import annotations

from typing import Literal, NamedTuple

from flannel_worker.datapath import bpffs, bpfhooks, bpfobject, merging, xdp
from flannel_worker.datapath.bpfhooks import EGRESS, INGRESS, Filter
from flannel_worker.datapath.bpflayout import ONLY, Config, read_config
from flannel_worker.datapath.bpfobject import Loaded

SENDING = "tun_egress"
Receiving = Literal["auto", "plain", "merged", "xdp"]


class BpfSpec(NamedTuple):
    """Where a network's programs stand. `tun` and `uplink` are ifindexes; datagrams go between `address`:`port` and
    `port` of the peers.

    `receiving`: "plain", each packet goes up the stack as it comes; "merged", TCP packets are merged on the way, in a
    veth pair; "xdp", they are opened in the driver, so that the uplink itself merges them, where it has native XDP.
    "auto" is "merged" where packets come one by one, else "plain".
    """

    network: str
    tun: int
    uplink: int
    address: int
    port: int
    verify_source: bool = False
    receiving: Receiving = "auto"


def filters(config: Config) -> tuple[Filter, Filter]:
    """Where packets leave, where they arrive."""
    return (
        Filter(config.tun, EGRESS, config.port, SENDING),
        Filter(config.uplink, INGRESS, config.port, "uplink_ingress"),
    )


def withdraw(network: str, at: BpfSpec | None = None) -> None:
    """Takes away what a worker left whose path was this one, for one that starts with another. Raises OSError.

    Pins are lost with their mount namespace: programs were left `at` the present place then, if anywhere. Where the
    maps cannot be read (no libbpf), what sends is taken off the TUN all the same, since its peers are of the past; what
    receives stays, and does no harm: peers that read our lease send to the user path.
    """
    if not bpffs.left_behind(network) and (at is None or bpfhooks.is_empty(at.tun)):
        return  # without a look at libbpf, which need not be there
    folder = bpffs.network_folder(network)
    with bpffs.locked(folder):
        try:
            loaded = bpfobject.overlay(folder)
        except OSError:
            for place in bpfhooks.hanging(at.tun, EGRESS) if at is not None else ():
                if place.program == SENDING:
                    bpfhooks.detach(place)
            raise
        try:
            for config in {configured(loaded), config_of(at) if at is not None else None}:
                if config is not None:
                    leave(config)
        finally:
            loaded.close()
        bpffs.clear(folder)


def config_of(spec: BpfSpec) -> Config:
    return Config(spec.address, spec.tun, spec.uplink, spec.port, spec.verify_source)


def merged(pair: merging.Pair, port: int) -> Filter:
    return Filter(pair.exit, INGRESS, port, "merged_ingress")


def maps_in_use(folder: str) -> Loaded:
    """With what is pinned, unless that is of a device, or a namespace, that is gone and had the same number.

    Raises OSError."""
    loaded = bpfobject.overlay(folder)
    if _in_use(loaded):
        return loaded
    loaded.close()
    bpffs.unpin(folder)
    return bpfobject.overlay(folder)


def _in_use(loaded: Loaded) -> bool:
    """Whether programs of the place that the maps speak of are where they should be."""
    config = configured(loaded)
    return config is not None and any(bpfhooks.holding(place) == place.program for place in filters(config))


def configured(loaded: Loaded) -> Config | None:
    text = loaded.maps["config"].lookup(ONLY)
    return read_config(text) if text else None


def leave(config: Config, unless: Config | None = None) -> None:
    """Takes the programs from where `config` has them, but for those that are where `unless` has them too.

    XDP first: what it opens, only our tc program may take. Raises OSError.
    """
    stay = filters(unless) if unless else ()
    if unless is None or (config.uplink, config.endpoint()) != (unless.uplink, unless.endpoint()):
        xdp.leave(config.uplink, config.endpoint())
    for place in filters(config):
        if place not in stay:
            bpfhooks.detach(place)
    if unless is None or unless.port != config.port or not unless.merger:
        merging.remove(config.port)
    if config.made_clsact and not (unless and unless.uplink == config.uplink) and bpfhooks.is_empty(config.uplink):
        bpfhooks.remove_clsact(config.uplink)
