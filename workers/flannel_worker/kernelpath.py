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

if TYPE_CHECKING:
    from flannel_worker.datapath.bpf import BpfPath, BpfSpec  # at run time only where it is wanted: 0.6 MB

PINS = "/sys/fs/bpf/flannel"  # there as soon as any network of this host has had such a path


class KernelPath:
    """`on`: it works, and this host may say so in its lease. `fault`: why not, although the config asks for it."""

    def __init__(self, network: str) -> None:
        self._network = network
        self._chosen: tuple[TunnelSpec, int] | None = None
        self._path: BpfPath | None = None
        self._peers: dict[Subnet, Hop] | None = None
        self.on = False
        self.fault = ""

    def choose(self, spec: TunnelSpec, tun: int) -> None:
        """Decides by a test for this place, once: `tun` is the device's ifindex. What stood at another place goes on
        until `serve`."""
        if self._chosen == (spec, tun) and not self.fault:
            return
        self._chosen = spec, tun
        if spec.data_path == "user":
            self._leave(spec, tun)
            return
        from flannel_worker.datapath.selftest import self_test

        self._settle(self_test(spec.uplink))

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
        if not self.on or self._chosen is None:
            return
        try:
            if self._path is None or self._path.spec != self._wish():
                self._start(peers, remembered)
            elif peers != self._peers and not (remembered and self._peers is None):
                self._swap(self._path, peers)
        except OSError as error:
            self._drop()
            self._settle(error.strerror or str(error))

    def _start(self, peers: Mapping[Subnet, Hop], remembered: bool) -> None:
        from flannel_worker.datapath.bpf import BpfPath

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
        from flannel_worker.datapath.bpf import BpfSpec

        assert self._chosen is not None
        spec, tun = self._chosen
        return BpfSpec(
            self._network, tun, spec.uplink, spec.address, spec.port, spec.verify_source, "xdp" if spec.xdp else "auto"
        )

    def look(self) -> None:
        """Puts back what somebody took away."""
        try:
            if self._path is not None and self._path.repair():
                log.warning("data path bpf: programs were gone from their place, and are back")
        except OSError as error:
            self._drop()
            self._settle(error.strerror or str(error))

    def counters(self) -> dict[str, int]:
        """By what the programs decided; empty without them. Raises OSError."""
        return self._path.counters() if self._path is not None else {}

    def remove(self) -> None:
        """Takes everything out of the kernel."""
        if self._path is not None:
            self._drop()
        elif self._chosen is not None:
            self._leave(*self._chosen)
        self.on, self._chosen = False, None

    def _drop(self) -> None:
        path, self._path, self._peers = self._path, None, None
        try:
            if path is not None:
                path.remove()
        except OSError as error:
            log.warning(f"data path bpf: not all of it could be taken away: {error.strerror or error}")

    def _leave(self, spec: TunnelSpec, tun: int) -> None:
        """A network that had this path before its config changed."""
        self.on, self.fault = False, ""
        if not os.path.exists(PINS):  # noqa: PTH110  every pathlib function costs a worker memory
            return
        from flannel_worker.datapath.bpf import withdraw

        try:
            withdraw(self._wish())
        except OSError as error:
            log.warning(f"data path bpf: what an earlier run left stays: {error.strerror or error}")


def _table(peers: Mapping[Subnet, Hop]) -> tuple[list[Peer], frozenset[int]]:
    rows = [Peer(subnet.base, subnet.length, hop.address) for subnet, hop in peers.items()]
    return rows, frozenset(hop.address for hop in peers.values() if hop.runs_bpf)
