"""Which lease store the options mean. Each kind's modules are imported only where it is used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flannel_multi.options import EtcdOptions, RemoteOptions, SqliteOptions, StoreOptions
from flannel_multi.store.protocol import LeaseStore, Ledger


def opener(options: StoreOptions) -> Callable[[], LeaseStore]:
    """Imports what a worker needs of this kind of store, now, and returns what opens one: a supervisor calls this
    before it forks, its workers call the result in their running loops. Each import costs every worker memory."""
    match options:
        case EtcdOptions():
            from flannel_multi.store.etcd.store import EtcdStore

            return partial(EtcdStore, options)
        case SqliteOptions():
            from flannel_multi.store.sqlite import SqliteStore

            return partial(SqliteStore, options)
        case RemoteOptions():
            from flannel_multi.store.remote import RemoteStore

            return partial(RemoteStore, options)


def open_ledger(options: StoreOptions) -> Ledger:
    """A store that nobody has asked anything yet: no file, no connection, no look-up. Call it in a running loop."""
    match options:
        case EtcdOptions():
            from flannel_multi.store.etcd.ledger import EtcdLedger

            return EtcdLedger(options)
        case SqliteOptions():
            from flannel_multi.store.sqlite import SqliteStore

            return SqliteStore(options)
        case RemoteOptions():
            from flannel_multi.store.remote import RemoteStore

            return RemoteStore(options)


def stated(options: StoreOptions) -> str:
    """The store in words, for a log line."""
    match options:
        case EtcdOptions():
            return f"etcd at {', '.join(options.endpoints)}, prefix {options.prefix or '/'}"
        case SqliteOptions():
            return f"store file {options.path}"
        case RemoteOptions():
            return f"server{'s' if len(options.servers) > 1 else ''} {', '.join(options.servers)}"


def described(options: StoreOptions, network: str) -> str:
    """Where `network`'s config is, for a log line."""
    match options:
        case EtcdOptions(prefix=prefix):
            return f"{prefix}/{network}/config" if network else f"{prefix}/config"
        case SqliteOptions(path=path):
            return f"{network or '_'}/config in {path}"
        case RemoteOptions(servers=servers):
            return f"/v1/{network or '_'}/config at {servers[0]}"
