"""Memory that forks share again: what is dropped was not needed, and what is needed is never dropped."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCENES = (
    "put_back",
    "scribble",
    "references",
    "held",
    "another_there",
    "grown",
    "sealed",
    "signals",
    "threads",
    "refused",
)


@pytest.mark.parametrize("scene", SCENES)
def test_nothing_is_lost_by_sharing_again(scene: str) -> None:
    """Each scene's own docstring says what it shows."""
    command = [sys.executable, "-m", "tests.e2e.supervisor.scenes", scene]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
