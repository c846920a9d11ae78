"""What --help prints, made from the table of flags; at most 80 columns."""

from __future__ import annotations

import textwrap

from flannel_multi.options.flags import FLAGS, GROUPS, ON_COMMAND_LINE, Fate, Flag, Kind

WIDTH = 79
_HEAD = """\
Usage: flanneld [flag ...]

flannel for many networks on one host: one isolated worker process for each
network named by --networks, or one unnamed network without it.
-name and --name are the same; a value follows by = or as the next argument,
the value of a bool by = only.
"""
_TAIL = """\
Every flag can be set in the environment too, as FLANNELD_ and its name in
capitals with dashes as underscores (FLANNELD_ETCD_PREFIX), and in the settings
file by its name. The file's [networks.NAME] tables are the list of networks,
each with its own settings. A flag wins over the environment, the environment
over the file, the file over the default.

Exit status:
  0   stopped by SIGTERM or SIGINT; --help, --version
  1   the daemon could not start or go on; its last line says why
  2   wrong flag, argument or FLANNELD_ variable
  78  wrong settings file

Files:
  /etc/flannel/flanneld.toml       settings
  /run/flannel/subnet.env          env file of the unnamed network
  /run/flannel/networks/NAME.env   env file of a named network
  /run/flannel/networks/NAME.lock  held by its worker; holds the worker's pid
  /var/lib/flannel/NAME.json       its last known state
"""


def help_text() -> str:
    """Every flag that is built, by group, then what holds for all, then the names of those not built yet."""
    sections = [_HEAD]
    for title, flags in GROUPS.items():
        sections.append(f"{title}:\n" + "".join(map(_entry, flags)))
    later = " ".join(f"--{name}" for name in ON_COMMAND_LINE if FLAGS[name].fate is Fate.LATER)
    filled = textwrap.fill(later, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join([*sections, _TAIL, f"Not built yet, so refused with any value but the default:\n{filled}\n"])


def _entry(flag: Flag) -> str:
    kind = "" if flag.kind is Kind.BOOL else f" {flag.kind.value}"
    default = f" (default {flag.default})" if flag.default not in ("", "false") else ""
    text = textwrap.fill(
        flag.help + default, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip
    return f"  --{flag.name}{kind}\n{text}\n"
