"""The one table of flags: every name flannel ever had, what it means here, and whether it is built."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple


class Kind(enum.Enum):
    STRING = "string"
    LIST = "string, repeatable"
    BOOL = "bool"
    INT = "int"
    SECONDS = "duration"


class Fate(enum.Enum):
    """What happens to a flag that is given."""

    BUILT = "built"
    LATER = "not built yet"  # refused, unless the value is the default
    IGNORED = "ignored"  # accepted with one warning
    KUBERNETES = "kubernetes"
    IPV6 = "ipv6"


class Flag(NamedTuple):
    """`low` and `high` bound an int."""

    name: str
    kind: Kind
    default: str
    help: str
    fate: Fate = Fate.BUILT
    per_network: bool = False
    low: int = 0
    high: int = 100


_S, _L, _B, _I, _T = Kind.STRING, Kind.LIST, Kind.BOOL, Kind.INT, Kind.SECONDS
GROUPS = {  # the built ones, as --help and the manual show them
    "Networks": (
        Flag("networks", _S, "", "comma-separated names of the networks to join; empty: one unnamed network"),
        Flag("config", _S, "/etc/flannel/flanneld.toml", "settings file (TOML)"),
    ),
    "Store": (
        Flag("store", _S, "etcd", "where leases live: etcd, etcd://HOST:2379/PREFIX, sqlite:///PATH, http://HOST:8888"),
        Flag("remote", _S, "", "comma-separated flanneld servers to use instead of a store, HOST:8888,..."),
        Flag("etcd-endpoints", _S, "http://127.0.0.1:4001,http://127.0.0.1:2379", "comma-separated etcd URLs"),
        Flag("etcd-prefix", _S, "/coreos.com/network", "key prefix in etcd"),
        Flag("etcd-keyfile", _S, "", "client TLS key for etcd"),
        Flag("etcd-certfile", _S, "", "client TLS certificate for etcd"),
        Flag("etcd-cafile", _S, "", "CA that signed etcd's certificate"),
        Flag("etcd-username", _S, "", "etcd user"),
        Flag("etcd-password", _S, "", "etcd password; better in --etcd-password-file"),
        Flag("etcd-password-file", _S, "", "file whose first line is the etcd password"),
        Flag(
            "subnet-lease-renew-margin", _I, "60", "minutes before its end to renew a lease, 1 to 1439",
            per_network=True, low=1, high=1439,
        ),
        Flag("restore-grace", _T, "10m", "how long what a restored store lacks is kept", per_network=True),
    ),
    "Server": (
        Flag("listen", _S, "", "serve leases over HTTP and join no network: 0.0.0.0:8888, [::]:8888, fd://, unix:///PATH"),
        Flag("remote-keyfile", _S, "", "TLS key, of the server or its client"),
        Flag("remote-certfile", _S, "", "TLS certificate, of the server or its client"),
        Flag("remote-cafile", _S, "", "CA of the other side; with it a server wants client certificates"),
    ),
    "Interface between hosts": (
        Flag("iface", _L, "", "interface, by name or IP; the first that fits", per_network=True),
        Flag("iface-regex", _L, "", "regular expression for addresses, then names", per_network=True),
        Flag("iface-can-reach", _S, "", "the interface that reaches this IP", per_network=True),
        Flag("public-ip", _S, "", "IP that other hosts reach this one by", per_network=True),
    ),
    "Files": (
        Flag("run-dir", _S, "/run/flannel", "folder of env files and locks"),
        Flag("state-dir", _S, "/var/lib/flannel", "folder of the last known states"),
        Flag("subnet-file", _S, "/run/flannel/subnet.env", "env file of the unnamed network", per_network=True),
        Flag("subnet-dir", _S, "/run/flannel/networks", "folder of the env files NAME.env"),
    ),
    "Worker processes": (
        Flag("restart-settled", _T, "5s", "a worker ready for so long restarts at once", per_network=True),
        Flag("restart-floor", _T, "0.5s", "shortest wait before a restart that follows another", per_network=True),
        Flag("restart-cap", _T, "60s", "longest wait before a restart", per_network=True),
        Flag("liveness-timeout", _T, "10s", "a worker without progress for so long is hung", per_network=True),
        Flag("stop-timeout", _T, "10s", "a worker that takes longer to stop is killed"),
    ),
    "Log and help": (
        Flag("log-format", _S, "text", "text or json"),
        Flag("v", _I, "0", "verbosity of debug lines"),
        Flag("version", _B, "false", "print the version and exit"),
        Flag("help", _B, "false", "print this and exit"),
    ),
}  # fmt: skip
_LATER = (
    Flag("ip-masq", _B, "false", "masquerade traffic that leaves the network", Fate.LATER, per_network=True),
    Flag("watch-networks", _B, "false", "follow networks that come and go", Fate.LATER),
    Flag("healthz-ip", _S, "0.0.0.0", "address of the health server", Fate.LATER),
    Flag("healthz-port", _I, "0", "port of the health server, 0: none", Fate.LATER, high=65535),
    Flag("iptables-resync", _I, "5", "seconds between looks at firewall rules", Fate.LATER, high=86400),
    Flag("iptables-forward-rules", _B, "true", "accept forwarded traffic of the network", Fate.LATER),
    Flag("ip-masq-fully-random-disable", _B, "false", "masquerade without random ports", Fate.LATER),
    Flag("ip-blackhole-route", _B, "false", "keep a blackhole route for the own subnet", Fate.LATER),
    Flag("cleanup", _B, "false", "remove everything a stopped daemon left", Fate.LATER),
    Flag("mtu", _I, "0", "MTU of the uplink for this network", Fate.LATER, per_network=True, high=65535),
    Flag("memory-max", _S, "", "memory limit of the worker", Fate.LATER, per_network=True),
    Flag("log-level", _S, "", "verbosity of this network", Fate.LATER, per_network=True),
)
_OTHERS = (
    Flag("logtostderr", _B, "true", "", Fate.IGNORED),
    Flag("alsologtostderr", _B, "false", "", Fate.IGNORED),
    Flag("log_dir", _S, "", "", Fate.IGNORED),
    Flag("stderrthreshold", _S, "", "", Fate.IGNORED),
    Flag("vmodule", _S, "", "", Fate.IGNORED),
    Flag("log_backtrace_at", _S, "", "", Fate.IGNORED),
    Flag("kube-subnet-mgr", _B, "false", "", Fate.KUBERNETES),
    Flag("kube-api-url", _S, "", "", Fate.KUBERNETES),
    Flag("kubeconfig-file", _S, "", "", Fate.KUBERNETES),
    Flag("kube-annotation-prefix", _S, "flannel.alpha.coreos.com", "", Fate.KUBERNETES),
    Flag("net-config-path", _S, "/etc/kube-flannel/net-conf.json", "", Fate.KUBERNETES),
    Flag("set-node-network-unavailable", _B, "true", "", Fate.KUBERNETES),
    Flag("public-ipv6", _S, "", "", Fate.IPV6),
)

FLAGS = {flag.name: flag for flag in (*(flag for group in GROUPS.values() for flag in group), *_LATER, *_OTHERS)}
ONLY_IN_TABLES = frozenset(("mtu", "memory-max", "log-level"))  # of a network in the file; no flags of the daemon
ON_COMMAND_LINE = tuple(name for name in FLAGS if name not in ONLY_IN_TABLES)
AT_TOP_OF_FILE = tuple(name for name in ON_COMMAND_LINE if name not in ("networks", "config", "help", "version"))
MEANT = tuple(n for n in ON_COMMAND_LINE if FLAGS[n].fate in (Fate.BUILT, Fate.LATER))  # what a misspelling may mean
IN_TABLES = tuple(name for name, flag in FLAGS.items() if flag.per_network)


def environment_name(flag: str) -> str:
    """`FLANNELD_` and the flag in capitals (flannel behaviour §1.1)."""
    return "FLANNELD_" + flag.upper().replace("-", "_")


def nearest(name: str, among: Iterable[str]) -> str:
    """`; did you mean X?`, with X the valid name that is most like `name`."""
    import difflib  # a misspelling is the one time it is needed

    matcher = difflib.SequenceMatcher(b=name[:80])

    def likeness(candidate: str) -> float:
        matcher.set_seq1(candidate)
        return matcher.ratio()

    return f"; did you mean {max(among, key=likeness)}?"
