"""Env file and last known state."""

from __future__ import annotations

from pathlib import Path

import pytest

from flannel_multi.store.protocol import Revision
from flannel_worker.paper import Paper
from tests.unit.worker.place import VXLAN, options, peer, subnet

MINE, OTHER = peer("10.5.1.0/24", "192.0.2.1"), peer("10.5.2.0/24")


def save(paper: Paper) -> None:
    paper.save(
        config=VXLAN, confirmed=True, lost=False, public_ip=MINE.attrs.public_ip, mac=bytes.fromhex("020000000001"),
        lease=MINE, expires_at=1_800_000_000, revision=Revision("c", 9), peers=[OTHER, MINE],
    )  # fmt: skip


def test_what_is_saved_is_known_to_the_next_worker_and_only_its_daemon_wrote_it(tmp_path: Path) -> None:
    save(Paper(options(tmp_path), daemon="d1"))
    paper = Paper(options(tmp_path), daemon="d1")
    known = paper.known()
    assert known is not None
    assert (known.config, known.lease, known.peers) == (VXLAN, MINE, (OTHER,))
    assert (known.revision, known.mac.hex()) == (("c", 9), "020000000001")
    assert paper.confirmed(known)
    assert not Paper(options(tmp_path), daemon="d2").confirmed(known)


def test_the_state_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    save(Paper(options(tmp_path), daemon="d1"))
    assert (tmp_path / "state" / "blue.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("raw", [b"", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"version":2}'])
def test_a_broken_state_file_is_passed_over(tmp_path: Path, raw: bytes) -> None:
    paper = Paper(options(tmp_path), daemon="d1")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "blue.json").write_bytes(raw)
    assert paper.known() is None
    save(paper)
    assert paper.known() is not None


def test_the_state_of_another_network_is_not_ours(tmp_path: Path) -> None:
    save(Paper(options(tmp_path), daemon="d1"))
    (tmp_path / "state" / "blue.json").rename(tmp_path / "state" / "red.json")
    red = options(tmp_path, "--networks=red")
    assert Paper(red, daemon="d1").known() is None


def test_the_env_file_is_written_once_for_each_content(tmp_path: Path) -> None:
    paper, env = Paper(options(tmp_path), daemon="d1"), tmp_path / "run" / "networks" / "blue.env"
    paper.write_env(subnet("10.5.0.0/16"), MINE.subnet, mtu=1450)
    inode = env.stat().st_ino
    assert paper.previous_subnet() == MINE.subnet
    Paper(options(tmp_path), daemon="d2").write_env(subnet("10.5.0.0/16"), MINE.subnet, mtu=1450)
    assert env.stat().st_ino == inode
    paper.write_env(subnet("10.5.0.0/16"), MINE.subnet, mtu=1400)
    assert "FLANNEL_MTU=1400\n" in env.read_text()


def test_a_disk_that_refuses_the_state_file_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"in the way")
    paper = Paper(options(tmp_path), daemon="d1")
    paper.save_soon(5.0)
    assert paper.save_at_s is not None
    save(paper)
    assert paper.save_at_s is None


def test_changes_of_one_second_are_one_write(tmp_path: Path) -> None:
    paper = Paper(options(tmp_path), daemon="d1")
    paper.save_soon(6.0)
    paper.save_soon(6.9)
    assert paper.save_at_s == 7.0
