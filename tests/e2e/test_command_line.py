"""What the command says and how it exits before there is any network."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from flannel_multi import __version__
from tests.e2e.conftest import MakeOverlay
from tests.lab.flanneld import PROGRAM
from tests.lab.overlay import THREE


def flanneld(*argv: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command that must end by itself."""
    return subprocess.run(
        [*PROGRAM, *argv], env=dict(environ or {}), capture_output=True, text=True, timeout=10, check=False
    )


@pytest.mark.parametrize(
    ("argv", "names", "why"),
    [
        (["--netwroks=blue"], "--netwroks", "did you mean --networks?"),
        (["--etcd-prefiks", "/x"], "--etcd-prefiks", "did you mean --etcd-prefix?"),
        (["blue"], "blue", "unexpected argument"),
        (["--networks"], "--networks", "value"),
        (["--networks=blue,blue"], "--networks", "twice"),
        (["--networks=config"], "config", "reserved"),
        (["--networks=a/b"], "a/b", "no network name"),
        (["--ip-masq"], "--ip-masq", "not built yet"),
        (["--listen=8888"], "--listen", "8888"),
        (["--remote=h:x"], "--remote", "h:x"),
        (["--store=mysql://h"], "--store", "mysql"),
        (["--watch-networks"], "--watch-networks", "not built yet"),
        (["--kube-subnet-mgr"], "--kube-subnet-mgr", "Kubernetes"),
        (["--public-ipv6=::1"], "--public-ipv6", "only IPv4"),
        (["--public-ip=nobody"], "--public-ip", "nobody"),
        (["--subnet-lease-renew-margin=1440"], "--subnet-lease-renew-margin", "1440"),
        (["--etcd-endpoints=ftp://h"], "--etcd-endpoints", "ftp://h"),
        (["--liveness-timeout=soon"], "--liveness-timeout", "soon"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_status_2(argv: list[str], names: str, why: str) -> None:
    done = flanneld(*argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flanneld: ")
    assert names in done.stderr
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_variable_is_one_line_and_exit_status_2() -> None:
    done = flanneld(environ={"FLANNELD_IP_MASQ": "true"})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "not built yet" in done.stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("netwroks = 1\n", "unknown key netwroks; did you mean"),
        ("[networks.blue]\nifaec = 'eth0'\n", "[networks.blue]: unknown key ifaec; did you mean iface?"),
        ("v = \n", "no TOML"),
        ("run-dir = ['a']\n", "run-dir"),
        ("ip-masq = true\n", "not built yet"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it_and_exit_status_78(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "flanneld.toml"
    file.write_text(text)
    done = flanneld(f"--config={file}")
    assert (done.returncode, done.stdout) == (78, "")
    assert str(file) in done.stderr
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_named_file_that_is_not_there_is_exit_status_78(tmp_path: Path) -> None:
    done = flanneld(f"--config={tmp_path}/none.toml")
    assert (done.returncode, done.stdout) == (78, "")
    assert "no such file" in done.stderr


@pytest.mark.parametrize("flag", ["--version", "-version", "--version=true"])
def test_the_version_is_on_standard_output(flag: str) -> None:
    done = flanneld(flag)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("flag", ["--help", "-h", "-help"])
def test_the_help_names_every_flag_on_standard_output(flag: str) -> None:
    done = flanneld(flag)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("--networks", "--etcd-endpoints", "--run-dir", "--state-dir", "--liveness-timeout"):
        assert name in done.stdout


def test_an_unknown_variable_is_one_warning_and_a_password_is_in_no_log_and_no_process_list(
    make_overlay: MakeOverlay,
) -> None:
    secret = "hunter2hunter2"
    overlay = make_overlay(
        hosts=1,
        networks={"blue": THREE["blue"]},
        environ={"FLANNELD_NETWROKS": "x"},
        flags=("-v=5", "--etcd-username=nobody", f"--etcd-password={secret}", "--ip-masq=false"),
    )
    overlay.etcd.start()
    daemon = overlay.daemons[0].start()
    line = daemon.wait_line("FLANNELD_NETWROKS")
    assert line.level == "W"
    daemon.wait_line("^blue: ", network="supervisor")
    for pid in (daemon.pid, *daemon.worker_pids().values()):
        assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    daemon.stop()
    assert sum("FLANNELD_NETWROKS" in line.text for line in daemon.lines) == 1
    assert not any(secret in line.text for line in daemon.lines)


def test_json_lines_carry_network_pid_and_incarnation(make_overlay: MakeOverlay) -> None:
    overlay = make_overlay(hosts=1, networks={"blue": THREE["blue"]}, flags=("--log-format=json",))
    overlay.etcd.start()
    overlay.publish("blue", THREE["blue"])
    daemon = overlay.daemons[0].start()
    daemon.wait_line('"network": "blue".*"text": "ready"')
    daemon.stop()
    lines = [json.loads(line.text) for line in daemon.lines]
    assert any(line["network"] == "blue" and line["pid"] == daemon.pid for line in lines)  # said by the supervisor
    worker = next(line for line in lines if line["network"] == "blue" and line["pid"] != daemon.pid)
    assert {"ts", "level", "network", "pid", "incarnation", "text"} == set(worker)
    assert worker["incarnation"] == 1
