"""Which store the daemon was told to use, and what a server was told: from settings to options."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flannel_multi.options.checks import endpoints, servers
from flannel_multi.options.listen import parse_listen
from flannel_multi.options.settings_file import ReadFile
from flannel_multi.options.store_url import parse_store_url
from flannel_multi.options.told import Settings, Told
from flannel_multi.options.values import EtcdOptions, Grant, ListenOptions, RemoteOptions, StoreOptions, TlsOptions

Get = Callable[[Settings, str], Told]


def store_of(told: Settings, get: Get, read_file: ReadFile, warnings: list[str]) -> StoreOptions:
    """--remote, or else --store. Raises Fault."""
    etcd, tls = _etcd(told, get, read_file, warnings), _tls(told, get)
    remote, store = get(told, "remote"), get(told, "store")
    if remote.last and "store" in told:
        if remote.rank is store.rank:
            raise remote.fault("give this or store, not both")
        if store.rank > remote.rank:
            remote = Told(("",), remote.where, remote.rank)
    if remote.last:
        try:
            return RemoteOptions(servers(remote.last, secure=tls.given), tls)
        except ValueError as error:
            raise remote.fault(str(error)) from None
    try:
        return parse_store_url(store.last, etcd=etcd, tls=tls)
    except ValueError as error:
        raise store.fault(str(error)) from None


def listen_of(
    told: Settings, get: Get, store: StoreOptions, policy: Mapping[str, Grant], warnings: list[str]
) -> ListenOptions | None:
    """What a server was told, None when this is none. Raises Fault."""
    listen = get(told, "listen")
    if not listen.last:
        return None
    if isinstance(store, RemoteOptions):
        raise listen.fault("a server has a store of its own; it goes with --store, not with --remote")
    tls = _tls(told, get)
    if tls.cafile and not tls.certfile:
        warnings.append("--remote-cafile without --remote-certfile is not used: the server speaks plain HTTP")
    named = sorted(name for name in policy if name != "anonymous")
    if named and not (tls.certfile and tls.cafile):
        warnings.append(
            f"[policy.{named[0]}] is not used: without --remote-certfile and --remote-cafile every client is anonymous"
        )
    try:
        return ListenOptions(parse_listen(listen.last), tls, policy)
    except ValueError as error:
        raise listen.fault(str(error)) from None


def _tls(told: Settings, get: Get) -> TlsOptions:
    keyfile, certfile = get(told, "remote-keyfile"), get(told, "remote-certfile")
    _together(keyfile, certfile, "remote")
    return TlsOptions(cafile=get(told, "remote-cafile").last, certfile=certfile.last, keyfile=keyfile.last)


def _etcd(told: Settings, get: Get, read_file: ReadFile, warnings: list[str]) -> EtcdOptions:
    keyfile, certfile = get(told, "etcd-keyfile"), get(told, "etcd-certfile")
    _together(keyfile, certfile, "etcd")
    username, password = get(told, "etcd-username").last, _password(told, get, read_file)
    if password and not username:
        warnings.append("an etcd password without --etcd-username is not used")
    return EtcdOptions(
        endpoints=endpoints(get(told, "etcd-endpoints").last),
        prefix="".join(f"/{part}" for part in get(told, "etcd-prefix").last.split("/") if part),
        cafile=get(told, "etcd-cafile").last,
        certfile=certfile.last,
        keyfile=keyfile.last,
        username=username,
        password=password,
    )


def _together(keyfile: Told, certfile: Told, whose: str) -> None:
    if bool(keyfile.last) != bool(certfile.last):
        one, other = (keyfile, "certfile") if keyfile.last else (certfile, "keyfile")
        raise one.fault(f"key and certificate go together; give --{whose}-{other} too")


def _password(told: Settings, get: Get, read_file: ReadFile) -> str:
    """The one that the higher source gave, itself or by a file. Raises Fault."""
    said, file = get(told, "etcd-password"), get(told, "etcd-password-file")
    if not file.last or (said.last and said.rank > file.rank):
        return said.last
    if said.last and said.rank is file.rank:
        raise file.fault("give this or etcd-password, not both")
    try:
        raw = read_file(file.last)
    except OSError as error:
        raise file.fault(f"{file.last}: {error.strerror or error}") from None
    if raw is None:
        raise file.fault(f"{file.last}: no such file")
    line = raw.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise file.fault(f"{file.last}: its first line is empty")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise file.fault(f"{file.last}: its first line is not UTF-8") from None
