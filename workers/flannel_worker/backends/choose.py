"""From a config to its backend (spec §2.5)."""

from __future__ import annotations

import difflib

from flannel_multi.model.config import NetworkConfig
from flannel_multi.model.errors import ConfigError, NotBuiltYet
from flannel_multi.model.shown import show
from flannel_worker.backends.alloc import Alloc
from flannel_worker.backends.host_gw import HostGw
from flannel_worker.backends.protocol import Backend
from flannel_worker.backends.udp import Udp
from flannel_worker.backends.vxlan import Vxlan

BUILT = ("alloc", "host-gw", "udp", "vxlan")
PLANNED = ("aws-vpc", "gce")


def backend_for(config: NetworkConfig) -> Backend:
    """The backend of `config`. Raises ConfigError (unknown type, bad key), NotBuiltYet (aws-vpc, gce; a data
    path of udp that is none yet)."""
    match config.backend_type:
        case "alloc":
            return Alloc()
        case "host-gw":
            return HostGw.of(config)
        case "udp":
            return Udp.of(config)
        case "vxlan":
            return Vxlan.of(config)
        case kind if kind in PLANNED:
            raise NotBuiltYet(f"backend {kind} is not built yet: use one of {', '.join(BUILT)}")
        case kind:
            near = difflib.get_close_matches(kind[:40], BUILT, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(BUILT)}"
            raise ConfigError(f"Backend.Type {show(kind)} is unknown: {hint}")
