"""What a value may be: its kind, and whether its flag is built. Pure, one line for each refusal."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

from flannel_multi.model.subnet import parse_ip
from flannel_multi.options.flags import FLAGS, Fate, Flag, Kind, nearest
from flannel_multi.options.told import Told, quoted

TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
LONGEST_S = 31_536_000.0  # a year: more is a slip of the unit
SERVER_PORT = 8888  # where a server is looked for that is named without one
INTERFACE_BYTES = 15  # IFNAMSIZ less its NUL
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|)\Z", re.ASCII)
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def truth(text: str) -> bool:
    """A bool as Go reads it. Raises ValueError."""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(f"{quoted(text)} is no bool; use true or false")


def whole(text: str, *, low: int, high: int) -> int:
    """An integer within bounds. Raises ValueError."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10 and low <= int(text) <= high):
        raise ValueError(f"{quoted(text)} is no integer from {low} to {high}")
    return int(text)


def seconds(text: str) -> float:
    """A duration: a number of seconds, or with a unit as `500ms`, `10s`, `2m`, `1h`. Raises ValueError."""
    found = _DURATION.match(text)
    value_s = float(found[1]) * _UNITS_S[found[2]] if found else 0.0
    if not 0 < value_s <= LONGEST_S:
        raise ValueError(f"{quoted(text)} is no duration above zero such as 10, 500ms, 10s or 2m")
    return value_s


def endpoints(text: str) -> tuple[str, ...]:
    """The URLs in comma-separated `text` (flannel behaviour §1.1). Raises ValueError, without a secret in it."""
    urls = tuple(item for item in text.split(",") if item)
    for url in urls:
        if "@" in url:
            raise ValueError("a user or password does not belong in a URL; use --etcd-username")
        try:
            parts = urlsplit(url)
            named = parts.hostname if parts.scheme in ("http", "https") else parts.netloc + parts.path
            sound = parts.scheme in ("http", "https", "unix") and bool(named) and parts.port != 0
            if parts.scheme in ("http", "https"):
                sound = sound and url.isascii() and " " not in url and parts.path in ("", "/")
                sound = sound and not parts.query and not parts.fragment
        except ValueError:  # a port that is no number, a bracket that does not close
            sound = False
        if not sound or not url.isprintable():
            raise ValueError(f"{quoted(url)} is no URL such as http://127.0.0.1:2379")
    if not urls:
        raise ValueError("no endpoint; give a URL such as http://127.0.0.1:2379")
    return urls


def servers(text: str, *, secure: bool) -> tuple[str, ...]:
    """The URLs of flanneld servers in comma-separated `text`: HOST:PORT as flannel has it, with https where `secure`,
    or with a scheme of its own. Raises ValueError."""
    urls = []
    for item in (part.strip() for part in text.split(",")):
        if not item:
            continue
        if "://" not in item:
            item = f"{'https' if secure else 'http'}://{item}"
        if item.startswith("http://") and secure:
            raise ValueError(f"{quoted(item)} is plain HTTP, and --remote-* names TLS files; drop one of them")
        (url,) = endpoints(item)
        if url.partition("://")[0] != "unix" and urlsplit(url).port is None:
            url = f"{url.rstrip('/')}:{SERVER_PORT}"
        urls.append(url)
    if not urls:
        raise ValueError("no server; give one such as 192.0.2.1:8888")
    return tuple(urls)


def check_kind(flag: Flag, told: Told) -> None:
    """Refuses values that the flag cannot mean, built or not. Raises Fault."""
    for text in told.texts:
        try:
            _check_text(flag, text)
        except ValueError as error:
            raise told.fault(str(error)) from None


def check_fate(flag: Flag, told: Told) -> str:
    """One line of warning for a flag that does nothing, else "". Raises Fault for what is refused."""
    match flag.fate:
        case Fate.KUBERNETES:
            raise told.fault("a flag for Kubernetes; this daemon works outside of it")
        case Fate.IPV6:
            raise told.fault("refused, only IPv4 is supported")
        case Fate.IGNORED:
            return f"{told.where} is accepted and does nothing: all logs go to standard error"
        case Fate.LATER if not all(_is_default(flag, text) for text in told.texts):
            raise told.fault("not built yet")
        case _:
            return ""


def _is_default(flag: Flag, text: str) -> bool:
    match flag.kind:
        case Kind.BOOL:
            return truth(text) is truth(flag.default)
        case Kind.INT:
            return int(text) == int(flag.default)
        case _:
            return text == flag.default


def _check_text(flag: Flag, text: str) -> None:
    if "\0" in text:
        raise ValueError("a value holds no NUL")
    match flag.kind:
        case Kind.BOOL:
            truth(text)
        case Kind.SECONDS:
            seconds(text)
        case Kind.INT:
            whole(text, low=flag.low, high=flag.high)
        case _ if flag.fate is Fate.BUILT:
            _check_meaning(flag.name, text)


def _check_meaning(name: str, text: str) -> None:
    match name:
        case "public-ip" | "iface-can-reach" if text:
            parse_ip(text)
        case "iface":
            for item in text.split(","):
                _check_interface(item)
        case "iface-regex":
            _check_regex(text)
        case "log-format" if text not in ("text", "json"):
            raise ValueError(f"{quoted(text)} is neither text nor json{nearest(text, ('text', 'json'))}")
        case "etcd-endpoints":
            endpoints(text)
        case "run-dir" | "state-dir" | "subnet-dir" | "subnet-file" if not text:
            raise ValueError("a path is missing; the default is " + FLAGS[name].default)


def _check_interface(text: str) -> None:
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        pass
    else:
        raise ValueError(f"{quoted(text)} is an IPv6 address; only IPv4 is supported")
    name = text.encode("utf-8", "surrogateescape")
    if len(name) > INTERFACE_BYTES or "/" in text or any(char.isspace() for char in text):
        raise ValueError(f"{quoted(text)} is neither an IPv4 address nor an interface name")


def _check_regex(text: str) -> None:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set" is about a Python to come
            re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{quoted(text)} is no regular expression: {error}") from None
