"""The benchmark behind `make bench`: how fast peers reach the kernel, how fast workers come, what they cost.

Everything runs on this machine: etcd, the daemon and this program share its cores. Each figure is measured from
outside: by rtnetlink notifications, by the times of files and log lines, by /proc.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.bench.watch import Counter, Notifications
from tests.lab.etcd import b64
from tests.lab.flanneld import Flanneld, kill
from tests.lab.netns import inside
from tests.lab.overlay import Config, Overlay, vxlan
from tests.lab.storehosts import PREFIX

NAME = "flbench"
EVENTS = 200
KILLS = 20
MB = 1 << 20
BIG = vxlan("10.0.0.0/8", 100)  # room for 20,000 peers
Row = tuple[str, str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all benchmarks, or those named, and prints one table."""
    parser = argparse.ArgumentParser(description="measures flanneld on this machine")
    parser.add_argument("only", nargs="*", help=f"of {', '.join(BENCHMARKS)}; default: all")
    chosen = parser.parse_args(argv).only or list(BENCHMARKS)
    if unknown := set(chosen) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    print(machine(), flush=True)
    print(f"\n| {'what':<52} | {'measured':<34} | {'target':<12} |\n|{'-' * 54}|{'-' * 36}|{'-' * 14}|", flush=True)
    for name in chosen:
        for what, figure, target in BENCHMARKS[name]():
            print(f"| {what:<52} | {figure:<34} | {target:<12} |", flush=True)
    return 0


def machine() -> str:
    """One line about where the figures come from."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    etcd = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    python = platform.python_version()
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, CPython {python}, etcd {etcd} on the same machine"


def peers_at_start() -> Iterator[Row]:
    """N peers are in the store when the daemon is started: exec until the last entry is in the kernel."""
    targets = {5_000: "< 0.8 s", 20_000: "< 3 s"}
    for count in (100, 1_000, 5_000, 20_000):
        runs = [_peers_at_start(count) for _ in range(3)]
        yield f"{count:,} peers: exec -> last entry in the kernel", spread(runs), targets.get(count, "")


def _peers_at_start(count: int) -> float:
    with overlay({"blue": BIG}) as lab:
        lab.etcd.put_many(peer(number) for number in range(count))
        daemon = lab.daemons[0]
        counter = Counter(daemon.host.netns)
        began_s = time.monotonic()
        daemon.start().wait_ready("blue", timeout_s=120.0)
        tally = counter.stop()
        missing = count - min(tally.routes, tally.neighbours // 2)
        assert missing <= 0, f"{missing} of {count} peers are not in the kernel"
        return tally.last_s - began_s


def one_event() -> Iterator[Row]:
    """One peer joins: the write is sent over the gateway, its route appears."""
    for count in (3, 5_000):
        with overlay({"blue": BIG}) as lab:
            lab.etcd.put_many(peer(number) for number in range(count))
            lab.daemons[0].start().wait_ready("blue", timeout_s=60.0)
            took = _events(lab, count)
        yield f"one peer event -> route, {count:,} peers there", percentiles(took), "p50 < 10 ms"


def _events(lab: Overlay, first: int) -> list[float]:
    member = lab.etcd.members[0]
    connection = http.client.HTTPConnection(lab.store_host.address, member.ports[0], timeout=10)
    inside(lab.store_host.netns, connection.connect)
    notifications = Notifications(lab.hosts[0].netns)
    took = []
    for number in range(first, first + EVENTS):
        key, value = peer(number)
        body = json.dumps({"key": b64(key), "value": b64(value)})
        notifications.drain()
        began_s = time.monotonic()
        connection.request("POST", "/v3/kv/put", body, {"Content-Type": "application/json"})
        took.append(notifications.wait_route() - began_s)
        connection.getresponse().read()
        pause(0.01)
    connection.close()
    notifications.close()
    return took


def killed_worker() -> Iterator[Row]:
    """kill -9 until the worker is ready again, by the supervisor's line; and until its env file stands again."""
    for count, target in ((3, "< 50 ms"), (5_000, "< 250 ms")):
        with overlay({"blue": BIG}, "--restart-settled=100ms") as lab:
            lab.etcd.put_many(peer(number) for number in range(count))
            daemon = lab.daemons[0].start()
            daemon.wait_ready("blue", timeout_s=60.0)
            took = [_killed(daemon) for _ in range(KILLS)]
        yield f"worker killed -> ready, {count:,} peers", percentiles([ready for ready, _ in took]), f"p50 {target}"
        if count == 3:
            yield "worker killed -> env file written anew", percentiles([env for _, env in took]), ""


