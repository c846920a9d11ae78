"""What a command comes to: words for people, the same for programs, an exit status. No printing here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

DONE, FAILED, USAGE, NOT_FOUND = 0, 1, 2, 3  # exit statuses


class Refused(Exception):
    """The command ends here, with one line that says what is wrong, where, and what to do."""

    def __init__(self, line: str, status: int = FAILED) -> None:
        super().__init__(line)
        self.line = line
        self.status = status


@dataclass(frozen=True)
class Outcome:
    """`text` for standard output, without its last line break; `data` the same as JSON for --json.

    `raw` is written as it is, whatever was asked for. `notes` are lines for standard error, each about something that
    the caller should know and that was no failure. `failure` is the one line of a status other than DONE.
    """

    text: str = ""
    data: Any = None
    raw: bytes | None = None
    notes: tuple[str, ...] = ()
    failure: str = ""
    status: int = DONE


def named(network: str) -> str:
    """The network as people write it."""
    return network or "_"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 lease`, `2 leases`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def some(items: Iterable[str], most: int = 3) -> str:
    """The first few of `items`, and how many more there are."""
    all_items = list(items)
    more = f" and {len(all_items) - most} more" if len(all_items) > most else ""
    return ", ".join(all_items[:most]) + more
