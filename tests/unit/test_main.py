"""The flanneld command before it forks anything."""

from __future__ import annotations

import pytest

from flannel_multi import __version__
from flannel_multi.main import differences, run
from flannel_multi.options import Exit, Options, read_options


def options(toml: str, *arguments: str) -> Options:
    read = read_options(["--config=/f", *arguments], {}, lambda path: toml.encode())
    assert not isinstance(read, Exit), read
    return read


def test_version_and_help_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"], {}) == 0
    assert capsys.readouterr() == (f"{__version__}\n", "")
    assert run(["--help"], {}) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: flanneld")
    assert err == ""


def test_an_unknown_flag_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--netwroks=blue"], {}) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "--netwroks" in err
    assert "--networks" in err


def test_what_a_restart_would_change_is_said_network_by_network() -> None:
    running = options('[networks.blue]\n[networks.green]\niface = "eth0"\n[networks.red]\n')
    fresh = options('etcd-prefix = "/other"\n[networks.green]\niface = "eth1"\n[networks.red]\n[networks.pink]\n')
    assert differences(running, fresh) == [
        "network pink would be added",
        "network blue would be left",
        "network green would change",
        "store would change",
    ]


@pytest.mark.parametrize("line", ["stop-timeout = 3", 'log-format = "json"', "v = 2", 'run-dir = "/r"'])
def test_a_change_of_any_setting_is_said(line: str) -> None:
    assert differences(options("[networks.blue]\n"), options(f"{line}\n[networks.blue]\n"))


def test_a_list_that_was_emptied_is_said_in_words() -> None:
    assert differences(options("[networks.blue]\n"), options("")) == [
        "the unnamed network would be added",
        "network blue would be left",
    ]


def test_the_same_file_changes_nothing() -> None:
    assert differences(options("[networks.blue]\n"), options("[networks.blue]\n")) == []
