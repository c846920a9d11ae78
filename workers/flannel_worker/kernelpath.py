"""A tunnel's way through the kernel itself, beside its user path: wanted or not, working or not, and kept in step.

Only peers that publish the same in their lease are reached by it: what a kernel sends, a host that reads datagrams
cannot always use (workers/datapath/bpf says why). All else goes by the user path, and so does everything where this one
does not work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flannel_multi import log
from flannel_multi.model.subnet import Subnet
from flannel_worker.backends.protocol import Hop, TunnelSpec
from flannel_worker.datapath.protocol import Peer
from flannel_worker.datapath.tally import Tally

if TYPE_CHECKING:
    from flannel_worker.datapath.bpf import BpfPath  # at run time only where it is wanted: 0.6 MB
    from flannel_worker.datapath.bpfplace import BpfSpec

PINS = "/sys/fs/bpf/flannel"  # there as soon as any network of this host has had such a path


class KernelPath:
    """`on`: it works, and this host may say so in its lease. `fault`: why not, although the config asks for it."""

    def __init__(self, network: str) -> None:
        self._network = network
        self._chosen: tuple[TunnelSpec, int] | None = None
        self._able = False  # by the test for the chosen place
        self._refused = ""  # why the last `serve` there failed
        self._path: BpfPath | None = None
        self._tally: Tally | None = None
        self._peers: dict[Subnet, Hop] | None = None
        self._stays = ""  # why something of an earlier run could not be taken away; tried again
        self._left = False  # what an earlier run may have left was looked for
        self.on = False
        self.fault = ""

    def choose(self, spec: TunnelSpec, tun: int) -> None:
        """Decides by a test for this place, once, or again while there is a fault: `tun` is the device's ifindex. What
        stands in the kernel stands until `serve`."""
        if self._chosen == (spec, tun) and not self.fault:
            return
        if self._chosen != (spec, tun):
            self._chosen, self._refused = (spec, tun), ""
        if spec.data_path == "user":
            self.on, self.fault, self._able = False, "", False
            return
        from flannel_worker.datapath.selftest import self_test

        why = self_test(spec.uplink)
        self._able = not why
        self._settle(why or self._refused)

    def _settle(self, why: str) -> None:
        assert self._chosen is not None
        asked = self._chosen[0].data_path == "bpf"
        if why and not asked and self.on:
            log.warning(f"data path bpf no longer used: {why}")
        elif why and not asked:
            log.info(f"data path bpf not used: {why}")
        self.on, self.fault = not why, f"data path bpf: {why}; packets go by the user path" if why and asked else ""

    def serve(self, peers: Mapping[Subnet, Hop], *, remembered: bool) -> None:
        """Programs in place, with these peers. `remembered`: those that the maps hold are newer, and stay. What fails
        is a `fault` (or a line of the log for "auto"), and the user path has everything."""
        if not self._able:
            self.stop()
            return
        try:
            if self._path is None or self._path.spec != self._wish():
                self._start(peers, remembered)
            elif peers != self._peers and not (remembered and self._peers is None):
                self._swap(self._path, peers)
        except OSError as error:
            self._give_up(error)
            return
        self._refused = ""
        if not self.on:
            self._settle("")

    def _give_up(self, error: OSError) -> None:
        assert self._chosen is not None
        self._drop()
        self._refused = error.strerror or str(error)
        self._able = self._chosen[0].data_path == "bpf"  # "auto" tries no second time at this place
        self._settle(self._refused)

    def _start(self, peers: Mapping[Subnet, Hop], remembered: bool) -> None:
        from flannel_worker.datapath.bpf import LOSSES, BpfPath

        self._tally = Tally(LOSSES)
        if self._path is not None:
            self._path.close()
        self._peers = None
        rows, fast = ((), ()) if remembered else _table(peers)
        self._path = path = BpfPath.start(self._wish(), rows, fast)
        if not remembered:
            self._peers = dict(peers)
        elif not path.resumed():
            self._swap(path, peers)
        log.info(f"data path bpf: {', '.join(path.features())}" + (f"; {path.remark}" if path.remark else ""))

    def _swap(self, path: BpfPath, peers: Mapping[Subnet, Hop]) -> None:
        path.swap(*_table(peers))
        self._peers = dict(peers)

    def _wish(self) -> BpfSpec:
        from flannel_worker.datapath.bpfplace import BpfSpec

        assert self._chosen is not None
        spec, tun = self._chosen
        return BpfSpec(
            self._network, tun, spec.uplink, spec.address, spec.port, spec.verify_source, "xdp" if spec.xdp else "auto"
        )

    def look(self) -> None:
        """Puts back what somebody took away; says what was lost."""
        if self._path is None or self._tally is None:
            return
        try:
            if self._path.repair():
                log.warning("data path bpf: programs were gone from their place, and are back")
            for line in self._tally.lines(self._path.counters()):
                log.warning(line)
        except OSError as error:
            self._give_up(error)

    def counters(self) -> dict[str, int]:
        """By what the programs decided; empty without them. Raises OSError."""
        return self._path.counters() if self._path is not None else {}

    def stop(self) -> None:
        """Takes everything out of the kernel, an earlier run's too, until the next `serve`."""
        if self._path is not None:
            self._drop()
        elif not self._left and os.path.exists(PINS):  # noqa: PTH110  every pathlib function costs a worker memory
            self._withdraw()
        else:
            self._left = True

    def remove(self) -> None:
        """As `stop`, for good."""
        self.stop()
        self.on, self.fault, self._able, self._chosen = False, "", False, None

    def _drop(self) -> None:
        path, self._path, self._peers = self._path, None, None
        try:
            if path is not None:
                path.remove()
        except OSError as error:
            log.warning(f"data path bpf: not all of it could be taken away: {error.strerror or error}")

    def _withdraw(self) -> None:
        from flannel_worker.datapath.bpfplace import withdraw

        try:
            withdraw(self._network, self._wish() if self._chosen is not None else None)
        except OSError as error:
            why = error.strerror or str(error)
            if why != self._stays:
                log.warning(f"data path bpf: what an earlier run left on the uplink stays: {why}")
            self._stays = why
        else:
            self._left = True


def _table(peers: Mapping[Subnet, Hop]) -> tuple[list[Peer], frozenset[int]]:
    rows = [Peer(subnet.base, subnet.length, hop.address) for subnet, hop in peers.items()]
    return rows, frozenset(hop.address for hop in peers.values() if hop.runs_bpf)
