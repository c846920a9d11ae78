"""The bench's own C programs, and programs run on hosts of the lab."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.lab.world import Host, LabError, run

SOURCES = Path(__file__).parent
PATIENCE_S = 20.0  # a program that outlasts its time by so much is stuck


def build(name: str, folder: Path) -> Path:
    """Compiles `name`.c into `folder`; returns the program. Raises LabError with the compiler's words."""
    program = folder / name
    run("gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", str(SOURCES / f"{name}.c"), "-o", str(program))
    return program


@contextmanager
def running(host: Host, *argv: str, until: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program on a host, from the line that holds `until` on; killed at the end if it still runs. Raises LabError
    when it ends without such a line."""
    process = host.spawn(*argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        for line in _stdout(process):
            if until.encode() in line:
                break
        else:
            raise LabError(f"{host.name}: {argv[0]} ended with status {process.wait()} before it was ready")
        yield process
    finally:
        process.kill()
        process.wait()
        _stdout(process).close()


def rest(process: subprocess.Popen[bytes]) -> str:
    """What a program that `running` gave writes until it ends."""
    return _stdout(process).read().decode()


def output(host: Host, seconds: float, *argv: str) -> str:
    """Standard output of a program on a host that takes `seconds`. Raises LabError when it fails or is stuck."""
    process = host.spawn(*argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said, _ = process.communicate(timeout=seconds + PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise LabError(f"{host.name}: {' '.join(argv)} does not end: does nothing pass any more?") from None
    finally:
        process.kill()
        process.wait()
        _stdout(process).close()
    text = said.decode(errors="replace")
    if process.returncode:
        raise LabError(f"{host.name}: {' '.join(argv)}: exit status {process.returncode}: {text[-500:].strip()}")
    return text


def _stdout(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout
