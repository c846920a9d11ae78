"""The command line of flannelctl."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from flannel_multi import __version__
from flannel_multi.ctl.manual import (
    COMMANDS,
    DEFAULT_TIMEOUT,
    GROUPS,
    OF_COMMAND,
    PASSED_ON,
    Command,
    command_help,
    group_help,
    help_text,
)
from flannel_multi.ctl.outcome import USAGE, Refused
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.options.checks import seconds
from flannel_multi.options.settings_file import bad_name

CREATES = frozenset(("config set", "store copy"))  # commands that make a store file which is not there
_T = TypeVar("_T")


class _Parser(argparse.ArgumentParser):
    """One line for a wrong command line, and no abbreviations: a script must not depend on which flags exist.

    `told` is what --help prints. `add_subparsers` makes its parsers of this class too.
    """

    told: str = ""

    def __init__(self, **more: Any) -> None:
        super().__init__(allow_abbrev=False, **more)

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message}; see {self.prog} --help", USAGE)

    def format_help(self) -> str:
        return self.told or super().format_help()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """`command` in it is the words of the command, as `config set`. Raises Refused; SystemExit after --help."""
    words = _parser().parse_args(list(arguments))
    if words.command == "store copy" and words.store is not None:
        raise Refused("store copy takes its stores as FROM and TO, not by --store", USAGE)
    return words


def flags_passed_on(words: argparse.Namespace) -> list[str]:
    """What flanneld would have been given of it."""
    given = {name: getattr(words, name.replace("-", "_")) for name in PASSED_ON}
    return [f"--{name}={value}" for name, value in given.items() if value is not None]


def _parser() -> _Parser:
    top = _Parser(prog="flannelctl", parents=[_common(top=True)])
    top.told = help_text()
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    groups: dict[str, Any] = {}
    for name in GROUPS:
        group = commands.add_parser(name)
        group.told = group_help(name)
        groups[name] = group.add_subparsers(metavar="COMMAND", required=True)
    below = _common(top=False)
    for command in COMMANDS:
        name, _, word = command.words.rpartition(" ")
        _add(command, (groups[name] if name else commands).add_parser(word, parents=[below]))
    return top


def _common(*, top: bool) -> _Parser:
    """Flags that stand before or after the command. After it they have no default, which would hide those before."""
    common = _Parser(add_help=False, argument_default=None if top else argparse.SUPPRESS)

    def usual(value: Any) -> Any:
        return value if top else argparse.SUPPRESS

    common.add_argument("--store")
    common.add_argument("--timeout", type=_checked(seconds), default=usual(seconds(DEFAULT_TIMEOUT)))
    common.add_argument("--json", action="store_true", default=usual(False))
    for name in PASSED_ON:
        common.add_argument(f"--{name}")
    return common


def _add(command: Command, parser: _Parser) -> None:
    parser.told = command_help(command)
    parser.set_defaults(command=command.words)
    for argument in command.arguments.split():
        parser.add_argument(argument.lower(), metavar=argument, type=_READ[argument])
    for flag in OF_COMMAND.get(command.words, {}):
        name, _, value = flag.partition(" ")
        if value:
            parser.add_argument(f"--{name}", metavar=value, type=_checked(_names))
        else:
            parser.add_argument(f"--{name}", action="store_true")


def _name(text: str) -> str:
    """A network's name as the ledger knows it. Raises ValueError."""
    if text == "_":
        return ""
    if why := bad_name(text):
        raise ValueError(why)
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(_name(item.strip()) for item in text.split(",") if item.strip())


def _cidr(text: str) -> Subnet:
    """`10.1.7.0/24`, or `10.1.7.0-24` as it stands in keys. Raises ValueError."""
    return Subnet.from_key(text) or Subnet.parse(text)


def _checked(read: Callable[[str], _T]) -> Callable[[str], _T]:
    """`read`, whose ValueError argparse shows to the user."""

    def convert(text: str) -> _T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


_READ: dict[str, Callable[[str], Any]] = {  # by the names of arguments in the table of commands
    "NET": _checked(_name),
    "SUBNET": _checked(_cidr),
    "IP": _checked(parse_ip),
    "FILE": str,
    "FROM": str,
    "TO": str,
}
