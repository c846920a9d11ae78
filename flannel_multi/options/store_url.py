"""A store by its URL, as --store and flannelctl take it. Pure.

etcd                           what the --etcd-* settings say
etcd://h1:2379,h2:2379/prefix  etcd at these members; etcds:// with TLS
sqlite:///var/lib/flannel.db   a file of this host
http://h1:8888,h2:8888         flanneld servers, of which one at a time is used; https:// with TLS
unix:///run/flannel/v1.sock    a flanneld server of this host
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from flannel_multi.options.checks import SERVER_PORT, endpoints
from flannel_multi.options.told import quoted
from flannel_multi.options.values import EtcdOptions, RemoteOptions, SqliteOptions, StoreOptions, TlsOptions

FORMS = "etcd, etcd://HOST:2379/PREFIX, etcds://…, sqlite:///PATH, http://HOST:8888, https://… or unix:///PATH"
ETCD_PORT = 2379


def parse_store_url(text: str, *, etcd: EtcdOptions, tls: TlsOptions) -> StoreOptions:
    """The store that `text` names. `etcd` and `tls` say what a URL has no place for: files, user and password, and the
    etcd prefix when the URL has no path. Raises ValueError, without a secret in it."""
    if text == "etcd":
        return etcd
    scheme, colon, rest = text.partition("://")
    if not colon:
        raise ValueError(f"{quoted(text)} is no store; give {FORMS}")
    if not text.isprintable():
        raise ValueError(f"{quoted(text)} holds a character that no URL has")
    match scheme:
        case "etcd" | "etcds":
            return _etcd("https" if scheme == "etcds" else "http", rest, etcd)
        case "sqlite":
            return SqliteOptions(_path(text, rest))
        case "unix":
            return RemoteOptions((f"unix://{_path(text, rest)}",))
        case "http" | "https":
            return RemoteOptions(_servers(text, scheme, rest), tls if scheme == "https" else TlsOptions())
    raise ValueError(f"{quoted(scheme + '://')} is no kind of store; give {FORMS}")


def _etcd(scheme: str, rest: str, etcd: EtcdOptions) -> EtcdOptions:
    hosts, slash, path = rest.partition("/")
    urls = []
    for host in hosts.split(","):
        url = endpoints(f"{scheme}://{host}")[0] if host else _no_host("etcd://")
        urls.append(_with_port(url, ETCD_PORT))
    prefix = "".join(f"/{part}" for part in path.split("/") if part) if slash else etcd.prefix
    return replace(etcd, endpoints=tuple(urls), prefix=prefix)


def _servers(text: str, scheme: str, rest: str) -> tuple[str, ...]:
    """Of a list every item may bear the scheme again; two schemes do not mix."""
    urls = []
    for item in rest.split(","):
        host = item.removeprefix(f"{scheme}://").removesuffix("/")
        if "://" in host:
            raise ValueError(f"{quoted(text)} mixes two schemes; servers of one list have one")
        if "@" in host:
            raise ValueError("a user or password does not belong in a URL; servers know a client by its certificate")
        if "/" in host:
            raise ValueError(f"{quoted(text)} has a path; a server's URL ends with its port")
        url = endpoints(f"{scheme}://{host}")[0] if host else _no_host(f"{scheme}://")
        urls.append(_with_port(url, SERVER_PORT))
    return tuple(urls)


def _path(text: str, rest: str) -> str:
    """Taken as it is, without percent-decoding: a file's name may hold any character."""
    if not rest.startswith("/"):
        raise ValueError(f"{quoted(text)} has no absolute path; write three slashes, as in sqlite:///var/lib/x")
    if rest.endswith("/"):
        raise ValueError(f"{quoted(text)} names a folder; give the path of a file")
    return rest


def _with_port(url: str, usual: int) -> str:
    return url if urlsplit(url).port else f"{url.rstrip(':')}:{usual}"


def _no_host(scheme: str) -> str:
    raise ValueError(f"a host is missing after {scheme}")
