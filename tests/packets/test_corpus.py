"""What the fuzzer found interesting once: every run of the tests goes through it again."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.packets.fuzzing import CORPUS, build_fuzzer


def test_the_path_gets_through_the_whole_corpus(tmp_path: Path) -> None:
    stories = sorted(CORPUS.iterdir())
    assert len(stories) >= 20
    fuzzer = build_fuzzer(tmp_path / "fuzzer")
    done = subprocess.run([fuzzer, *stories], capture_output=True, text=True, errors="replace", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Executed ") == len(stories)
