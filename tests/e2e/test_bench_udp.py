"""`make bench-udp`, on the paths that need no daemon: that it measures, cleans up and says what it misses."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.bench.udp.sites import STEM
from tests.lab.world import Inventory, names_with

ROOT = Path(__file__).parents[2]
BENCH = (sys.executable, "-m", "tests.bench.udp.run", "--quick", "--links=nic", "raw", "plain")


def test_it_measures_every_path_and_leaves_nothing(tmp_path: Path) -> None:
    inventory = Inventory(STEM)
    report = tmp_path / "report.md"
    done = subprocess.run(
        [*BENCH, f"--markdown={report}"], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for path in ("raw", "plain"):
        assert re.search(rf"^\| {path} \| 1 \| \d+\.\d\d \(", done.stdout, re.M), done.stdout
    assert re.search(r"Mean TCP frame on the link: 1[45]\d\d bytes", done.stdout), done.stdout
    assert report.read_text() == done.stdout
    assert inventory.leftovers() == []


def test_control_c_leaves_nothing() -> None:
    inventory = Inventory(STEM)
    with subprocess.Popen(BENCH, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # the first turn is over, the second runs
        running = names_with(f"{STEM}-{process.pid}-")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert len(running) == 6, said
    assert process.returncode == 1
    assert "bench-udp: interrupted" in said
    assert inventory.leftovers() == []


def test_an_unknown_path_is_named() -> None:
    done = subprocess.run([*BENCH, "fast"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown: fast; there are raw, vxlan, plain, user, bpf, xdp" in done.stderr
