"""The manual, --help and the table of flags say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flannel_multi.model.messages import Phase
from flannel_multi.options import help_text
from flannel_multi.options.flags import FLAGS, GROUPS, Fate, Flag
from flannel_multi.options.values import EXIT_CONFIG, EXIT_USAGE

MANUAL = (Path(__file__).parents[2] / "man" / "flanneld.8").read_text()
OPTIONS = MANUAL.partition(".Sh OPTIONS\n")[2].partition("\n.Sh ")[0]
ENTRIES = dict(re.findall(r"^\.It Fl -([a-z_-]+)(.*?)(?=^\.It Fl |\Z)", OPTIONS, re.M | re.S))
HELP = dict(
    re.findall(r"^  --([a-z_-]+)[^\n]*\n(.*?)(?=^  --|^\S|\Z)", help_text().partition("Not built yet")[0], re.M | re.S)
)
BUILT = [flag for flag in FLAGS.values() if flag.fate is Fate.BUILT]


def default_of(flag: Flag) -> str:
    return "" if flag.default in ("", "false") else flag.default


@pytest.mark.parametrize("flag", BUILT, ids=lambda flag: flag.name)
def test_a_built_flag_stands_in_the_manual_with_its_default(flag: Flag) -> None:
    found = re.search(r"^Default: (.*)$", ENTRIES[flag.name], re.M)
    assert (found[1] if found else "") == default_of(flag)


@pytest.mark.parametrize("flag", BUILT, ids=lambda flag: flag.name)
def test_a_built_flag_stands_in_help_with_its_default(flag: Flag) -> None:
    found = re.search(r"\(default\s+(\S+)\)", HELP[flag.name])
    assert (found[1] if found else "") == default_of(flag)


def test_no_other_flag_stands_in_the_manual_or_among_those_of_help() -> None:
    names = {flag.name for flag in BUILT}
    assert ENTRIES.keys() == names
    assert HELP.keys() == names


def test_help_names_every_flag_that_is_not_built_yet_and_says_so() -> None:
    tail = help_text().partition("Not built yet")[2]
    later = {name for name, flag in FLAGS.items() if flag.fate is Fate.LATER} - {"mtu", "memory-max", "log-level"}
    assert set(re.findall(r"--([a-z-]+)", tail)) == later


def test_the_manual_marks_what_one_network_can_have_of_its_own() -> None:
    marked = {name for name, text in ENTRIES.items() if text.partition("\n")[0].endswith(" No *")}
    assert marked == {flag.name for flag in BUILT if flag.per_network}


def test_help_fits_a_terminal_of_80_columns_and_has_every_group() -> None:
    assert max(map(len, help_text().splitlines())) <= 80
    assert all(f"\n{title}:\n" in help_text() for title in GROUPS)


def test_the_manual_names_every_state_once() -> None:
    table = MANUAL.partition(".TS\n")[2].partition(".TE\n")[0]
    states = re.findall(r"^([a-z-]+)\|T\{", table, re.M)
    assert sorted(states) == sorted(phase.value for phase in Phase)


def test_manual_and_help_name_every_exit_status() -> None:
    section = MANUAL.partition(".Sh EXIT STATUS\n")[2].partition("\n.Sh ")[0]
    statuses = {"0", "1", str(EXIT_USAGE), str(EXIT_CONFIG)}
    assert set(re.findall(r"^\.It (\d+)$", section, re.M)) == statuses
    assert set(re.findall(r"^  (\d+) ", help_text(), re.M)) == statuses


def test_the_manual_has_its_sections() -> None:
    assert re.findall(r"^\.Sh (.*)$", MANUAL, re.M) == [
        "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "FILES", "NETWORK CONFIGURATION", "SERVER",
        "STATES", "SIGNALS", "EXIT STATUS", "LOGGING", "EXAMPLES", "COMPATIBILITY WITH FLANNEL", "SEE ALSO",
    ]  # fmt: skip


README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_readmes_table_of_flags_is_that_of_the_built_ones() -> None:
    table = dict(re.findall(r"^\| `--([a-z-]+)` \| `?([^`|]*?)`? \| ", README, re.M))
    assert {name: text.strip() for name, text in table.items()} == {flag.name: default_of(flag) for flag in BUILT}


def test_the_readmes_table_of_states_names_every_one() -> None:
    table = README.partition("## States of a network")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\| (`[^|]*)\|", table, re.M)))) == {
        phase.value for phase in Phase
    }
