"""The C code is clean for both compilers, warnings being errors."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.packets.building import HERE, SHARING, SOURCE, STRICT, WHOLE

FILES = [*(SOURCE / f"{module}.c" for module in WHOLE), *sorted(HERE.glob("*.c")), *sorted(SHARING.glob("*.c"))]
PYTHON = ("-isystem", sysconfig.get_path("include"), "-DPy_LIMITED_API=0x030B0000")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_compiles_without_a_warning(compiler: str, file: Path) -> None:
    command = [compiler, *STRICT, *PYTHON, "-O3", "-c", str(file), "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
