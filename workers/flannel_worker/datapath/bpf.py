"""The kernel's own path beside the user path: what it does not take, the TUN's reader and the socket get.

Programs and maps stay when this process ends: traffic flows on, and the next worker goes on with the same maps. The
programs are in workers/datapath/bpf; which packets they leave to the user path is said there.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from flannel_worker.datapath import bpffs, bpfhooks, bpfobject, ethtool, merging, xdp
from flannel_worker.datapath.bpfhooks import EGRESS, INGRESS, Filter
from flannel_worker.datapath.bpflayout import (
    NUMBER,
    ONLY,
    Config,
    peer_key,
    peer_value,
    read_config,
    read_key,
    read_peer,
    read_tally,
    read_traffic,
)
from flannel_worker.datapath.bpfobject import Loaded
from flannel_worker.datapath.protocol import Peer, PeerCounters
from flannel_worker.datapath.xdp import SharedXdp

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


class BpfPath:
    """One network's programs and maps. Made by `start`."""

    def __init__(self, spec: BpfSpec, loaded: Loaded) -> None:
        self._spec, self._loaded = spec, loaded
        self._config = _config_of(spec)
        self._merger: merging.Pair | None = None
        self._xdp: SharedXdp | None = None
        self._resumed = False
        self.remark = ""  # why something that was wanted is not in use; one line for the log
        # What the kernel has: for each subnet its host, and whether that one runs this path too.
        self._rows: dict[tuple[int, int], tuple[int, bool]] = {}

    @classmethod
    def start(cls, spec: BpfSpec, peers: Collection[Peer] = (), fast: Collection[int] = ()) -> BpfPath:
        """Programs are in place when this returns; with pinned maps from before they never stopped.

        `peers` and `fast` are as for `swap`, before the first packet; without them the maps stay as they are. Raises
        OSError, whose text is one line for people. Nothing of the network's is in the kernel then.
        """
        if not ethtool.device(spec.uplink).ethernet:
            raise OSError(errno.EOPNOTSUPP, "the uplink has no Ethernet header, which the kernel programs need")
        folder = bpffs.network_folder(spec.network)
        with bpffs.locked(folder):
            path = cls(spec, _with_maps_in_use(folder))
            before = _configured(path._loaded) or path._config
            try:
                path._read_rows()
                if peers:
                    path.swap(peers, fast)
                path._resumed = bool(path._rows)
                path._install()
            except OSError:
                for place in {before, path._config}:
                    _leave_place(place)
                bpffs.unpin(folder)
                path._loaded.close()
                raise
        return path

    def _install(self) -> None:
        """Everything in its place, what is elsewhere taken away. Changes nothing that is as it should be.

        Raises OSError."""
        before = _configured(self._loaded)
        receiving = self._spec.receiving
        if receiving == "auto":
            receiving = "merged" if merging.pays(ethtool.device(self._spec.uplink)) else "plain"
        made = before is not None and before.uplink == self._spec.uplink and before.made_clsact
        # A program may run as soon as it is attached, with maps that are new: so they are filled first. Packets go to
        # the merger only when its far end has a program.
        self._configure(made_clsact=made, merger=before.merger if before else 0)
        self.remark = ""
        self._merger = self._merging() if receiving == "merged" else None
        self._configure(made_clsact=made, merger=self._merger.entry if self._merger else 0)
        leaves, arrives = filters(self._config)
        bpfhooks.attach(leaves, self._loaded.program(leaves.program))
        if bpfhooks.attach(arrives, self._loaded.program(arrives.program)):
            self._configure(made_clsact=True, merger=self._config.merger)
        _leave_place(before or self._config, unless=self._config)
        self._settle_xdp(wanted=receiving == "xdp")

    def _configure(self, *, made_clsact: bool, merger: int) -> None:
        self._config = _config_of(self._spec)._replace(made_clsact=made_clsact, merger=merger)
        self._loaded.maps["config"].update(ONLY, self._config.packed())

    def _merging(self) -> merging.Pair | None:
        """Like XDP it makes receiving faster, nothing else: without it the path is whole."""
        try:
            pair = merging.ensure(self._spec.port, self._spec.network)
            exit_ = _merged(pair, self._spec.port)
            bpfhooks.attach(exit_, self._loaded.program(exit_.program))
        except OSError as error:
            self.remark = f"receiving without merging: {error.strerror}"
            return None
        return pair

    def _settle_xdp(self, *, wanted: bool) -> None:
        if self._xdp:
            self._xdp.close()
        self._xdp = None
        try:
            if wanted:
                self._xdp = SharedXdp.join(self._spec.uplink, self._config.endpoint())
            else:
                xdp.leave(self._spec.uplink, self._config.endpoint())
        except OSError as error:
            self.remark = f"receiving without XDP: {error.strerror}"

    def _read_rows(self) -> None:
        peers = self._loaded.maps["peers"]
        for key in list(peers.keys()):
            value = peers.lookup(key)
            if value is not None:
                self._rows[read_key(key)] = read_peer(value)

    @property
    def spec(self) -> BpfSpec:
        return self._spec

    def resumed(self) -> bool:
        """Whether peers were in the maps already when this started: what the worker before, or `start`, put there."""
        return self._resumed

    def swap(self, peers: Iterable[Peer], fast: Collection[int]) -> None:
        """Makes the kernel's peer table this one, by difference, while packets flow.

        `fast` are the addresses of hosts that run this path too: packets to all others go through the user path.
        Raises OSError; what was not changed yet is changed by the next call.
        """
        wanted = {(peer.base, peer.length): (peer.address, peer.address in fast) for peer in peers}
        table, traffic = self._loaded.maps["peers"], self._loaded.maps["traffic"]
        for subnet, (address, is_fast) in wanted.items():
            if self._rows.get(subnet) == (address, is_fast):
                continue
            if subnet not in self._rows or self._rows[subnet][0] != address:
                traffic.zero_on_cpus(peer_key(*subnet))
            table.update(peer_key(*subnet), peer_value(*subnet, address, fast=is_fast))
            self._rows[subnet] = address, is_fast
        for subnet in self._rows.keys() - wanted.keys():
            table.delete(peer_key(*subnet))
            traffic.delete(peer_key(*subnet))
            del self._rows[subnet]

    def repair(self) -> bool:
        """Puts back what somebody took from the hooks. True when something was missing. Raises OSError."""
        if self._stands():
            return False
        self._install()
        return True

    def _stands(self) -> bool:
        places = [*filters(self._config)]
        if self._merger:
            if not merging.stands(self._merger):
                return False
            places.append(_merged(self._merger, self._spec.port))
        in_place = all(bpfhooks.holding(place) == place.program for place in places)
        return in_place and (self._xdp is None or self._xdp.stands())

    def counters(self) -> dict[str, int]:
        """Packets by what the programs decided, and bytes of those that they carried. `xdp_*` are the whole uplink's.

        Raises OSError."""
        counted = xdp.read_counters(self._loaded)
        for name, verdict in (("bpf_out_bytes", "bpf_out_sent"), ("bpf_in_bytes", "bpf_in_received")):
            number = self._loaded.verdicts.index(verdict)
            counted[name] = read_tally(self._loaded.maps["verdicts"].lookup_on_cpus(NUMBER.pack(number)))[1]
        return counted | (self._xdp.counters() if self._xdp else {})

    def peer_counters(self) -> list[PeerCounters]:
        """What the programs carried, for each peer of the table. Raises OSError."""
        traffic = self._loaded.maps["traffic"]
        return [PeerCounters(*row, *read_traffic(traffic.lookup_on_cpus(peer_key(*row)))) for row in self._rows]

    def features(self) -> tuple[str, ...]:
        """What is in use, for the log."""
        return ("tc", *(("merging",) if self._merger else ()), *(("xdp",) if self._xdp else ()))

    def close(self) -> None:
        """Lets go of the descriptors; programs, maps and peers stay in the kernel and work on."""
        if self._xdp:
            self._xdp.close()
        self._loaded.close()

    def remove(self) -> None:
        """Takes everything of this network's away. Raises OSError."""
        folder = bpffs.network_folder(self._spec.network)
        try:
            with bpffs.locked(folder):
                _leave_place(self._config)
                bpffs.clear(folder)
        finally:
            self.close()


