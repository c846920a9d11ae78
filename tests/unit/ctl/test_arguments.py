"""The command line of flannelctl, its help texts and its manual say the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flannel_multi.ctl.arguments import flags_passed_on, parse
from flannel_multi.ctl.main import run
from flannel_multi.ctl.manual import COMMANDS, GROUPS, OF_ALL, OF_COMMAND, PASSED_ON, Command
from flannel_multi.ctl.outcome import DONE, FAILED, NOT_FOUND, USAGE, Refused
from flannel_multi.model.subnet import Subnet, parse_ip

MANUAL = (Path(__file__).parents[3] / "man" / "flannelctl.8").read_text()
EXAMPLES = {"NET": "blue", "SUBNET": "10.1.7.0/24", "IP": "192.0.2.1", "FILE": "-", "FROM": "etcd", "TO": "etcd"}
FLAGS_OF_COMMANDS = {flag.partition(" ")[0] for flags in OF_COMMAND.values() for flag in flags}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(arguments, {}) == DONE
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(*arguments: str) -> str:
    with pytest.raises(Refused) as caught:
        parse(arguments)
    assert caught.value.status == USAGE
    return caught.value.line


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_a_command_is_parsed_with_its_arguments_and_flags_before_and_after(command: Command) -> None:
    arguments = [EXAMPLES[name] for name in command.arguments.split()]
    own = [
        f"--{flag.partition(' ')[0]}{'=blue,_' if ' ' in flag else ''}" for flag in OF_COMMAND.get(command.words, {})
    ]
    for words in (
        parse(["--json", "--timeout=2m", *command.words.split(), *arguments, *own]),
        parse([*command.words.split(), *own, *arguments, "--timeout", "2m", "--json"]),
    ):
        assert (words.command, words.json, words.timeout) == (command.words, True, 120.0)


def test_arguments_become_what_the_ledger_takes() -> None:
    words = parse(["reserve", "_", "10.1.7.0-24", "192.0.2.1"])
    assert (words.net, words.subnet, words.ip) == ("", Subnet.parse("10.1.7.0/24"), parse_ip("192.0.2.1"))
    assert parse(["store", "copy", "etcd", "etcd", "--networks", "blue, _"]).networks == ("blue", "")


def test_flags_of_flanneld_are_passed_on_as_they_came() -> None:
    words = parse(["--etcd-prefix=/x", "config", "list", "--config", "/f", "--remote-cafile=/ca"])
    assert flags_passed_on(words) == ["--config=/f", "--etcd-prefix=/x", "--remote-cafile=/ca"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "COMMAND"),
        ("leasess", "leasess"),
        ("leases", "NET"),
        ("leases config", "reserved"),
        ("leases blue -x", "-x"),
        ("leases blue --jso", "--jso"),
        ("leases blue --timeout 0", "--timeout"),
        ("leases blue green", "green"),
        ("config", "COMMAND"),
        ("config get", "NET"),
        ("revoke blue 10.1.7.0", "SUBNET"),
        ("reserve blue 10.1.7.0/24 host", "IP"),
        ("store copy etcd", "TO"),
        ("store copy etcd etcd --store=etcd", "FROM and TO"),
        ("store copy etcd etcd --networks=b/c", "b/c"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_names_what_is_wrong(line: str, reason: str) -> None:
    said = refused(*line.split())
    assert reason in said
    assert "\n" not in said


def test_a_wrong_command_line_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["leases", "b/c"], {}) == USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("flannelctl: ")


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ("leases blue --store=redis://h", USAGE, "flannelctl: 'redis://' is no kind of store"),
        ("store copy etcd redis://h", USAGE, "flannelctl: 'redis://' is no kind of store"),
        ("leases blue --config=/no/such/file", FAILED, "/no/such/file: no such file"),
        ("leases blue --store=sqlite:///no/such/file", NOT_FOUND, "there is no store file /no/such/file"),
        ("reserve blue 10.1.7.0/24 10.0.0.1 --store=sqlite:///no/such/file", NOT_FOUND, "there is no store file"),
        ("store copy sqlite:///no/such/file etcd", NOT_FOUND, "there is no store file /no/such/file"),
        ("leases blue --store=etcd://h:1 --etcd-certfile=/x", USAGE, "key and certificate go together"),
    ],
)
def test_a_store_that_cannot_be_meant_is_refused_before_anything_is_asked(
    line: str, status: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split(), {}) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert reason in err
    assert err.count("\n") == 1


def test_a_misspelt_variable_is_named_when_a_command_fails(capsys: pytest.CaptureFixture[str]) -> None:
    run(["leases", "blue", "--store=etcd://127.0.0.1:1", "--timeout=2s"], {"FLANNELD_ETCD_PREFX": "/x"})
    assert "FLANNELD_ETCD_PREFX ignored; did you mean FLANNELD_ETCD_PREFIX?" in capsys.readouterr().err


def test_a_config_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "set", "blue", f"{tmp_path}/none", "--store=etcd://127.0.0.1:1"], {}) == FAILED
    assert f"config set blue: {tmp_path}/none: No such file" in capsys.readouterr().err


def test_help_names_every_command_and_flag_and_fits_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(capsys, "--help")
    listed = [line[2:].split("  ")[0] for line in text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()]
    assert listed == [f"{command.words} {command.arguments}".rstrip() for command in COMMANDS]
    assert re.findall(r"^  --([a-z-]+)", text, re.M) == [*(flag.partition(" ")[0] for flag in OF_ALL), *PASSED_ON]
    assert max(map(len, text.splitlines())) < 80


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_help_of_a_command_tells_its_arguments_and_flags(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, *command.words.split(), "--help")
    assert f"Usage: flannelctl {command.words}" in text
    assert all(name in text for name in command.arguments.split())
    assert set(re.findall(r"^  --([a-z-]+)", text, re.M)) == {
        flag.partition(" ")[0] for flag in OF_COMMAND.get(command.words, {})
    }
    assert max(map(len, text.splitlines())) < 80


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_lists_its_commands(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, group, "--help")
    assert set(re.findall(rf"^  ({group} \w+)", text, re.M)) == {
        command.words for command in COMMANDS if command.words.startswith(f"{group} ")
    }


def test_the_manual_has_every_command_with_its_arguments() -> None:
    section = MANUAL.partition(".Sh COMMANDS\n")[2].partition("\n.Sh ")[0]
    entries = {}
    for words, rest in re.findall(r"^\.It Cm ([a-z ]+?)((?: (?:Ar|Op|Fl|No|Ns)\b.*)?)$", section, re.M):
        entries[words] = re.findall(r"\b(?:Ar )?([A-Z]{2,})\b", rest)
    assert entries == {command.words: command.arguments.split() for command in COMMANDS}


def test_the_manual_has_every_flag() -> None:
    assert set(re.findall(r"^\.It Fl -([a-z-]+)", MANUAL, re.M)) == {
        *(flag.partition(" ")[0] for flag in OF_ALL), *PASSED_ON, *FLAGS_OF_COMMANDS,
    }  # fmt: skip


def test_manual_and_help_name_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    statuses = {str(status) for status in (DONE, FAILED, USAGE, NOT_FOUND)}
    section = MANUAL.partition(".Sh EXIT STATUS\n")[2].partition("\n.Sh ")[0]
    assert set(re.findall(r"^\.It (\d+)$", section, re.M)) == statuses
    assert set(re.findall(r"^  (\d)  ", printed(capsys, "--help"), re.M)) == statuses


def loaded(*arguments: str) -> set[str]:
    """Modules that a command has imported by its end."""
    code = "import sys; from flannel_multi.ctl.main import run; run(sys.argv[1:], {}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_neither_a_store_nor_an_event_loop() -> None:
    modules = loaded("--help")
    assert not {"asyncio", "ssl", "h11", "sqlite3"} & modules
    assert not [name for name in modules if name.startswith("flannel_multi.store.")]


def test_no_command_imports_the_daemon_or_a_kind_of_store_that_it_does_not_use() -> None:
    modules = loaded("leases", "blue", "--store=etcd://127.0.0.1:1")
    assert "flannel_multi.store.etcd.ledger" in modules
    strangers = ("flannel_multi.supervisor", "flannel_multi.server", "flannel_worker.", "flannel_multi.store.sqlite")
    assert not [name for name in modules if name.startswith(strangers)]
    assert "sqlite3" not in modules
