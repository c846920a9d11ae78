"""Which store a command means: the daemon's own settings, with what flannelctl's flags and URL say over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from flannel_multi.ctl.outcome import FAILED, USAGE, Refused
from flannel_multi.options import EXIT_USAGE, Exit, StoreOptions, read_options

ReadFile = Callable[[str], bytes | None]


class Settings(NamedTuple):
    """`warnings`: what the daemon's settings hold that has no effect, such as a misspelt variable."""

    store: StoreOptions
    warnings: tuple[str, ...]


def read_settings(url: str, flags: Sequence[str], environ: Mapping[str, str], read_file: ReadFile) -> Settings:
    """The store at `url`, or the daemon's own for "". `flags` as flanneld would take them. Raises Refused."""
    # Where this host's daemon is a client or a server does not matter once the store is named.
    asked = [f"--store={url}", "--remote=", "--listen="] if url else []
    read = read_options([*flags, *asked], environ, read_file)
    if isinstance(read, Exit):
        line = read.stderr.strip().removeprefix("flanneld: ").removeprefix("--store: ")
        raise Refused(line, USAGE if read.status == EXIT_USAGE else FAILED)
    return Settings(read.store, read.warnings)
