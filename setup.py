"""What pyproject.toml cannot say with the setuptools of Debian 12: the extensions, and the programs for the kernel."""

import subprocess
import sys
from pathlib import Path
from shutil import which

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES, SHARING = Path("workers/datapath"), Path("workers/sharing")  # relative, as setuptools wants it
LIMITED_API = 0x030B0000  # one build serves CPython 3.11 and every later one


def extension(name: str, sources: Path, *flags: str) -> Extension:
    """All of a folder's C files."""
    return Extension(
        name,
        sources=sorted(map(str, sources.glob("*.c"))),
        depends=sorted(map(str, sources.glob("*.h"))),
        define_macros=[("Py_LIMITED_API", hex(LIMITED_API))],
        extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra", *flags],
        extra_link_args=[*flags],
        py_limited_api=True,
    )


class BuildPacketCode(build_ext):
    """The kernel's programs go where the extension goes. Without clang they are left out: the user path needs none."""

    def run(self) -> None:
        super().run()
        package = Path("workers") if self.inplace else Path(self.build_lib)
        folder = package / "flannel_worker" / "datapath"
        if which("clang") is None:
            print("clang is missing: built without the bpf data path (Debian: clang, libbpf-dev)", file=sys.stderr)
            return
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([SOURCES / "bpf" / "build", folder.resolve()], check=True)


setup(
    cmdclass={"build_ext": BuildPacketCode},
    ext_modules=[
        extension("flannel_worker._datapath", SOURCES, "-pthread"),
        extension("flannel_multi._pages", SHARING),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
