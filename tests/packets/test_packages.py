"""What `pip install` gets: a source package that can be built from, and a wheel with everything that was compiled."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packets.building import SHARING, SOURCE

ROOT = SOURCE.parent.parent
COMPILED = shutil.ignore_patterns("*.so", "*.o", "*.egg-info", "__pycache__")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_{0}(sys.argv[1])"


def not_needed(folder: str, names: list[str]) -> set[str]:
    """What a fresh checkout does not have, and what no package is made of."""
    beside = {name for name in names if name.startswith(".") or name in ("build", "dist", "tests")}
    return COMPILED(folder, names) | (beside if Path(folder) == ROOT else set())


def made(kind: str, source: Path, folder: Path) -> Path:
    """The package of that `kind` ("sdist", "wheel") in `folder`, as pip has it built."""
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", BUILD.format(kind), str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (package,) = folder.iterdir()
    return package


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From a tree in which somebody has compiled before."""
    folder = tmp_path_factory.mktemp("sdist")
    copy = shutil.copytree(ROOT, folder / "tree", ignore=not_needed)
    for stale in ("_datapath.abi3.so", "datapath/overlay.bpf.o", "datapath/xdp.bpf.o"):
        (copy / "workers/flannel_worker" / stale).write_text("stale")
    return made("sdist", copy, folder / "made")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source package alone."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["tar", "-xf", sdist, "-C", folder], check=True)
    return made("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder / "made")


def test_the_source_package_has_every_c_source_and_nothing_compiled(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        str(path.relative_to(ROOT)) for folder in (SOURCE, SHARING) for path in folder.rglob("*") if path.is_file()
    }
    assert len([name for name in sources if name.endswith(".c")]) > 10
    assert sources <= files
    assert [name for name in files if name.endswith((".o", ".so"))] == []


def test_the_wheel_has_the_compiled_packet_code_and_no_sources_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    assert {
        "flannel_worker/_datapath.abi3.so",
        "flannel_worker/_datapath.pyi",
        "flannel_worker/datapath/overlay.bpf.o",
        "flannel_worker/datapath/xdp.bpf.o",
        "flannel_multi/_pages.abi3.so",
        "flannel_multi/_pages.pyi",
        "flannel_multi/py.typed",
    } <= files
    assert [name for name in files if name.endswith((".c", ".h", "/build"))] == []
    assert {name.partition("/")[0] for name in files if ".dist-info/" not in name} == {
        "flannel_multi",
        "flannel_worker",
    }


def test_one_wheel_serves_every_python_from_3_11_on(wheel: Path) -> None:
    _, _, python, abi, platform = wheel.stem.split("-")
    assert (python, abi) == ("cp311", "abi3")
    assert platform.startswith("linux_")


def test_what_is_in_the_wheel_works_without_the_tree(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        "from flannel_multi import sharing; from flannel_worker.datapath import bpfobject, user;"
        "print(user.__file__, user.FLIGHT_BYTES > 0)"
    )
    command = [sys.executable, "-I", "-c", code]
    said = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True).stdout
    assert said == f"{tmp_path}/flannel_worker/datapath/user.py True\n"
