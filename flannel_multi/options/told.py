"""What was said and by whom: every value keeps its source, so that a fault names the place to mend."""

from __future__ import annotations

import enum
from typing import NamedTuple

from flannel_multi.options.values import EXIT_CONFIG, EXIT_USAGE

SHOWN = 60  # characters of a foreign value in a message


class Fault(Exception):
    """One line that names the place, the value and the rule, and the exit status that goes with it."""

    def __init__(self, line: str, status: int = EXIT_USAGE) -> None:
        super().__init__(line)
        self.status = status


class Rank(enum.IntEnum):
    """Sources of a value: the higher wins."""

    DEFAULT = 0
    FILE = 1
    ENVIRONMENT = 2
    FLAG = 3


class Told(NamedTuple):
    """All values one source gave for one flag, in order. `where` names the source to people."""

    texts: tuple[str, ...]
    where: str
    rank: Rank

    @property
    def last(self) -> str:
        """The value of a flag that is no list: the last one given wins, as in Go."""
        return self.texts[-1] if self.texts else ""

    def fault(self, why: str) -> Fault:
        return Fault(f"{self.where}: {why}", EXIT_CONFIG if self.rank is Rank.FILE else EXIT_USAGE)


Settings = dict[str, Told]


def quoted(text: str) -> str:
    """`text` for a message: quoted, without control characters, cut when long."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")


def one_line(text: str) -> str:
    """`text` without line breaks, control characters and bytes that are no text: they become escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
