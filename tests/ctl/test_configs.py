"""flannelctl config, on every kind of store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ctl.rig import CONFIG, OTHER, config, ctl, ctl_process, put, write_config
from tests.lab.server import Server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_bytes(CONFIG)
    return path


def test_a_config_that_was_set_is_given_back_byte_for_byte(url: str, tmp_path: Path) -> None:
    raw = b' {"network":"10.1.0.0/16",\n "Unknown": "\xc3\xa9"}\n\n'
    (tmp_path / "odd.json").write_bytes(raw)
    done = ctl(f"--store={url}", "config", "set", "blue", f"{tmp_path}/odd.json")
    assert (done.status, done.err) == (0, "")
    assert b"blue: config written" in done.out
    got = ctl(f"--store={url}", "config", "get", "blue")
    assert (got.status, got.out, got.err) == (0, raw, "")


def test_the_unnamed_network_is_an_underscore(url: str, file: Path) -> None:
    assert ctl("config", "set", "_", str(file), f"--store={url}").status == 0
    assert config(url, "") == CONFIG
    assert ctl("config", "get", "_", f"--store={url}").out == CONFIG
    assert b"\n_     10.1.0.0/16  vxlan    0\n" in ctl("config", "list", f"--store={url}").out


def test_a_network_that_is_not_there_is_status_3_and_says_where_it_would_be(url: str) -> None:
    if url.startswith("sqlite:"):
        write_config(url, "green", OTHER)  # a file that is not there is another matter
    for words in (("config", "get"), ("config", "rm"), ("leases",)):
        done = ctl(f"--store={url}", *words, "blue")
        assert done.status == 3
        assert done.out == b""
        assert done.err.count("\n") == 1
        assert f"flannelctl: {' '.join(words)} blue: no such network: " in done.err
        assert "blue/config" in done.err


def test_a_config_that_no_host_would_take_is_refused_with_its_reason(url: str, tmp_path: Path) -> None:
    write_config(url, "blue", CONFIG)
    (tmp_path / "bad.json").write_text('{"Network":"10.1.0.0/16","SubnetLen":31}')
    done = ctl(f"--store={url}", "config", "set", "blue", f"{tmp_path}/bad.json")
    assert done.status == 1
    assert "SubnetLen 31 is too long" in done.err
    assert "nothing was written" in done.err
    assert config(url, "blue") == CONFIG


def test_a_wrong_config_can_be_forced_and_is_shown_as_wrong(url: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"{}")
    done = ctl(f"--store={url}", "config", "set", "blue", f"{tmp_path}/bad.json", "--force")
    assert done.status == 0
    assert "no host will take it: Network is missing" in done.err
    assert config(url, "blue") == b"{}"
    assert b"wrong: Network is missing" in ctl(f"--store={url}", "config", "list").out


def test_a_server_without_a_policy_lets_nobody_write_configs(file: Path, tmp_path: Path) -> None:
    with Server(f"sqlite://{tmp_path}/store.db", tmp_path) as server:
        done = ctl(f"--store={server.url}", "config", "set", "blue", str(file))
    assert done.status == 1
    assert "takes admin = true in [policy.anonymous]" in done.err


def test_a_change_tells_what_it_means_for_hosts_that_run(url: str, tmp_path: Path) -> None:
    write_config(url, "blue", CONFIG)
    put(url, "blue", "10.1.7.0/24", "192.0.2.1")
    (tmp_path / "new.json").write_bytes(OTHER)
    done = ctl(f"--store={url}", "config", "set", "blue", f"{tmp_path}/new.json")
    assert done.status == 0
    assert "Network 10.1.0.0/16 becomes 10.2.0.0/16" in done.err
    assert "running hosts keep the old values until flanneld restarts on them" in done.err
    assert "1 lease does not fit it (10.1.7.0/24 of 192.0.2.1)" in done.err
    assert config(url, "blue") == OTHER


def test_the_same_config_is_not_written_again(url: str, file: Path) -> None:
    write_config(url, "blue", CONFIG)
    done = ctl(f"--store={url}", "config", "set", "blue", str(file), "--json")
    assert (done.status, json.loads(done.out)) == (0, {"network": "blue", "revision": None})


def test_the_list_names_every_network_with_its_leases(url: str) -> None:
    write_config(url, "green", OTHER)
    write_config(url, "blue", CONFIG)
    put(url, "blue", "10.1.7.0/24", "192.0.2.1")
    put(url, "blue", "10.1.8.0/24", "192.0.2.2", ttl_s=None)
    assert ctl(f"--store={url}", "config", "list").out.decode().splitlines() == [
        "NAME   NETWORK      BACKEND  LEASES",
        "blue   10.1.0.0/16  vxlan    2",
        "green  10.2.0.0/16  host-gw  0",
    ]
    told = json.loads(ctl(f"--store={url}", "config", "list", "--json").out)
    assert told[0] == {"name": "blue", "network": "10.1.0.0/16", "backend": "vxlan", "leases": 2, "error": None}


def test_a_config_is_deleted_only_for_sure_when_hosts_have_leases(url: str) -> None:
    write_config(url, "blue", CONFIG)
    write_config(url, "green", OTHER)
    put(url, "blue", "10.1.7.0/24", "192.0.2.1")
    done = ctl(f"--store={url}", "config", "rm", "blue")
    assert done.status == 1
    assert "1 lease exists (10.1.7.0/24 of 192.0.2.1)" in done.err
    assert "--yes" in done.err
    assert config(url, "blue") == CONFIG
    assert ctl(f"--store={url}", "config", "rm", "blue", "--yes").status == 0
    assert config(url, "blue") is None
    assert ctl(f"--store={url}", "config", "rm", "green").status == 0


def test_standard_input_serves_as_a_file(url: str) -> None:
    done = ctl_process("config", "set", "blue", "-", f"--store={url}", stdin=CONFIG)
    assert (done.status, done.err) == (0, "")
    assert ctl_process("config", "get", "blue", f"--store={url}").out == CONFIG


def test_a_store_that_is_away_is_one_line_and_status_1() -> None:
    done = ctl("config", "get", "blue", "--store=etcd://127.0.0.1:1")
    assert done.status == 1
    assert done.err == (
        "flannelctl: config get blue: store unreachable: http://127.0.0.1:1: connection refused\n"
    )  # fmt: skip


def test_the_store_is_that_of_this_hosts_daemon(url: str, tmp_path: Path) -> None:
    write_config(url, "blue", CONFIG)
    settings = tmp_path / "flanneld.toml"
    settings.write_text(f'store = "{url}"\n[networks.blue]\n')
    assert ctl("config", "get", "blue", f"--config={settings}").out == CONFIG
    assert ctl("config", "get", "blue", environ={"FLANNELD_STORE": url}).out == CONFIG


def test_a_named_store_wins_on_the_host_of_a_server_or_a_client(url: str, tmp_path: Path) -> None:
    write_config(url, "blue", CONFIG)
    for daemon in ('remote = "127.0.0.1:1"\n', 'listen = "127.0.0.1:1"\nstore = "sqlite:///none"\n'):
        settings = tmp_path / "flanneld.toml"
        settings.write_text(daemon)
        done = ctl("config", "get", "blue", f"--config={settings}", f"--store={url}")
        assert (done.out, done.err) == (CONFIG, "")


def test_a_password_is_not_shown_among_the_processes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from flannel_multi.ctl.main import run;"
        "run(sys.argv[1:], {}); print(Path('/proc/self/cmdline').read_bytes())"
    )
    arguments = ["config", "list", "--store=etcd://127.0.0.1:1", "--etcd-username=me", "--etcd-password=hunter2"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
    assert b"etcd-password=***" in done.stdout
    assert b"hunter2" not in done.stdout + done.stderr