def filters(config: Config) -> tuple[Filter, Filter]:
    """Where packets leave, where they arrive."""
    return (
        Filter(config.tun, EGRESS, config.port, "tun_egress"),
        Filter(config.uplink, INGRESS, config.port, "uplink_ingress"),
    )


def withdraw(network: str, at: BpfSpec | None = None) -> None:
    """Takes away what a worker left whose path was this one, for one that starts with another. Raises OSError.

    Pins are lost with their mount namespace: programs were left `at` the present place then, if anywhere.
    """
    if not bpffs.left_behind(network) and (at is None or bpfhooks.is_empty(at.tun)):
        return  # without a look at libbpf, which need not be there
    folder = bpffs.network_folder(network)
    with bpffs.locked(folder):
        loaded = bpfobject.overlay(folder)
        try:
            for config in {_configured(loaded), _config_of(at) if at is not None else None}:
                if config is not None:
                    _leave_place(config)
        finally:
            loaded.close()
        bpffs.clear(folder)


def _config_of(spec: BpfSpec) -> Config:
    return Config(spec.address, spec.tun, spec.uplink, spec.port, spec.verify_source)


def _merged(pair: merging.Pair, port: int) -> Filter:
    return Filter(pair.exit, INGRESS, port, "merged_ingress")


def _with_maps_in_use(folder: str) -> Loaded:
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
    config = _configured(loaded)
    return config is not None and any(bpfhooks.holding(place) == place.program for place in filters(config))


def _configured(loaded: Loaded) -> Config | None:
    text = loaded.maps["config"].lookup(ONLY)
    return read_config(text) if text else None


def _leave_place(config: Config, unless: Config | None = None) -> None:
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
