"""All or nothing on disk, and a lock that only a living process holds."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from flannel_multi.model.errors import Conflict
from flannel_worker import files


@pytest.fixture(params=[0o022, 0o077, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_for_all_to_read_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "a" / "b" / "blue.env"
    assert files.replace(str(path), b"x\n")
    assert path.read_bytes() == b"x\n"
    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o644, 0o755, 0o755)
    assert files.replace(str(path), b"secret", mode=0o600)
    assert mode(path) == 0o600


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "blue.env"
    assert files.replace(str(path), b"x")
    before = path.stat()
    assert not files.replace(str(path), b"x")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_reader_of_the_old_file_keeps_it_whole_and_nothing_lies_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "blue.env"
    files.replace(str(path), b"old" * 1000)
    with path.open("rb") as reader:
        files.replace(str(path), b"new")
        assert reader.read() == b"old" * 1000
    assert list(tmp_path.iterdir()) == [path]


def test_a_symlink_is_replaced_and_not_followed(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "blue.env"
    other.write_bytes(b"x")
    path.symlink_to(other)
    assert files.replace(str(path), b"x")
    assert not path.is_symlink()
    files.replace(str(path), b"y")
    assert other.read_bytes() == b"x"


def test_a_trap_laid_beside_the_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".blue.env").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        files.replace(str(tmp_path / "blue.env"), b"x")
    assert victim.read_bytes() == b"precious"


def test_a_file_in_the_way_of_a_folder_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(OSError, match="a"):
        files.replace(str(tmp_path / "a" / "blue.env"), b"x")


def test_what_cannot_be_read_is_as_good_as_absent(tmp_path: Path) -> None:
    assert files.read(str(tmp_path / "nope")) is None
    assert files.read(str(tmp_path)) is None


def test_the_lock_holds_the_pid_and_names_it_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "networks" / "blue.lock"
    held = files.lock(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    assert mode(path) == 0o644
    with pytest.raises(Conflict, match=f"pid {os.getpid()}.*--run-dir"):
        files.lock(str(path))
    os.close(held)
    os.close(files.lock(str(path)))


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "blue.lock")
    child = os.fork()
    if child == 0:
        files.lock(path)
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED)
    os.close(files.lock(path))
    assert Path(path).read_text() == f"{os.getpid()}\n"
