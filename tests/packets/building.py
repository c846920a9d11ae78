"""The packet code and a program of the tests, built by clang with sanitizers whose first report ends the program."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "workers" / "datapath"
SHARING = SOURCE.parent / "sharing"  # not packet code, but C
PURE = ("inet", "segment", "coalesce", "unreachable", "peers")
WHOLE = (*PURE, "flight", "path", "receive", "send", "thread", "transmit")
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-pthread", f"-I{SOURCE}")
SANITIZERS = "address,undefined"


def build(program: Path, target: Path, modules: Sequence[str], *flags: str, sanitizers: str = SANITIZERS) -> Path:
    """`target`, linked from `program` and the modules of the data path. Raises AssertionError with clang's words."""
    sources = [str(SOURCE / f"{module}.c") for module in modules]
    sanitize = (f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")
    command = ["clang", *STRICT, "-O1", *sanitize, *flags, str(program), *sources, "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target
