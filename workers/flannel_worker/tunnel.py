"""The tunnel of a udp network: a TUN device, a UDP socket, and the data path that moves packets between them.

Both descriptors are handed up to the supervisor, so that packets wait in their queues while one worker follows
another; device, address and routes stand in the kernel. Only the data path dies with its worker.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from flannel_multi import log
from flannel_multi.model.errors import KernelRefused, NotBuiltYet
from flannel_multi.model.subnet import Subnet
from flannel_worker.backends.protocol import Hop, TunnelSpec
from flannel_worker.datapath.protocol import Datapath, Peer
from flannel_worker.datapath.tally import Tally, losses
from flannel_worker.keeper import Keeper
from flannel_worker.kernel.events import Drift
from flannel_worker.kernel.objects import LinkState, TunLink
from flannel_worker.kernel.reconcile import Reconciler
from flannel_worker.kernelpath import KernelPath
from flannel_worker.udpsocket import bound, is_bound, overflowed

# Imported once, in the parent: a worker that did it alone would pay 0.7 MB for it, and an upgrade of the package under
# a running daemon would give it another version.
try:
    from flannel_worker.datapath import user

    _MISSING = ""
except ImportError as error:
    _MISSING = str(error)

TUN, UDP, FLIGHT = "tun", "udp", "flight"  # the roles under which the descriptors are kept
QUEUE = (
    "in_queue_full",
    "they arrived faster than they were read (or while no worker ran), and the socket's queue was full",
)
FLEETING_S = 1.0  # a path that ends sooner is not started again at once


class Run(NamedTuple):
    """What a data path is started with: two descriptors, the device's MTU in bytes, and its address, which is the
    source of "net unreachable"."""

    tun: int
    udp: int
    mtu: int
    spec: TunnelSpec
    address: int


Start = Callable[[Run, Keeper], Datapath]  # moves nothing until it has a table of peers; raises OSError


class Tunnel:
    """Empty, and free of cost, until the first `open`."""

    def __init__(
        self, reconciler: Reconciler, keeper: Keeper, *, network: str = "_", start: Start | None = None
    ) -> None:
        self._reconciler = reconciler
        self._kernel_path = KernelPath(network)
        self._keeper = keeper
        self._start = start or start_user_path
        self._spec: TunnelSpec | None = None  # of the open tunnel
        self._mtu = 0
        self._path: Datapath | None = None
        self._tally: Tally | None = None
        self._run: Run | None = None
        self._started_s = 0.0
        self._peers: dict[Subnet, Hop] | None = None  # that the path was told of

    @property
    def is_open(self) -> bool:
        return self._spec is not None

    @property
    def runs_bpf(self) -> bool:
        """True where the kernel takes part: what the own lease may tell the peers."""
        return self._kernel_path.on

    @property
    def faults(self) -> list[str]:
        """What is not as the config asks, although packets are moved."""
        return [self._kernel_path.fault] if self._kernel_path.fault else []

    @property
    def runs(self) -> bool:
        """True while packets are moved."""
        return self._path is not None and not self._path.failed()

    async def open(self, spec: TunnelSpec, wish: TunLink) -> LinkState:
        """Socket and device as asked for: the kept ones as far as they fit. The socket comes first, so that a port in
        use leaves no device behind.

        Raises Occupied while another program has the port or the device, KernelRefused. What stood before stands then,
        and what was made for it is gone.
        """
        kept_udp, kept_tun = self._keeper.held(UDP), self._keeper.held(TUN)
        fresh = None if kept_udp is not None and is_bound(kept_udp, spec) else bound(spec)
        try:
            link, tun = await self._reconciler.ensure_tun(wish, kept_tun)
        except BaseException:
            if fresh is not None:
                fresh.close()
            raise
        if fresh is not None or tun != kept_tun:
            self.pause()  # what it reads from is about to be closed
        try:
            self._keep(UDP, kept_udp if fresh is None else fresh.detach())
        except KernelRefused:
            if tun != kept_tun:
                os.close(tun)  # else we ourselves would be the program that has the device open
            raise
        self._keep(TUN, tun)
        self._spec, self._mtu = spec, link.mtu
        self._kernel_path.choose(spec, link.ifindex)
        return link

    def _keep(self, role: str, fd: int | None) -> None:
        if fd is None or fd == self._keeper.held(role):
            return
        try:
            self._keeper.keep(role, fd)
        except OSError as error:
            os.close(fd)
            text = f"handing {role} descriptor to the supervisor failed: {error.strerror}; tried again later"
            raise KernelRefused(text, error.errno or 0) from None

    def serve(self, address: int, peers: Mapping[Subnet, Hop], *, remembered: bool) -> None:
        """Moves packets: those for a subnet of `peers` go to the host it is behind. `address` is this host's own.

        `remembered`: the store has not confirmed these peers yet. Those that the worker before served with its last
        breath are newer, and stay. Raises KernelRefused when the data path cannot start, or has just ended;
        NotBuiltYet when this installation has none.
        """
        tun, udp = self._keeper.held(TUN), self._keeper.held(UDP)
        assert self._spec is not None, "serve before open"
        assert tun is not None, "an open tunnel holds its device"
        assert udp is not None, "an open tunnel holds its socket"
        run = Run(tun, udp, self._mtu, self._spec, address)
        if self._path is not None and not self._path.failed() and run == self._run:
            self._tell(self._path, peers, remembered)
        else:
            self._begin(run, peers, remembered)
        was_on = self._kernel_path.on
        self._kernel_path.serve(peers, remembered=remembered)  # second: what it does not take, the first must know
        self._tell_of_change(was_on)

    def _tell_of_change(self, was_on: bool) -> None:
        """What the own lease says is another thing now: look again."""
        if self._kernel_path.on != was_on:
            self._reconciler.tell(Drift(f"data path bpf {'works again' if self._kernel_path.on else 'failed'}"))

    def _tell(self, path: Datapath, peers: Mapping[Subnet, Hop], remembered: bool) -> None:
        if peers == self._peers or (remembered and self._peers is None and path.resumed()):
            return
        path.swap(_table(peers))
        self._peers = dict(peers)

    def _begin(self, run: Run, peers: Mapping[Subnet, Hop], remembered: bool) -> None:
        loop = asyncio.get_running_loop()
        why = self._path.failed() if self._path is not None else 0
        self.pause()
        if why and loop.time() - self._started_s < FLEETING_S:
            raise KernelRefused(f"data path ended at once: {_name(why)}; tried again later", why)
        try:
            self._path = self._start(run, self._keeper)
            self._peers = None
            self._tell(self._path, peers, remembered)
        except OSError as error:
            self.pause()
            code = error.errno or 0
            raise KernelRefused(f"data path refused: {_name(code)}; tried again later", code) from None
        self._run, self._started_s = run, loop.time()
        self._tally = Tally(losses((*self._path.meanings(), QUEUE)))
        loop.add_reader(self._path.event_fd(), self._ended)
        log.info(f"data path user: {', '.join(self._path.features()) or 'no offloads'}")

    def look(self) -> None:
        """Says which packets were lost, and why; a cause again when it has grown tenfold. Mends the kernel's part."""
        was_on = self._kernel_path.on
        self._kernel_path.look()
        self._tell_of_change(was_on)
        if self._path is not None and self._tally is not None:
            for line in self._tally.lines({**self._path.counters(), QUEUE[0]: self._overflowed()}):
                log.warning(line)

    def _overflowed(self) -> int:
        udp = self._keeper.held(UDP)
        return 0 if udp is None else overflowed(udp)

    def _ended(self) -> None:
        """The path says that it is over, as when the device was deleted: look again, as after any drift."""
        assert self._path is not None
        asyncio.get_running_loop().remove_reader(self._path.event_fd())
        self._reconciler.tell(Drift(f"data path ended: {_name(self._path.failed())}"))

    def pause(self) -> None:
        """Moves no packets any more; those that come in wait in the queues."""
        if self._path is not None:
            asyncio.get_running_loop().remove_reader(self._path.event_fd())
            self._path.close()
            self._path = None

    def stand_down(self) -> None:
        """Moves no packets any more, not through the kernel either, until the next `serve`."""
        self.pause()
        if self.is_open:
            self._kernel_path.stop()

    def close(self) -> None:
        """Lets go of all descriptors, here and at the supervisor. The device is the caller's to remove."""
        self.pause()
        self._kernel_path.remove()
        for role in (TUN, UDP, FLIGHT):
            self._keeper.let_go(role)
        self._spec = None


def start_user_path(run: Run, keeper: Keeper) -> Datapath:
    """The path in user space, by the C extension. Raises OSError; NotBuiltYet when the extension is missing."""
    if _MISSING:
        raise NotBuiltYet(f"backend udp is not part of this installation ({_MISSING}): use vxlan")
    spec = run.spec
    return user.UserPath.start(
        run.tun, run.udp,
        port=spec.port, address=run.address, offload=spec.offload, verify_source=spec.verify_source,
        flight=_flight(keeper, user.FLIGHT_BYTES),
    )  # fmt: skip


def _flight(keeper: Keeper, size: int) -> int:
    """Memory of `size` bytes that is kept over this worker's death, for the packets that it has in hand then. Raises
    OSError."""
    kept = keeper.held(FLIGHT)
    if kept is not None and os.fstat(kept).st_size == size:
        return kept
    fd = os.memfd_create("flannel-flight", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        keeper.keep(FLIGHT, fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _table(peers: Mapping[Subnet, Hop]) -> list[Peer]:
    return [Peer(subnet.base, subnet.length, hop.address) for subnet, hop in peers.items()]


def _name(code: int) -> str:
    return errno.errorcode.get(code, str(code))
