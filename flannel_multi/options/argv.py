"""Command lines in Go's manner (flannel behaviour §1.3): `-name`, `--name`, `=value` or the next argument."""

from __future__ import annotations

from collections.abc import Iterable

from flannel_multi.options.flags import FLAGS, MEANT, ON_COMMAND_LINE, ONLY_IN_TABLES, Kind, nearest
from flannel_multi.options.told import Fault, Rank, Settings, Told, quoted


def parse(arguments: Iterable[str]) -> Settings:
    """Every value of every flag given, in order. Raises Fault."""
    given: dict[str, tuple[str, ...]] = {}
    rest = iter(arguments)
    for argument in rest:
        if len(argument) < 2 or not argument.startswith("-"):
            raise Fault(f"unexpected argument {quoted(argument)}: flags only; a bool takes its value by =")
        if argument == "--":
            extra = next(rest, None)
            if extra is not None:
                raise Fault(f"unexpected argument {quoted(extra)} after --")
            break
        name, equals, value = argument.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise Fault(f"bad flag syntax: {quoted(argument)}")
        name = "help" if name == "h" else name
        if name not in ON_COMMAND_LINE:
            raise _unknown(name)
        if not equals:
            if FLAGS[name].kind is Kind.BOOL:
                value = "true"
            elif (following := next(rest, None)) is not None:
                value = following
            else:
                raise Fault(f"--{name}: the value is missing")
        given[name] = (*given.get(name, ()), value)
    return {name: Told(texts, f"--{name}", Rank.FLAG) for name, texts in given.items()}


def _unknown(name: str) -> Fault:
    if name in ONLY_IN_TABLES:
        return Fault(f"--{name}: no flag, but a key of a [networks.NAME] table in the file")
    return Fault(f"unknown flag --{name[:80]}{nearest('--' + name, ['--' + known for known in MEANT])}")
