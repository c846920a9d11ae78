"""`--listen`: what it may say (spec §6.9). Pure."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

FIRST_ACTIVATED = 3  # sd_listen_fds(3)
LONGEST_UNIX_PATH = 107  # sun_path of unix(7), less its NUL
_EXAMPLES = "use 0.0.0.0:8888, [::]:8888, fd://, fd://3 or unix:///run/flannel/server.sock"


class Listen(NamedTuple):
    """One `--listen`. `kind` is "tcp", "fd" or "unix"; `host` "" means every address, IPv4 and IPv6; `number` is the
    port or the descriptor."""

    text: str
    kind: str
    host: str = ""
    number: int = 0
    path: str = ""


def parse_listen(text: str) -> Listen:
    """Raises ValueError, whose text names what is wrong with the value."""
    scheme, mark, rest = text.partition("://")
    shown = repr(text[:80])
    if not mark:
        scheme, rest = "tcp", text
    if not text.isprintable():
        raise ValueError(f"{shown} is no address to listen on; {_EXAMPLES}")
    if scheme == "tcp":
        host, port = _host_and_port(rest, shown)
        return Listen(text, "tcp", host, port)
    if scheme == "fd":
        if rest and not (rest.isascii() and rest.isdigit() and len(rest) < 10):
            raise ValueError(f"{shown}: {rest[:40]!r} is no number of a descriptor; {_EXAMPLES}")
        number = int(rest or FIRST_ACTIVATED)
        if number < FIRST_ACTIVATED:
            raise ValueError(f"{shown} is out of range: activated sockets begin at {FIRST_ACTIVATED}")
        return Listen(text, "fd", number=number)
    if scheme == "unix":
        if not rest.startswith("/") or rest.endswith("/"):
            raise ValueError(f"{shown} names no socket; use unix:///run/flannel/server.sock")
        if len(os.fsencode(rest)) > LONGEST_UNIX_PATH:
            raise ValueError(f"{shown}: a path of a socket has at most {LONGEST_UNIX_PATH} bytes")
        return Listen(text, "unix", path=rest)
    raise ValueError(f"{shown}: {scheme[:40]!r} is no kind of listener; {_EXAMPLES}")


def _host_and_port(text: str, shown: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536):
        raise ValueError(f"{shown} has no port from 0 to 65535; {_EXAMPLES}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        except (OSError, ValueError):
            raise ValueError(f"{shown}: {host[:60]!r} is no IPv6 address") from None
    elif ":" in host or "[" in host or "]" in host:
        raise ValueError(f"{shown}: an IPv6 address stands in brackets; {_EXAMPLES}")
    elif "/" in host or "@" in host or any(letter.isspace() for letter in host):
        raise ValueError(f"{shown} is no address to listen on; {_EXAMPLES}")
    return host, int(port)