def _killed(daemon: Flanneld) -> tuple[float, float]:
    pause(0.3)
    daemon.env_file("blue").unlink()
    mark, began_s = daemon.mark(), time.time()
    kill(daemon.worker_pid("blue"), signal.SIGKILL)
    ready = daemon.wait_ready("blue", after=mark, timeout_s=20.0)
    return ready.at_s - began_s, daemon.env_file("blue").stat().st_mtime - began_s


def many_networks() -> Iterator[Row]:
    """1, 10 and 50 networks: exec until all are ready, and the memory of supervisor and workers when idle."""
    for count in (1, 10, 50):
        networks = {f"net{number}": vxlan(f"10.{number}.0.0/16", number) for number in range(1, count + 1)}
        with overlay(networks) as lab:
            for name in networks:
                lab.etcd.put_many(small_peer(name, number) for number in range(3))
            daemon = lab.daemons[0]
            began_s = time.time()
            daemon.start()
            ready_s = max(daemon.wait_ready(name, timeout_s=30.0).at_s for name in networks) - began_s
            yield f"{count} vxlan networks: exec -> all ready", f"{ready_s:.2f} s", "< 1 s" if count == 50 else ""
            pause(3.0)
            yield from _memory(daemon, count)


def _memory(daemon: Flanneld, count: int) -> Iterator[Row]:
    parent = psutil.Process(daemon.pid).memory_full_info()
    workers = [psutil.Process(pid) for pid in daemon.worker_pids().values()]
    infos = [worker.memory_full_info() for worker in workers]
    threads = max(worker.num_threads() for worker in workers)
    uss, pss = [info.uss / MB for info in infos], [info.pss / MB for info in infos]
    yield f"{count} networks: supervisor, USS / PSS", f"{parent.uss / MB:.1f} / {parent.pss / MB:.1f} MB", ""
    figure = f"{statistics.median(uss):.2f} / {statistics.median(pss):.2f} MB, {threads} thread"
    yield f"{count} networks: each worker, USS / PSS (median)", figure, "USS < 4.5 MB"


BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {
    "peers": peers_at_start,
    "event": one_event,
    "kill": killed_worker,
    "networks": many_networks,
}


@contextmanager
def overlay(networks: Mapping[str, Config], *flags: str) -> Iterator[Overlay]:
    """One host and an etcd with the configs; the daemon is not started yet."""
    with (
        tempfile.TemporaryDirectory(prefix="flannel-bench-") as folder,
        Overlay(NAME, Path(folder), hosts=1, networks=networks, flags=flags) as lab,
    ):
        lab.etcd.start()
        for name, config in networks.items():
            lab.publish(name, config)
        yield lab


def peer(number: int) -> tuple[str, str]:
    """Key and value of peer `number` of the network blue; its address is in 198.18.0.0/15, the benchmark range."""
    subnet = f"10.{128 + number // 256}.{number % 256}.0-24"
    return f"{PREFIX}/blue/subnets/{subnet}", _value(number)


def small_peer(network: str, number: int) -> tuple[str, str]:
    return f"{PREFIX}/{network}/subnets/10.{network.removeprefix('net')}.{200 + number}.0-24", _value(number)


def _value(number: int) -> str:
    mac = f"02:00:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    address = f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    return json.dumps({"PublicIP": address, "BackendType": "vxlan", "BackendData": {"VtepMAC": mac}})


def spread(runs_s: Sequence[float]) -> str:
    return f"{min(runs_s):.2f}-{max(runs_s):.2f} s ({len(runs_s)} runs)"


def percentiles(took_s: Sequence[float]) -> str:
    """p50 and p99 (the maximum when there are less than 100) in ms."""
    ordered = sorted(took_s)
    label, high_s = ("p99", ordered[int(len(ordered) * 0.99)]) if len(ordered) >= 100 else ("max", ordered[-1])
    return f"p50 {1000 * statistics.median(ordered):.1f} ms, {label} {1000 * high_s:.1f} ms ({len(ordered)})"


def pause(seconds: float) -> None:
    signal.sigtimedwait((), seconds)


if __name__ == "__main__":
    raise SystemExit(main())
