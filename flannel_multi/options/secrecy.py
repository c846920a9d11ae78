"""Keeps the etcd password out of what others can read of a command line: `ps`, /proc/PID/cmdline, the log."""

from __future__ import annotations

from collections.abc import Sequence

SECRET = "etcd-password"
HIDDEN = "***"


def redacted(arguments: Sequence[str]) -> list[str]:
    """The command line with every etcd password replaced by HIDDEN.

    Errs on the side of hiding: it need not be a command line that `argv.parse` accepts.
    """
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.removeprefix("-").removeprefix("-").partition("=")
        is_flag = argument.startswith("-") and name == SECRET
        if hide_next:
            shown.append(HIDDEN)
            hide_next = is_flag and not equals
        elif is_flag and equals:
            shown.append(f"{argument.partition('=')[0]}={HIDDEN}")
        else:
            shown.append(argument)
            hide_next = is_flag
    return shown


def hide_password(program: str, arguments: Sequence[str]) -> None:
    """Overwrites the process's own arguments when one of them is a password, so that `ps` does not show it."""
    if any(SECRET in argument for argument in arguments):
        from setproctitle import setproctitle  # rarely needed

        setproctitle(" ".join([program, *redacted(list(arguments))]))
