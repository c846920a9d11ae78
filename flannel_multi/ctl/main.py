"""The flannelctl command: wiring, nothing else. What a command does not need is not imported: it is started often."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flannel_multi.ctl.arguments import CREATES, flags_passed_on, parse
from flannel_multi.ctl.outcome import DONE, FAILED, NOT_FOUND, Outcome, Refused, named
from flannel_multi.ctl.settings import read_settings
from flannel_multi.model.errors import FlannelError, KeyAbsent
from flannel_multi.options.secrecy import hide_password
from flannel_multi.options.told import one_line
from flannel_multi.options.values import SqliteOptions, StoreOptions

if TYPE_CHECKING:
    from argparse import Namespace

    from flannel_multi.ctl.opened import Opened

INTERRUPTED = 130  # 128 + SIGINT, as shells say it


def main() -> int:
    """The console script; returns the exit status."""
    try:
        status = run(sys.argv[1:], os.environ)
        sys.stdout.flush()
    except BrokenPipeError:  # `flannelctl leases blue | head`: who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The whole command, from its arguments to its exit status."""
    warnings: list[str] = []
    try:
        words = parse(arguments)
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    except Refused as refused:
        return _fail(refused.line, refused.status)
    hide_password("flannelctl", arguments)
    try:
        outcome = _do(words, _stores(words, environ, warnings))
    except Refused as refused:
        outcome = Outcome(failure=refused.line, status=refused.status)
    _print(outcome, as_json=words.json)
    # A misspelt variable is of interest to those who wonder why it failed, and noise to all others.
    for line in (*outcome.notes, *(warnings if outcome.status != DONE else [])):
        _say(f"note: {line}")
    return _fail(outcome.failure, outcome.status) if outcome.failure else outcome.status


def _stores(words: Namespace, environ: Mapping[str, str], warnings: list[str]) -> list[StoreOptions]:
    """The stores that the command works on, the one that it may write last. Raises Refused."""
    urls = (getattr(words, "from"), words.to) if words.command == "store copy" else (words.store or "",)
    stores: list[StoreOptions] = []
    for url in urls:
        settings = read_settings(url, flags_passed_on(words), environ, read_file)
        warnings += (line for line in settings.warnings if line not in warnings)
        stores.append(settings.store)
    for at, store in enumerate(stores, start=1):
        if isinstance(store, SqliteOptions) and not (words.command in CREATES and at == len(stores)):
            _must_exist(store.path)
    return stores


def _do(words: Namespace, stores: list[StoreOptions]) -> Outcome:
    """Raises Refused, with the command and its network named."""
    import asyncio

    network = getattr(words, "net", None)
    about = words.command if network is None else f"{words.command} {named(network)}"
    try:
        outcome = asyncio.run(_perform(words, stores))
    except Refused as refused:
        raise Refused(f"{about}: {refused.line}", refused.status) from refused
    except KeyAbsent as error:
        raise Refused(f"{about}: {error.key} does not exist", NOT_FOUND) from error
    except FlannelError as error:
        raise Refused(f"{about}: {error.message}") from error
    return replace(outcome, failure=f"{about}: {outcome.failure}") if outcome.failure else outcome


async def _perform(words: Namespace, stores: list[StoreOptions]) -> Outcome:
    from flannel_multi.ctl.opened import Opened
    from flannel_multi.store.opening import open_ledger

    opened: list[Opened] = []
    try:
        for options in stores:
            opened.append(Opened(open_ledger(options), options, words.timeout))
        return await _command(words, opened)
    finally:
        for store in opened:
            await store.ledger.close()


async def _command(words: Namespace, opened: list[Opened]) -> Outcome:
    from flannel_multi.ctl import configs, copying, leasing

    store = opened[0]
    match words.command:
        case "config set":
            return await configs.write(store, words.net, _read_config(words.file), force=words.force)
        case "config get":
            return await configs.get(store, words.net)
        case "config list":
            return await configs.every(store)
        case "config rm":
            return await configs.remove(store, words.net, sure=words.yes)
        case "leases":
            return await leasing.every(store, words.net)
        case "reserve":
            return await leasing.reserve(store, words.net, words.subnet, words.ip)
        case "release":
            return await leasing.release(store, words.net, words.subnet)
        case "revoke":
            return await leasing.revoke(store, words.net, words.subnet)
        case "store copy":
            request = copying.Request(words.networks, words.replace_configs, words.dry_run)
            return await copying.copy(store, opened[1], request)
    raise AssertionError(words.command)


def _read_config(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Refused(f"{file}: {error.strerror or error}") from None


def _must_exist(path: str) -> None:
    """Reading makes no store: of a slip in the path an empty store would be the answer."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"there is no store file {path}; config set and store copy make one", NOT_FOUND) from None
    except OSError:  # the store will say what it may not do
        pass


def read_file(path: str) -> bytes | None:
    """The file's bytes, None when there is none. Raises OSError for one that cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def _print(outcome: Outcome, *, as_json: bool) -> None:
    if outcome.raw is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(outcome.raw)
        sys.stdout.buffer.flush()
    elif as_json and outcome.data is not None:
        import json

        sys.stdout.write(json.dumps(outcome.data, indent=2) + "\n")
    elif not as_json and outcome.text:
        sys.stdout.write(outcome.text + "\n")


def _fail(line: str, status: int) -> int:
    _say(line)
    return status


def _say(line: str) -> None:
    sys.stderr.write(one_line(f"flannelctl: {line}") + "\n")


if __name__ == "__main__":
    sys.exit(main())
