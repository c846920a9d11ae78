"""What the daemon was asked to do, as frozen values: one `Options`, and in it one `NetworkOptions` per network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flannel_multi.options.listen import Listen

EXIT_USAGE = 2  # a wrong command line or environment
EXIT_CONFIG = 78  # a wrong configuration file: EX_CONFIG of sysexits.h


@dataclass(frozen=True)
class EtcdOptions:
    """Leases live in etcd. `prefix` has one leading and no trailing slash ("" when it is the root).

    Paths and names are "" when not given. The password is kept out of repr, so that no log can show it.
    """

    endpoints: tuple[str, ...]
    prefix: str
    cafile: str
    certfile: str
    keyfile: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class SqliteOptions:
    """Leases live in one SQLite file of this host. `path` is absolute."""

    path: str


@dataclass(frozen=True)
class TlsOptions:
    """The --remote-* files, "" when not given. Of a server: its own certificate, and the CA of its clients."""

    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""

    @property
    def given(self) -> bool:
        return bool(self.cafile or self.certfile or self.keyfile)


@dataclass(frozen=True)
class RemoteOptions:
    """Leases are asked of flanneld servers. `servers` are URLs (http, https or unix), one of them used at a time."""

    servers: tuple[str, ...]
    tls: TlsOptions = TlsOptions()


StoreOptions = EtcdOptions | SqliteOptions | RemoteOptions


@dataclass(frozen=True)
class Grant:
    """What one identity may do on a server: a [policy.NAME] table of the settings file.

    `networks` are names or globs ("_" is the unnamed network), `public_ips` the IPv4 networks (base, length) that its
    leases may name besides its certificate's own addresses. `admin`: configs, reservations and other hosts' leases too.
    """

    networks: tuple[str, ...] = ("*",)
    public_ips: tuple[tuple[int, int], ...] = ()
    admin: bool = False


@dataclass(frozen=True)
class ListenOptions:
    """Server mode. `address`: what --listen said; `policy` by identity: a name in the client's certificate, "*" for any
    certificate, "anonymous" for a client without one."""

    address: Listen
    tls: TlsOptions = TlsOptions()
    policy: Mapping[str, Grant] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkOptions:
    """One network's settings. `name` is "" for the unnamed network of single-network mode. Times in seconds."""

    name: str
    iface: tuple[str, ...]
    iface_regex: tuple[str, ...]
    iface_can_reach: str
    public_ip: str
    env_file: str
    lock_file: str
    state_file: str
    renew_margin_s: int
    restart_settled_s: float
    restart_floor_s: float
    restart_cap_s: float
    liveness_timeout_s: float
    ip_masq: bool
    restore_grace_s: float


@dataclass(frozen=True)
class Options:
    """The whole daemon's settings. `multi` False: one unnamed network. `networks` in the order they were named.
    `listen` is None but for a server, which joins none of them.

    `config_file` is the file that was read, "" when there was none. `warnings` are lines for the log at the start.
    """

    multi: bool
    networks: tuple[NetworkOptions, ...]
    store: StoreOptions
    listen: ListenOptions | None
    run_dir: str
    state_dir: str
    stop_timeout_s: float
    log_format: str
    verbosity: int
    config_file: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Exit:
    """The command ends here: with help, version, or one line that says what is wrong."""

    status: int
    stdout: str = ""
    stderr: str = ""
