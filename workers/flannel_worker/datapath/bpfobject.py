"""Our two object files: loaded with the maps that are pinned, if those are of this version, and checked against us."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from flannel_worker.datapath import bpffs
from flannel_worker.datapath.bpflayout import OVERLAY_MAPS, XDP_MAPS, misfit
from flannel_worker.datapath.libbpf import Map, Object

_SECTION = ".rodata.names"


class Loaded:
    """Programs and maps of one object file, held by descriptors of this process until `close`."""

    def __init__(self, file: str, maps: Mapping[str, tuple[int, int]], folder: str) -> None:
        """`folder` "": maps of its own, pinned nowhere. Raises OSError."""
        path = str(Path(__file__).with_name(file))
        if not Path(path).exists():
            raise OSError(errno.ENOENT, f"{path} is missing: it was not built (clang and libbpf-dev are needed for it)")
        self._object = Object(path)
        try:
            for name in maps if folder else ():
                self._object.pin(name, f"{folder}/{name}")
            self._object.load()
            self.maps = {name: self._fitting(name, sizes) for name, sizes in maps.items()}
            self.verdicts = self._object.texts(_SECTION)
        except OSError:
            self.close()
            raise

    def _fitting(self, name: str, sizes: tuple[int, int]) -> Map:
        found = self._object.map(name)
        if why := misfit(found, sizes):
            raise OSError(errno.EINVAL, f"the programs are of another release than this one: {why}")
        return found

    def program(self, name: str) -> int:
        return self._object.program(name)

    def close(self) -> None:
        self._object.close()


def overlay(folder: str = "") -> Loaded:
    """tun_egress and uplink_ingress. Raises OSError."""
    return _loaded("overlay.bpf.o", OVERLAY_MAPS, folder)


def xdp(folder: str = "") -> Loaded:
    """uplink_xdp. Raises OSError."""
    return _loaded("xdp.bpf.o", XDP_MAPS, folder)


def _loaded(file: str, maps: Mapping[str, tuple[int, int]], folder: str) -> Loaded:
    """With the pinned maps, or with new ones where those are of another shape."""
    try:
        return Loaded(file, maps, folder)
    except OSError as error:
        if not folder or error.errno != errno.EINVAL:
            raise
    bpffs.unpin(folder)
    return Loaded(file, maps, folder)
