"""Hosts as network namespaces, joined by a bridge in a namespace of its own.

Nothing of the root namespace is touched but the names that `ip netns` keeps in /run/netns. Every name of a world
begins with `<prefix>-<pid>-`, so that two runs do not meet and what one left behind can be told from the rest.

    sw   the bridge "br0", 192.0.2.254: everybody's default gateway
    h1   eth0 192.0.2.1, ip_forward on
    h2   eth0 192.0.2.2, ...
"""

from __future__ import annotations

import ctypes
import ipaddress
import itertools
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

NETNS_FOLDER = Path("/run/netns")
LAN = "192.0.2.0/24"  # TEST-NET-1 of RFC 5737: no real host can be meant
SWITCH = "sw"
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_serials = itertools.count(1)


class LabError(Exception):
    """A command of the lab itself failed: the machine lacks something, or a test asks for the impossible."""


@dataclass(frozen=True)
class Host:
    """One host: its short name, its namespace, its address on the bridge's network."""

    name: str
    netns: str
    address: str

    def run(self, *argv: str, check: bool = True, stdin: str | None = None) -> str:
        """Standard output of a command inside the host. Raises LabError when it fails and `check` is set."""
        return run("ip", "netns", "exec", self.netns, *argv, check=check, stdin=stdin)

    def ip(self, *argv: str, check: bool = True) -> str:
        """`ip` inside the host."""
        return run("ip", "-n", self.netns, *argv, check=check)

    def spawn(self, *argv: str, **popen: Any) -> subprocess.Popen[bytes]:
        """A process inside the host, in a session of its own (Ctrl-C is the lab's to hear), with its own pid: `ip netns
        exec` becomes the command, it does not fork."""
        return subprocess.Popen(["ip", "netns", "exec", self.netns, *argv], start_new_session=True, **popen)

    def attach(self, network: str, address: str) -> None:
        """A container bridge of `network` that holds `address` (with prefix length), as Docker would make it.

        The address is what other hosts ping. What the bridge held before is replaced.
        """
        bridge = f"ct-{network}"[:15]
        if bridge not in self.links():
            batch(self.netns, f"link add {bridge} type bridge", f"link set {bridge} up")
        batch(self.netns, f"addr flush dev {bridge}", f"addr add {address} dev {bridge}")

    def links(self) -> list[str]:
        """Names of the interfaces."""
        return [line.split(":")[1].strip().split("@")[0] for line in self.ip("-o", "link").splitlines()]

    def pids(self) -> list[int]:
        """Every process inside the host."""
        return [int(pid) for pid in run("ip", "netns", "pids", self.netns).split()]


def run(*argv: str, check: bool = True, stdin: str | None = None) -> str:
    """Standard output of a command. Raises LabError when it fails and `check` is set."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise LabError(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def batch(netns: str, *commands: str) -> None:
    """Several `ip` commands inside a namespace, in one process. Raises LabError."""
    run("ip", "-n", netns, "-batch", "-", stdin="".join(f"{command}\n" for command in commands))


class World:
    """`hosts` hosts named h1, h2, ... and whatever `extra` names, on one bridge. A context manager: leaving it ends
    every process inside and removes every namespace, whatever happened."""

    def __init__(self, prefix: str, *, hosts: int = 3, extra: Sequence[str] = (), lan: str = LAN) -> None:
        self.stem = f"{prefix}-{os.getpid()}-{next(_serials)}-"
        self.lan = ipaddress.IPv4Network(lan)
        names = [f"h{number}" for number in range(1, hosts + 1)]
        self.hosts: list[Host] = []
        self._by_name: dict[str, Host] = {}
        last = int(self.lan.broadcast_address)
        self.gateway = str(ipaddress.IPv4Address(last - 1))
        try:
            self._switch()
            for number, name in enumerate(names, 1):
                self.hosts.append(self._join(name, str(self.lan.network_address + number)))
            for number, name in enumerate(extra, 2):
                self._join(name, str(ipaddress.IPv4Address(last - number)))
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Host:
        return self._by_name[name]

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process of the world by SIGKILL, waits for their end, removes the namespaces."""
        for name in names_with(self.stem):
            end_all(name)
        for name in names_with(self.stem):
            run("ip", "netns", "del", name)

    def _switch(self) -> None:
        netns = self.stem + SWITCH
        run("ip", "netns", "add", netns)
        batch(
            netns,
            "link set lo up",
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"addr add {self.gateway}/{self.lan.prefixlen} dev br0",
            "link set br0 up",
        )

    def _join(self, name: str, address: str) -> Host:
        netns = self.stem + name
        run("ip", "netns", "add", netns)
        batch(
            self.stem + SWITCH,
            f"link add {name} type veth peer name eth0 netns {netns}",
            f"link set {name} master br0 up",
        )
        batch(
            netns,
            "link set lo up",
            f"addr add {address}/{self.lan.prefixlen} dev eth0",
            "link set eth0 up",
            f"route add default via {self.gateway}",
        )
        host = self._by_name[name] = Host(name, netns, address)
        host.run("tee", "/proc/sys/net/ipv4/ip_forward", stdin="1")
        return host


def names_with(stem: str) -> list[str]:
    """Namespaces whose name begins with `stem`."""
    if not NETNS_FOLDER.is_dir():
        return []
    return sorted(entry.name for entry in NETNS_FOLDER.iterdir() if entry.name.startswith(stem))


def end_all(netns: str) -> None:
    """Kills what runs inside a namespace and waits until it is gone. Raises LabError when something stays for 5 s."""
    for _ in range(10):  # a dying supervisor may have forked once more
        pids = [int(pid) for pid in run("ip", "netns", "pids", netns, check=False).split()]
        if not pids:
            return
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], 5.0)
            except ProcessLookupError:
                pass
            finally:
                os.close(handle)
    raise LabError(f"processes of {netns} do not end")


class Inventory:
    """What this process and the machine have before a run, so that what is left after it can be named.

    Makes this process the one that orphans of its descendants fall to: whatever a run leaves behind is then a child.
    """

    def __init__(self, prefix: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise LabError(f"cannot become a subreaper: {os.strerror(ctypes.get_errno())}")
        self._prefix = prefix + "-"
        self._children = children()
        self._links = run("ip", "-o", "link").count("\n")

    def leftovers(self) -> list[str]:
        """Namespaces of the prefix, processes and interfaces that were not there before. Empty is good."""
        for pid in children() - self._children:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)  # an orphan that fell to us when it had ended
        found = [f"namespace {name}" for name in names_with(self._prefix)]
        found += [f"process {pid}: {_argv(pid)}" for pid in sorted(children() - self._children)]
        links = run("ip", "-o", "link").count("\n")
        return found + ([f"{links - self._links} interfaces"] if links > self._links else [])


def children() -> set[int]:
    """Pids of the children of this process, zombies too."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        found.update(map(int, (task / "children").read_text().split()))
    return found


def _argv(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "gone by now"


def read_env(path: Path) -> Mapping[str, str]:
    """The env file's variables. Raises OSError."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines())
