"""The demonstration behind `make demo`: three hosts, three networks, one worker killed under pings.

Needs root and iproute2, and etcd with STORE=etcd; `make demo` installs them. Exit status 0 only when every ping came
back, the killed worker is ready again, nobody else was restarted, and nothing is left of it all.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType

from tests.lab.flanneld import Flanneld, kill
from tests.lab.overlay import EMBEDDED, ETCD, THREE, Overlay
from tests.lab.pinger import Count
from tests.lab.world import Inventory, LabError

PREFIX = "fldemo"
STORES = {EMBEDDED: "one server on a SQLite file", ETCD: "one etcd"}
VICTIM = "blue"
WARM_UP_S = 1.0  # of pings before the kill, and after the worker is back
USAGE, FAILED = 2, 1


def main() -> int:
    """Runs the demonstration; returns the exit status."""
    if refusal := refused(os.environ):
        print(f"demo: {refusal}", file=sys.stderr)
        return USAGE
    signal.signal(signal.SIGTERM, _interrupted)
    inventory = Inventory(PREFIX)
    faults: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="flannel-demo-") as folder:
            faults += _shown(Path(folder))
    except KeyboardInterrupt:
        faults.append("interrupted")
    except (LabError, AssertionError, OSError) as error:
        faults.append(str(error))
    left = inventory.leftovers()
    _title("Cleaned up")
    print("  no namespace, process or interface is left" if not left else "")
    faults += [f"left behind: {item}" for item in left]
    for fault in faults:
        print(f"FAILED: {fault}")
    return FAILED if faults else 0


def refused(environ: Mapping[str, str]) -> str:
    """Why the demonstration cannot run here, "" when it can."""
    store = _store(environ)
    if store not in STORES:
        return f"STORE={store} is no store of the demonstration; use STORE={' or STORE='.join(STORES)}"
    if os.geteuid() != 0:
        return "it makes network namespaces, so it needs root"
    needed = ("ip", "bridge", "ping", *(["etcd"] if store == ETCD else []))
    missing = [name for name in needed if shutil.which(name) is None]
    return f"missing here: {', '.join(missing)}; run `make demo`, which installs them" if missing else ""


def _store(environ: Mapping[str, str]) -> str:
    return environ.get("STORE") or EMBEDDED


def _shown(folder: Path) -> list[str]:
    """The whole demonstration; returns what went wrong, a line each."""
    store = _store(os.environ)
    _title(f"Three hosts (network namespaces) on one bridge, {STORES[store]}:")
    if store == EMBEDDED:
        print("  once:         flanneld --listen=0.0.0.0:8888 --store=sqlite:///...")
    where = "--remote=SERVER:8888" if store == EMBEDDED else "--etcd-endpoints=..."
    print(f"  on each host: flanneld --networks={','.join(THREE)} {where}")
    overlay = Overlay(PREFIX, folder, hosts=3, store=store)
    try:
        began_s = time.monotonic()
        overlay.start()
        print(f"  9 networks ready {time.monotonic() - began_s:.2f} s after the store was started")
        overlay.attach()
        _show_env_files(overlay)
        faults = _show_matrix(overlay)
        return faults + _show_kill(overlay)
    except (LabError, AssertionError):
        for daemon in overlay.daemons:
            print(daemon.tail(15))
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not stop the cleaning
        overlay.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _show_env_files(overlay: Overlay) -> None:
    first = overlay.daemons[0].env_file(VICTIM)
    _title(f"Env file of {VICTIM} on h1 (<run-dir>/networks/{first.name})")
    print("".join(f"  {line}\n" for line in first.read_text().splitlines()), end="")
    _title("All nine env files")
    rows = [("host", "network", *overlay.daemons[0].env(VICTIM))]
    for daemon, network in itertools.product(overlay.daemons, overlay.networks):
        rows.append((daemon.host.name, network, *daemon.env(network).values()))
    _table(rows)


def _show_matrix(overlay: Overlay) -> list[str]:
    """Pings each container from each; returns the pairs without an answer."""
    faults = []
    for network in overlay.networks:
        _title(f"{network}: ping from container to container, ms")
        rows = [("from \\ to", *(there.host.name for there in overlay.daemons))]
        for here in overlay.daemons:
            times = [_ping_ms(overlay, here, there, network) for there in overlay.daemons]
            rows.append((here.host.name, *times))
            faults += [
                f"{network}: no ping from {here.host.name} to {there.host.name}"
                for there, took in zip(overlay.daemons, times, strict=True)
                if took == "-"
            ]
        _table(rows)
    return faults


def _ping_ms(overlay: Overlay, here: Flanneld, there: Flanneld, network: str) -> str:
    source, target = overlay.container(here, network), overlay.container(there, network)
    answer = here.host.run("ping", "-n", "-c1", "-W1", "-I", source, target, check=False)
    found = re.search(r"time=([\d.]+)", answer)
    return found.group(1) if found else "-"


def _show_kill(overlay: Overlay) -> list[str]:
    """Kills one worker under pings of all networks; returns what went wrong."""
    daemon = overlay.daemons[0]
    before = {daemon.host.name: daemon.worker_pids() for daemon in overlay.daemons}
    _title(f"kill -9 of {VICTIM}'s worker on h1 under pings, 100 a second for each pair of hosts")
    pings = overlay.ping()
    _wait(WARM_UP_S)
    mark, killed_s = daemon.mark(), time.time()
    kill(daemon.worker_pid(VICTIM), signal.SIGKILL)
    back = daemon.wait_ready(VICTIM, after=mark, timeout_s=20.0)
    _wait(WARM_UP_S)
    counts = pings.stop()
    after = {daemon.host.name: daemon.worker_pids() for daemon in overlay.daemons}
    rows: list[tuple[str, ...]] = [("network", "sent", "lost", "h1's worker before", "after")]
    for network, count in counts.items():
        pids = (str(before["h1"].get(network)), str(after["h1"].get(network)))
        rows.append((network, str(count.sent), str(count.lost), *pids))
    _table(rows)
    print(f"  {VICTIM} ready again {1000 * (back.at_s - killed_s):.0f} ms after the kill")
    return _faults_of_kill(counts, before, after)


def _faults_of_kill(
    counts: Mapping[str, Count], before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]
) -> list[str]:
    faults = [f"{network} lost {count.lost} of {count.sent} packets" for network, count in counts.items() if count.lost]
    for host, pids in before.items():
        for network, pid in pids.items():
            if (after[host].get(network) == pid) is (host == "h1" and network == VICTIM):
                faults.append(f"{network} on {host}: worker {pid} before, {after[host].get(network)} after")
    return faults


def _wait(seconds: float) -> None:
    signal.sigtimedwait((), seconds)


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _title(text: str) -> None:
    print(f"\n{text}", flush=True)


def _table(rows: Iterable[tuple[str, ...]]) -> None:
    """Columns of numbers to the right, others to the left; the first row is the heading."""
    rows = list(rows)
    for row in rows:
        cells = []
        for column, cell in enumerate(row):
            width = max(len(other[column]) for other in rows)
            numbers = all(re.fullmatch(r"[\d.]+|-", other[column]) for other in rows[1:])
            cells.append(cell.rjust(width) if numbers else cell.ljust(width))
        print("  " + "  ".join(cells).rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
