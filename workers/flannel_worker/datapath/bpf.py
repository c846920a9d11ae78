"""The kernel's own path beside the user path: what it does not take, the TUN's reader and the socket get.

Programs and maps stay when this process ends: traffic flows on, and the next worker goes on with the same maps. The
programs are in workers/datapath/bpf; which packets they leave to the user path is said there.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable

from flannel_worker.datapath import bpffs, bpfhooks, ethtool, merging, xdp
from flannel_worker.datapath.bpflayout import (
    NUMBER,
    ONLY,
    peer_key,
    peer_value,
    read_key,
    read_peer,
    read_tally,
    read_traffic,
)
from flannel_worker.datapath.bpfobject import Loaded
from flannel_worker.datapath.bpfplace import BpfSpec, config_of, configured, filters, leave, maps_in_use, merged
from flannel_worker.datapath.protocol import Peer, PeerCounters
from flannel_worker.datapath.xdp import SharedXdp

LOSSES = (
    ("bpf_out_no_memory", "the kernel had no memory for the headers"),
    ("bpf_in_no_memory", "the kernel had no memory for the headers"),
    ("bpf_in_not_merged", "they came out of the merging device without a place to go"),
    ("bpf_in_stranger", "inner source is not in the sender's subnet (VerifySource)"),
    ("bpf_in_other_host", "opened by XDP, but sent to another host's MAC address"),
    ("xdp_broken", "the driver did not let XDP take the headers off"),
)  # of the verdicts in workers/datapath/bpf/verdicts.h, what the user path does not get either


class BpfPath:
    """One network's programs and maps. Made by `start`."""

    def __init__(self, spec: BpfSpec, loaded: Loaded) -> None:
        self._spec, self._loaded = spec, loaded
        self._config = config_of(spec)
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
            path = cls(spec, maps_in_use(folder))
            before = configured(path._loaded) or path._config
            try:
                path._read_rows()
                if peers:
                    path.swap(peers, fast)
                path._resumed = bool(path._rows)
                path._install()
            except OSError:
                for place in {before, path._config}:
                    leave(place)
                bpffs.unpin(folder)
                path._loaded.close()
                raise
        return path

    def _install(self) -> None:
        """Everything in its place, what is elsewhere taken away. Changes nothing that is as it should be.

        Raises OSError."""
        before = configured(self._loaded)
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
        leave(before or self._config, unless=self._config)
        self._settle_xdp(wanted=receiving == "xdp")

    def _configure(self, *, made_clsact: bool, merger: int) -> None:
        self._config = config_of(self._spec)._replace(made_clsact=made_clsact, merger=merger)
        self._loaded.maps["config"].update(ONLY, self._config.packed())

    def _merging(self) -> merging.Pair | None:
        """Like XDP it makes receiving faster, nothing else: without it the path is whole."""
        try:
            pair = merging.ensure(self._spec.port, self._spec.network)
            exit_ = merged(pair, self._spec.port)
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
            places.append(merged(self._merger, self._spec.port))
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
                leave(self._config)
                bpffs.clear(folder)
        finally:
            self.close()
