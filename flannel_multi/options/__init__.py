"""Flags, FLANNELD_* variables and the TOML file, as one frozen value (spec §1, §0)."""

from flannel_multi.options.assemble import read_options
from flannel_multi.options.manual import help_text
from flannel_multi.options.secrecy import redacted
from flannel_multi.options.values import (
    EXIT_CONFIG,
    EXIT_USAGE,
    EtcdOptions,
    Exit,
    Grant,
    ListenOptions,
    NetworkOptions,
    Options,
    RemoteOptions,
    SqliteOptions,
    StoreOptions,
    TlsOptions,
)

__all__ = [
    "EXIT_CONFIG",
    "EXIT_USAGE",
    "EtcdOptions",
    "Exit",
    "Grant",
    "ListenOptions",
    "NetworkOptions",
    "Options",
    "RemoteOptions",
    "SqliteOptions",
    "StoreOptions",
    "TlsOptions",
    "help_text",
    "read_options",
    "redacted",
]
