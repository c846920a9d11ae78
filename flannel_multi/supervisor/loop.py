"""The supervisor's one loop: facts from pidfds, socketpairs and signals go into the core, its actions come out.

Nothing in here waits for anything but `epoll`: no store, no netlink, no DNS, no disk but at SIGHUP. In each turn the
socketpairs are read before the pidfds, so that what a worker said before its death is heard before it. Whatever goes
wrong with one network ends at that network's edge (`_guarded`): its worker is killed, the others go on.
"""

from __future__ import annotations

import random
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from flannel_multi import log
from flannel_multi.model.messages import Beat, ClaimAsked, ClaimsDropped, Facts, Phase, Said, Stop, Up
from flannel_multi.options import NetworkOptions, Options
from flannel_multi.service_manager import Notifier
from flannel_multi.supervisor import core, process
from flannel_multi.supervisor.children import Children
from flannel_multi.supervisor.referee import Referee
from flannel_multi.supervisor.status import status_line

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

Entry = Callable[[NetworkOptions, socket.socket, Mapping[str, int]], int]  # the last: kept descriptors by role


@dataclass(frozen=True)
class Wiring:
    """What the loop is handed from outside: the life of a worker, the service manager, what SIGHUP does, which
    networks left a state file (they hold what they ran on), and whether every child but the workers is theirs."""

    entry: Entry
    notifier: Notifier
    hangup: Callable[[], None]
    ran_before: frozenset[str] = frozenset()
    kills_strays: bool = True


