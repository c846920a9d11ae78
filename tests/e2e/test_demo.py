"""The README's first command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.demo import PREFIX
from tests.lab.world import Inventory, names_with

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "tests.lab.demo")


@pytest.mark.parametrize("run", ["first", "etcd", "second"])
def test_the_demo_shows_three_networks_that_lose_nothing_and_leaves_nothing(run: str) -> None:
    inventory, environ = Inventory(PREFIX), {**os.environ, "STORE": "etcd" if run == "etcd" else ""}
    done = subprocess.run(DEMO, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for network in ("blue", "green", "red"):
        assert re.search(rf"^  {network} +[1-9]\d+ +0 ", done.stdout, re.M), done.stdout
    assert re.search(r"^  blue ready again \d+ ms after the kill$", done.stdout, re.M)
    assert max(len(line) for line in done.stdout.splitlines()) < 80
    assert inventory.leftovers() == []


def test_the_demo_cleans_up_after_control_c() -> None:
    inventory = Inventory(PREFIX)
    with subprocess.Popen(DEMO, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("All nine env files"):
                break
        running = names_with(f"{PREFIX}-{process.pid}-")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert len(running) == 5, rest
    assert process.returncode == 1
    assert "FAILED: interrupted" in rest
    assert inventory.leftovers() == []


def test_the_demo_refuses_a_store_that_it_does_not_know() -> None:
    done = subprocess.run(
        DEMO, cwd=ROOT, env={"STORE": "consul", "PATH": "/bin"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    line = "demo: STORE=consul is no store of the demonstration; use STORE=embedded or STORE=etcd\n"
    assert done.stderr == line
