"""Command lines in Go's manner (flannel behaviour §1.3): `-name`, `--name`, `=value` or the next argument."""

from __future__ import annotations

from flannel_multi.options.flags import FLAGS, ONLY_IN_TABLES, Kind, nearest

TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class BadUsage(Exception):
    """One line that names the argument and the rule it breaks."""


def parse(arguments: list[str]) -> dict[str, list[str]]:
    """Every value of every flag given, in order. Raises BadUsage."""
    given: dict[str, list[str]] = {}
    rest = iter(arguments)
    for argument in rest:
        if len(argument) < 2 or not argument.startswith("-"):
            raise BadUsage(f"unexpected argument {argument!r}: flags only; a bool takes its value by =")
        if argument == "--":
            extra = next(rest, None)
            if extra is not None:
                raise BadUsage(f"unexpected argument {extra!r} after --")
            break
        name, equals, value = argument.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise BadUsage(f"bad flag syntax: {argument}")
        name = "help" if name == "h" else name
        flag = FLAGS.get(name)
        if flag is None or name in ONLY_IN_TABLES:
            raise BadUsage(f"unknown flag --{name}{nearest('--' + name, ['--' + known for known in FLAGS])}")
        if not equals:
            if flag.kind is Kind.BOOL:
                value = "true"
            elif (following := next(rest, None)) is not None:
                value = following
            else:
                raise BadUsage(f"flag --{name} needs a value")
        given.setdefault(name, []).append(value)
    return given


def truth(name: str, text: str) -> bool:
    """A bool as Go reads it. Raises BadUsage."""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise BadUsage(f"{name}: {text!r} is no bool; use true or false")


def whole(name: str, text: str, *, low: int, high: int) -> int:
    """An integer within bounds. Raises BadUsage."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10 and low <= int(text) <= high):
        raise BadUsage(f"{name}: {text!r} is no integer from {low} to {high}")
    return int(text)


def seconds(name: str, text: str) -> float:
    """A duration: a number of seconds, or with a unit as `500ms`, `10s`, `2m`, `1h`. Raises BadUsage."""
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)):
        number = text.removesuffix(unit)
        if text.endswith(unit) and number.isascii() and number.replace(".", "", 1).isdigit() and len(number) < 12:
            value_s = float(number) * factor
            if 0 < value_s <= 31_536_000:
                return value_s
            break
    raise BadUsage(f"{name}: {text!r} is no duration above zero such as 10, 500ms, 10s or 2m")
