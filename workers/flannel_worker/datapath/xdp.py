"""The XDP program of an uplink, which all its networks share: the first puts it there, the last takes it away.

It is used only where it is asked for: drivers stop their queues to attach it and take other buffers for all packets;
a veth copies each packet for it, and makes its far end cut super-packets.
"""

from __future__ import annotations

from flannel_worker.datapath import bpffs, bpfhooks, bpfobject, libbpf
from flannel_worker.datapath.bpflayout import NUMBER, VERSION, read_tally
from flannel_worker.datapath.bpfobject import Loaded

PROGRAM = "uplink_xdp"


class SharedXdp:
    """This network's part in its uplink's program."""

    def __init__(self, uplink: int, endpoint: bytes, loaded: Loaded) -> None:
        self._uplink, self._endpoint, self._loaded = uplink, endpoint, loaded

    @classmethod
    def join(cls, uplink: int, endpoint: bytes) -> SharedXdp:
        """From now on datagrams for `endpoint` are opened by the program. The network's tc program must be there.

        Raises OSError: EEXIST when somebody else's program is on the device, EOPNOTSUPP without native XDP.
        """
        folder = bpffs.uplink_folder(uplink)
        with bpffs.locked(folder):
            if not bpfhooks.xdp_program(uplink):
                bpffs.unpin(folder)  # of a device that is gone and had the same number
            loaded = bpfobject.xdp(folder)
            try:
                bpfhooks.xdp_attach(uplink, loaded.program(PROGRAM), name=PROGRAM)
                loaded.maps["endpoints"].update(endpoint, NUMBER.pack(VERSION))
            except OSError:
                loaded.close()
                if not bpfhooks.xdp_program(uplink):
                    bpffs.unpin(folder)
                raise
        return cls(uplink, endpoint, loaded)

    def stands(self) -> bool:
        """Whether a program is on the device, and knows of us. Raises OSError."""
        # As pinned, not as we hold it: another network may have begun with a new map when the program was gone.
        pin = f"{bpffs.uplink_folder(self._uplink)}/endpoints"
        return bpfhooks.xdp_program(self._uplink) != 0 and bool(libbpf.lookup_pinned(pin, self._endpoint, NUMBER.size))

    def counters(self) -> dict[str, int]:
        """Packets of the whole uplink, all its networks and the rest. Raises OSError."""
        return read_counters(self._loaded)

    def close(self) -> None:
        """The program stays."""
        self._loaded.close()


def leave(uplink: int, endpoint: bytes) -> None:
    """Datagrams for `endpoint` are left alone from now on; the last one to leave takes the program away.

    Raises OSError."""
    if not bpfhooks.xdp_program(uplink):
        return
    folder = bpffs.uplink_folder(uplink)
    with bpffs.locked(folder):
        if not bpffs.holds(folder, "endpoints"):
            return  # not ours, or put there from another mount namespace
        loaded = bpfobject.xdp(folder)
        try:
            endpoints = loaded.maps["endpoints"]
            endpoints.delete(endpoint)
            if not any(True for _ in endpoints.keys()):  # noqa: SIM118  a map is no dict
                bpfhooks.xdp_detach(uplink, name=PROGRAM)
                bpffs.unpin(folder)  # the folder stays: another worker may be waiting for its lock
        finally:
            loaded.close()


def read_counters(loaded: Loaded) -> dict[str, int]:
    """Packets by verdict. Raises OSError."""
    tallies = loaded.maps["verdicts"]
    rows = (tallies.lookup_on_cpus(NUMBER.pack(number)) for number in range(len(loaded.verdicts)))
    return {name: read_tally(row)[0] for name, row in zip(loaded.verdicts, rows, strict=True)}