class Loop:
    """Runs until every worker has stopped on request."""

    def __init__(self, options: Options, wiring: Wiring) -> None:
        now_s = time.monotonic()
        self._wiring = wiring
        self._multi = options.multi
        self._options = {network.name: network for network in options.networks}
        self._rules = {network.name: rules_of(network, options.stop_timeout_s) for network in options.networks}
        self._workers = {name: core.Worker(name, since_s=now_s) for name in self._options}
        self._epoll = select.epoll()
        self._children = Children(
            self._epoll, heard=self._heard, ended=self._ended, kills_strays=wiring.kills_strays
        )  # fmt: skip
        self._referee = Referee(tuple(self._options), wiring.ran_before, self._children.send, now_s=now_s)
        self._watchdog_at_s = now_s if wiring.notifier.beat_s is not None else None
        self._wake = _signal_socket()
        self._epoll.register(self._wake, select.EPOLLIN)

    def run(self) -> None:
        """Returns when the last worker has ended after SIGTERM or SIGINT."""
        self._turn({})
        while any(worker.phase is not Phase.STOPPED for worker in self._workers.values()):
            self._turn(dict(self._epoll.poll(self._patience_s())))

    def _patience_s(self) -> float:
        """Seconds until time alone changes something; -1 for never."""
        now_s = time.monotonic()
        due = [core.next_wake_s(self._workers.values()), self._watchdog_at_s, self._referee.next_wake_s(now_s)]
        next_s = min((at_s for at_s in due if at_s is not None), default=None)
        return -1.0 if next_s is None else max(0.0, next_s - now_s)

    def _turn(self, events: dict[int, int]) -> None:
        if self._wake.fileno() in events:
            self._hear_signals()
        woken = self._children.of(events)
        for step in (self._children.hear_if, self._children.bury_if):
            for fd, name in woken:
                self._guarded(name, partial(step, name, fd))
        now_s = time.monotonic()
        for name in core.due(self._workers.values(), now_s):
            self._guarded(name, partial(self._feed, name, core.Due(now_s)))
        self._referee.tick(now_s)
        self._tell_manager(now_s)

    def _guarded(self, name: str, step: Callable[[], None]) -> None:
        """One network's edge: a mistake of ours that only its worker provokes must not end the others."""
        try:
            step()
        except Exception:  # noqa: BLE001  # said in full, and the worker is ended if there is one
            for line in traceback.format_exc().splitlines():
                log.error(line, about=name or "_")
            self._children.signal(name, signal.SIGKILL)

    # -- what comes in -------------------------------------------------------------------------------------------

    def _hear_signals(self) -> None:
        for number in set(self._wake.recv(4096)):
            if number in (signal.SIGTERM, signal.SIGINT):
                log.info(f"{process.signal_name(number)}: stopping; interfaces, routes, leases and env files stay")
                for name in self._workers:
                    self._feed(name, core.StopWanted(time.monotonic()))
            elif number == signal.SIGHUP:
                self._wiring.hangup()
            elif number == signal.SIGCHLD:
                self._children.sweep()

    def _heard(self, name: str, message: Up) -> None:
        now_s = time.monotonic()
        match message:
            case Beat(progress):
                self._feed(name, core.Beaten(now_s, progress))
            case Said(phase, reason, serving):
                self._said(name, core.SaidSo(now_s, Phase(phase), reason, serving))
            case Facts():
                log.debug(str(message), about=name or "_")
            case ClaimAsked() | ClaimsDropped():
                self._referee.heard(name, message, now_s=now_s)

    def _said(self, name: str, said: core.SaidSo) -> None:
        before = self._workers[name].serving_since_s
        self._feed(name, said)
        self._referee.spoke(name, serving=said.serving, now_s=said.at_s)
        if said.serving and before is None and not self._multi:
            self._wiring.notifier.ready()  # never in multi-network mode: flannel's README promises that (§5.7)

    def _ended(self, name: str, cause: str) -> None:
        """Nobody is left without `Exited`, whatever else goes wrong."""
        self._feed(name, core.Exited(time.monotonic(), cause, random.random()))
        self._referee.gone(name, now_s=time.monotonic())

    # -- what goes out -------------------------------------------------------------------------------------------

    def _feed(self, name: str, event: core.Event) -> None:
        try:
            self._workers[name], actions = core.step(self._workers[name], event, self._rules[name])
        except core.SupervisorBug as bug:
            log.error(f"this is a bug, and only this network is concerned: {bug}", about=name or "_")
            return
        for action in actions:
            self._do(name, action)

    def _do(self, name: str, action: core.Action) -> None:
        """Carries out one action; never waits. A refused fork comes back as an event."""
        match action:
            case core.Spawn():
                self._spawn(name)
            case core.Tell(_, text, alarming):
                (log.warning if alarming else log.info)(text, about=name or "_")
            case core.SendStop():
                self._children.send(name, Stop())
            case core.Abort():
                self._children.signal(name, signal.SIGABRT, signal.SIGCONT)
            case core.Kill():
                self._children.signal(name, signal.SIGKILL)

    def _spawn(self, name: str) -> None:
        options, entry = self._options[name], self._wiring.entry
        try:
            self._children.spawn(name, self._workers[name].incarnation + 1, partial(entry, options))
        except OSError as error:
            failed = core.SpawnFailed(time.monotonic(), error.strerror or str(error), random.random())
            self._feed(name, failed)
            return
        self._feed(name, core.Spawned(time.monotonic()))

    def _tell_manager(self, now_s: float) -> None:
        notifier = self._wiring.notifier
        if notifier.on:
            notifier.status(status_line(self._workers.values()))
        if self._watchdog_at_s is not None and notifier.beat_s is not None and now_s >= self._watchdog_at_s:
            notifier.watchdog()
            self._watchdog_at_s = now_s + notifier.beat_s


def rules_of(network: NetworkOptions, stop_timeout_s: float) -> core.Rules:
    """The numbers of one network's state machine."""
    return core.Rules(
        settled_s=network.restart_settled_s,
        floor_s=network.restart_floor_s,
        cap_s=network.restart_cap_s,
        liveness_timeout_s=network.liveness_timeout_s,
        stop_timeout_s=stop_timeout_s,
    )


def _signal_socket() -> socket.socket:
    """Signals as bytes on a socket: the loop hears them like everything else. SIGUSR1 is ignored, as flannel does."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    signal.set_wakeup_fd(there.detach(), warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _woken)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    return here


def _woken(number: int, frame: object) -> None:
    """The wake-up descriptor has it already."""
