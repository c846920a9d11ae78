"""The user path: a thread of C between TUN and socket (workers/datapath). No packet touches Python."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from struct import pack

from flannel_worker import _datapath
from flannel_worker.datapath.protocol import Peer, PeerCounters

FLIGHT_BYTES = _datapath.FLIGHT_BYTES  # of the memory that keeps packets in flight over the death of a worker
BATCHES = ("sent", "received", "written")


class UserPath:
    """A `Datapath`. Made by `start`; packets flow from the first `swap` on."""

    def __init__(self, path: _datapath.Path) -> None:
        self._path = path

    @classmethod
    def start(
        cls, tun: int, udp: int, *, port: int, address: int, offload: bool, verify_source: bool, flight: int = -1
    ) -> UserPath:
        """Takes a TUN and a bound UDP socket, both switched to non-blocking.

        `address` is the TUN's own, the source of ICMP answers. `flight` is memory of FLIGHT_BYTES bytes that outlives
        this process (a memfd): packets that a killed worker had in hand, and its table of peers, are taken up from
        there. `offload` False: one packet a system call goes in and out, as from a kernel that offers nothing. Raises
        OSError.
        """
        return cls(
            _datapath.Path(
                tun=tun,
                udp=udp,
                flight=flight,
                address=address,
                port=port,
                offload=offload,
                verify_source=verify_source,
            )
        )

    def resumed(self) -> bool:
        return self._path.resumed()

    def swap(self, peers: Iterable[Peer]) -> None:
        numbers = tuple(chain.from_iterable(peers))
        self._path.swap(pack(f"={len(numbers)}I", *numbers))

    def counters(self) -> dict[str, int]:
        return {name: value for (name, _), value in zip(_datapath.COUNTERS, self._path.counters(), strict=True)}

    def meanings(self) -> tuple[tuple[str, str], ...]:
        return _datapath.COUNTERS

    def batches(self) -> dict[str, tuple[int, ...]]:
        """How many batches of 1, 2-3, 4-7, ... 64 and more packets were sent, received and written at once."""
        return dict(zip(BATCHES, self._path.batches(), strict=True))

    def peer_counters(self) -> list[PeerCounters]:
        return [PeerCounters(*row) for row in self._path.peers()]

    def features(self) -> tuple[str, ...]:
        return tuple(name for name, on in self._path.features().items() if on)

    def failed(self) -> int:
        return self._path.failed()

    def event_fd(self) -> int:
        return self._path.event_fd()

    def close(self) -> None:
        self._path.close()
