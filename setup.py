"""The one thing that pyproject.toml cannot say with the setuptools of Debian 12: the C extension."""

from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("workers/datapath")  # relative, as setuptools wants it
LIMITED_API = 0x030B0000  # one build serves CPython 3.11 and every later one

setup(
    ext_modules=[
        Extension(
            "flannel_worker._datapath",
            sources=sorted(map(str, SOURCES.glob("*.c"))),
            depends=sorted(map(str, SOURCES.glob("*.h"))),
            define_macros=[("Py_LIMITED_API", hex(LIMITED_API))],
            extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra", "-pthread"],
            extra_link_args=["-pthread"],
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
