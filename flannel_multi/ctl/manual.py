"""The commands of flannelctl and what --help prints of them; at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import NamedTuple

from flannel_multi.options.flags import FLAGS

WIDTH = 79
DEFAULT_TIMEOUT = "5s"


class Command(NamedTuple):
    """`words` as typed; `arguments` by their names in help texts; `text` may have several lines."""

    words: str
    arguments: str
    summary: str
    text: str


COMMANDS = (
    Command("config set", "NET FILE", "write a network's config", """\
Checks the JSON in FILE (- is standard input) and writes it as the network's
config. Hosts that run the network keep their values until flanneld restarts
on them; what would change then is said."""),
    Command("config get", "NET", "print a network's config", """\
Prints the config as it stands in the store, byte for byte."""),
    Command("config list", "", "list all networks", """\
One line for each network that has a config: its addresses, its backend, and
how many leases and reservations it has."""),
    Command("config rm", "NET", "delete a network's config", """\
Leases stay. Hosts that run the network serve on by what they remember; new
hosts wait."""),
    Command("leases", "NET", "list a network's leases and reservations", """\
One line for each: which host has it, and when it ends. An end that the store
does not tell is shown as unknown."""),
    Command("reserve", "NET SUBNET IP", "keep a subnet for a host, without end", """\
The host with the public address IP gets SUBNET when it joins, and keeps it. A
lease that it has on SUBNET becomes the reservation. To move a host, reserve
its new subnet, then revoke its lease."""),
    Command("release", "NET SUBNET", "end a reservation", """\
It becomes a lease, which ends in 24 hours unless its host renews it."""),
    Command("revoke", "NET SUBNET", "delete a lease or reservation at once", """\
Other hosts drop their routes to it. If its host runs, that takes a lease again
at once: the same subnet, unless somebody else has it by then."""),
    Command("store copy", "FROM TO", "copy all from one store to another", """\
Copies configs, leases and reservations. Every lease keeps its subnet, public
IP and backend data, and the time that it has left. FROM is only read, and may
be a server of flannel 0.5 to 0.7. What TO has already is left as it is, so a
copy can be made again. A subnet that another host has in TO, or a config that
differs, is a conflict: all are listed, and nothing is written for that
network."""),
)  # fmt: skip
GROUPS = ("config", "store")  # first words of commands that have two
OF_COMMAND = {  # flags of one command
    "config set": {"force": "write also what no host would take"},
    "config rm": {"yes": "delete it also when there are leases"},
    "store copy": {
        "networks NET,...": "copy these only; _ is the unnamed one",
        "replace-configs": "write configs over those that differ in TO",
        "dry-run": "say what would be copied, and write nothing",
    },
}
OF_ALL = {
    "store URL": "the store; without it, that of this host's flanneld",
    "timeout DURATION": f"how long one request to a store may take (default {DEFAULT_TIMEOUT})",
    "json": "print JSON",
    "version": "print the version",
    "help": "print this; after a command, more about it",
}
PASSED_ON = (  # flags that mean what they mean to flanneld
    "config", "etcd-endpoints", "etcd-prefix", "etcd-cafile", "etcd-certfile", "etcd-keyfile", "etcd-username",
    "etcd-password", "etcd-password-file", "remote-cafile", "remote-certfile", "remote-keyfile",
)  # fmt: skip
_REMOTE = {
    "remote-cafile": "CA that signed the certificates of flanneld servers",
    "remote-certfile": "client TLS certificate for flanneld servers",
    "remote-keyfile": "client TLS key for flanneld servers",
}
_HEAD = """\
Usage: flannelctl [flag ...] COMMAND ...

Configs, leases and reservations of flannel networks, in any store.
"""
_TAIL = """\
NET is the name of a network, or _ for the unnamed one. SUBNET is written as
10.1.7.0/24. Flags may stand before or after the command.

Stores (URL, FROM, TO):
  etcd                                as flanneld's settings for etcd say
  etcd://h1:2379,h2:2379/prefix       etcd; etcds:// with TLS
  sqlite:///var/lib/flannel/store.db  a file of this host
  http://h1:8888,h2:8888              flanneld servers, one asked at a time;
                                      https:// with TLS
  unix:///run/flannel/v1.sock         a flanneld server of this host
Without --store it is the store of this host's flanneld, by its settings file
and FLANNELD_* variables; if that is a client of a server, the server is asked.

Exit status:
  0   done
  1   refused or failed; the last line on standard error says why
  2   wrong command line or FLANNELD_* variable
  3   the network, lease, reservation or store file does not exist

Examples:
  flannelctl config set blue blue.json
  flannelctl leases blue
  flannelctl reserve blue 10.1.7.0/24 192.0.2.11
  flannelctl store copy http://old:8888 sqlite:///var/lib/flannel/store.db
"""


def help_text() -> str:
    """What `flannelctl --help` prints."""
    settings = {f"{name} {_kind(name)}": _REMOTE.get(name) or FLAGS[name].help for name in PASSED_ON}
    return "\n".join([
        _HEAD, f"Commands:\n{_listed(COMMANDS)}", f"Flags:\n{_entries(OF_ALL)}",
        f"Settings of flanneld, over its file and its environment:\n{_entries(settings)}", _TAIL,
    ])  # fmt: skip


def command_help(command: Command) -> str:
    """What `flannelctl COMMAND --help` prints."""
    flags = OF_COMMAND.get(command.words, {})
    optional = "".join(f" [--{name}]" for name in flags)
    usage = textwrap.fill(
        f"Usage: flannelctl {command.words}{optional} {command.arguments}".rstrip(),
        WIDTH, subsequent_indent=" " * 8, break_on_hyphens=False,
    )  # fmt: skip
    own = f"Flags:\n{_entries(flags)}\n" if flags else ""
    more = "flannelctl --help tells the flags of all commands, and how a store is named."
    return f"{usage}\n\n{command.text}\n\n{own}{more}\n"


def group_help(group: str) -> str:
    """What `flannelctl config --help` prints."""
    commands = [each for each in COMMANDS if each.words.startswith(f"{group} ")]
    return f"Usage: flannelctl {group} COMMAND ...\n\nCommands:\n{_listed(commands)}"


def _listed(commands: Iterable[Command]) -> str:
    return "".join(f"  {f'{each.words} {each.arguments}':<28}{each.summary}\n" for each in commands)


def _entries(flags: dict[str, str]) -> str:
    return "".join(_entry(name, text) for name, text in flags.items())


def _entry(name: str, text: str) -> str:
    lines = textwrap.wrap(text, WIDTH - 30, break_on_hyphens=False)
    return "".join(f"{f'  --{name}' if at == 0 else '':<30}{line}\n" for at, line in enumerate(lines))


def _kind(name: str) -> str:
    if name.endswith("file") or name == "config":
        return "FILE"
    return {"etcd-endpoints": "URL,...", "etcd-prefix": "PATH"}.get(name, "TEXT")
