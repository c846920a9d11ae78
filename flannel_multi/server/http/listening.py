"""The socket that `--listen` means (spec §6.9)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from flannel_multi.options.listen import FIRST_ACTIVATED, Listen

BACKLOG = 4096  # a server that starts again is called by all its clients at once


def open_listener(listen: Listen, environ: Mapping[str, str], pid: int) -> socket.socket:
    """The listening socket. `environ` and `pid` tell what the service manager handed over (LISTEN_FDS, LISTEN_PID).
    Raises ValueError for a descriptor that is no such socket, OSError for what the kernel refuses; both say where."""
    if listen.kind == "fd":
        return _activated(listen, environ, pid)
    if listen.kind == "unix":
        return _unix(listen)
    return _tcp(listen)


def _tcp(listen: Listen) -> socket.socket:
    try:
        if listen.host == "" and not socket.has_dualstack_ipv6():
            return _bound(socket.AF_INET, ("0.0.0.0", listen.number), dual=False)
        if listen.host in ("", "::"):
            return _bound(socket.AF_INET6, ("::", listen.number), dual=True)
        found = socket.getaddrinfo(listen.host, listen.number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)  # of a name's addresses the IPv4 one, as Go does
        return _bound(found[0][0], found[0][4], dual=False)
    except UnicodeError:
        raise OSError(f"cannot listen on {listen.text}: {listen.host[:60]!r} is no host name") from None
    except OSError as error:
        raise OSError(f"cannot listen on {listen.text}: {_advice(error)}") from error


def _bound(
    family: int, address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes], *, dual: bool
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the server before still time out
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _advice(error: OSError) -> str:
    text = (error.strerror or str(error)).lower()
    match error.errno:
        case errno.EADDRINUSE:
            return f"{text}; another server has it (see: ss -ltnp)"
        case errno.EADDRNOTAVAIL:
            return f"{text}; no interface of this host has that address (see: ip address)"
        case errno.EACCES:
            return f"{text}; a port below 1024 needs CAP_NET_BIND_SERVICE"
        case _:
            return text


def _activated(listen: Listen, environ: Mapping[str, str], pid: int) -> socket.socket:
    count = environ.get("LISTEN_FDS", "")
    ours = environ.get("LISTEN_PID", "") == str(pid) and count.isascii() and count.isdigit() and len(count) < 10
    end = FIRST_ACTIVATED + (int(count) if ours else 0)
    if listen.number >= end:
        handed = f"activated sockets are {FIRST_ACTIVATED} to {end - 1}" if ours and end > FIRST_ACTIVATED else (
            "no socket was handed over (LISTEN_FDS and LISTEN_PID; see systemd.socket(5))")  # fmt: skip
        raise ValueError(f"{listen.text} is out of range: {handed}")
    try:
        os.set_inheritable(listen.number, False)
        sock = socket.socket(fileno=listen.number)
    except OSError:
        raise ValueError(f"{listen.text}: descriptor {listen.number} is no socket") from None
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()  # it is not ours to close
        raise ValueError(f"{listen.text}: descriptor {listen.number} is no listening stream socket")
    return sock


def _unix(listen: Listen) -> socket.socket:
    """The folder is locked meanwhile, else of two servers that start at once each takes the other's new socket for
    one that a dead server left behind."""
    path = Path(listen.path)
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(f"cannot listen on {listen.text}: folder {path.parent}: {_advice(error)}") from error
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_stale(path)
        os.fchmod(sock.fileno(), 0o600)  # the file's mode from its first moment on
        sock.bind(listen.path)
        path.chmod(0o660)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EWOULDBLOCK:
            raise OSError(f"cannot listen on {listen.text}: {path.parent} is locked by another program") from error
        raise OSError(f"cannot listen on {listen.text}: {(error.strerror or str(error)).lower()}") from error
    finally:
        os.close(folder)
    return sock


def _remove_stale(path: Path) -> None:
    """Raises OSError when something there is alive, or no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "a file is there that is no socket; remove it, or use another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue is an answer as well
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another server listens there")
