"""The flanneld command: wiring, nothing else. The one module that knows both the supervisor and a worker's life."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from socket import socket

from flannel_multi import __version__, log
from flannel_multi.options import Exit, NetworkOptions, Options, read_options
from flannel_multi.options.secrecy import hide_password
from flannel_multi.store.opening import described, opener, stated

EXIT_FAILED = 1  # the system refused what the supervisor itself needs

Entry = Callable[[NetworkOptions, socket, Mapping[str, int]], int]  # the last: kept descriptors by role


def main() -> int:
    """The console script; returns the exit status."""
    return run(sys.argv[1:], os.environ)


def run(
    arguments: Sequence[str], environ: Mapping[str, str], *, entry: Callable[[Options], Entry] | None = None
) -> int:
    """The whole command. `entry` makes the life of a worker from the options; None for the real one."""
    options = read_options(list(arguments), environ, read_file)
    if isinstance(options, Exit):
        sys.stdout.write(options.stdout)
        sys.stderr.write(options.stderr)
        return options.status
    hide_password(Path(sys.argv[0]).name, arguments)
    role = "supervisor" if options.listen is None else "server"
    log.configure(fmt=options.log_format, verbosity=options.verbosity, role=role)
    for line in options.warnings:
        log.warning(line)
    if options.listen is not None:
        return _serve(options, arguments, environ)
    return _supervise(options, arguments, environ, (entry or worker_entry)(options))


def _serve(options: Options, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    from flannel_multi.server.running import serve  # late: a supervisor needs none of it

    def reread() -> Options | None:
        fresh = read_options(list(arguments), environ, read_file)
        if isinstance(fresh, Options):
            return fresh
        log.error(f"SIGHUP: {fresh.stderr.strip()}; nothing changes")
        return None

    log.info(f"flanneld {__version__}: serving leases; {stated(options.store)}")
    return serve(options, environ, reread)


def _supervise(options: Options, arguments: Sequence[str], environ: Mapping[str, str], entry: Entry) -> int:
    from flannel_multi.service_manager import Notifier, watchdog_s
    from flannel_multi.supervisor import process  # late: --help and a bad flag need none of this
    from flannel_multi.supervisor.loop import Loop, Wiring

    def hangup() -> None:
        _say_what_would_change(options, read_options(list(arguments), environ, read_file))

    ran_before = frozenset(network.name for network in options.networks if Path(network.state_file).exists())
    names = ", ".join(network.name for network in options.networks) if options.multi else "the unnamed network"
    log.info(f"flanneld {__version__}: {names}; {stated(options.store)}")
    try:
        strangers = process.become_supervisor()
        notifier = Notifier(watchdog_s=watchdog_s(environ))
        Loop(options, Wiring(entry, notifier, hangup, ran_before, kills_strays=not strangers)).run()
    except OSError as error:
        log.error(f"the supervisor cannot go on: {error}")
        return EXIT_FAILED
    log.info("stopped")
    return 0


def worker_entry(options: Options) -> Entry:
    """What a worker runs after the fork. Everything it needs is imported here, in the parent, and only there used."""
    from flannel_multi import sharing  # noqa: F401  # first: what malloc gives from here on can be shared
    from flannel_worker.main import Job, work
    from flannel_worker.rehearsal import rehearse

    rehearse()
    daemon = uuid.uuid4().hex
    open_store = opener(options.store)

    def enter(network: NetworkOptions, sock: socket, inherited: Mapping[str, int]) -> int:
        return work(Job(network, open_store, described(options.store, network.name), daemon, sock, inherited))

    return enter


def read_file(path: str) -> bytes | None:
    """The file's bytes, None when there is none. Raises OSError for one that cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def _say_what_would_change(running: Options, fresh: Options | Exit) -> None:
    if isinstance(fresh, Exit):
        log.error(f"SIGHUP: {fresh.stderr.strip()}; nothing changes")
        return
    changes = differences(running, fresh)
    log.info("SIGHUP: " + ("; ".join(changes) + "; a restart applies it" if changes else "nothing would change"))


def differences(running: Options, fresh: Options) -> list[str]:
    """What a restart with `fresh` would change, a phrase each."""
    have = {network.name: network for network in running.networks}
    want = {network.name: network for network in fresh.networks}
    changes = [f"{_called(name)} would be added" for name in want if name not in have]
    changes += [f"{_called(name)} would be left" for name in have if name not in want]
    changes += [f"{_called(name)} would change" for name in want if name in have and want[name] != have[name]]
    for field in fields(Options):
        if field.name not in ("networks", "multi", "warnings") and (
            getattr(running, field.name) != getattr(fresh, field.name)
        ):
            changes.append(f"{field.name.removesuffix('_s').replace('_', '-')} would change")
    return changes


def _called(network: str) -> str:
    return f"network {network}" if network else "the unnamed network"


if __name__ == "__main__":
    sys.exit(main())
