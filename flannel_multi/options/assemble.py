"""Flag over environment over file over default, made into `Options`; every fault is one line and an exit status."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from flannel_multi import __version__
from flannel_multi.model.subnet import parse_ip
from flannel_multi.options.argv import BadUsage, parse, seconds, truth, whole
from flannel_multi.options.flags import FLAGS, ONLY_IN_TABLES, Fate, Flag, Kind, environment_name, nearest
from flannel_multi.options.values import EXIT_CONFIG, EXIT_USAGE, Exit, NetworkOptions, Options, StoreOptions

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z", re.ASCII)
RESERVED = frozenset(("config", "subnets", "all", "_"))
Given = dict[str, list[str]]


class BadFile(Exception):
    """One line that names the file, the key and the rule."""


def read_options(
    arguments: list[str], environ: Mapping[str, str], read_file: Callable[[str], bytes | None]
) -> Options | Exit:
    """The whole of what the daemon was told. `read_file` gives None for a file that is not there, or raises OSError."""
    try:
        given = parse(arguments)
        if truth("--help", given.get("help", ["false"])[-1]):
            return Exit(0, stdout=help_text())
        if truth("--version", given.get("version", ["false"])[-1]):
            return Exit(0, stdout=f"{__version__}\n")
        warnings: list[str] = []
        given = {**_from_environment(environ, given, warnings), **given}
        top, tables = _from_file(given, read_file)
        return _assemble({**top, **given}, given, tables, warnings, read_file)
    except BadUsage as error:
        return Exit(EXIT_USAGE, stderr=f"flanneld: {error}\n")
    except BadFile as error:
        return Exit(EXIT_CONFIG, stderr=f"flanneld: {error}\n")


def help_text() -> str:
    """What --help prints: every flag that is built, then the names of those that are not."""
    lines = ["Usage: flanneld [--networks=blue,green] [--etcd-endpoints=URL,...] [flag ...]", ""]
    for flag in FLAGS.values():
        if flag.fate is Fate.BUILT:
            default = f" (default {flag.default})" if flag.default not in ("", "false") else ""
            lines += [f"  --{flag.name}  {flag.kind.value}", f"        {flag.help}{default}"]
    later = " ".join(f"--{f.name}" for f in FLAGS.values() if f.fate is Fate.LATER and f.name not in ONLY_IN_TABLES)
    lines += ["", "Every flag can be set as FLANNELD_NAME too (dashes as underscores).", f"Not built yet: {later}"]
    return "\n".join(lines) + "\n"


def _from_environment(environ: Mapping[str, str], given: Given, warnings: list[str]) -> Given:
    by_name = {environment_name(name): name for name in FLAGS if name not in ONLY_IN_TABLES}
    found: Given = {}
    for variable, value in environ.items():
        if not variable.startswith("FLANNELD_") or variable in ("FLANNELD_HELP", "FLANNELD_VERSION"):
            continue
        name = by_name.get(variable)
        if name is None:
            warnings.append(f"unknown variable {variable} ignored{nearest(variable, list(by_name))}")
        elif value and name not in given:
            found[name] = value.split(",") if FLAGS[name].kind is Kind.LIST else [value]
    return found


def _from_file(given: Given, read_file: Callable[[str], bytes | None]) -> tuple[Given, dict[str, Given]]:
    path = given.get("config", [FLAGS["config"].default])[-1]
    try:
        raw = read_file(path)
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error.strerror}") from None
    if raw is None:
        if "config" in given:
            raise BadFile(f"{path}: no such file")
        return {}, {}
    import tomllib  # only when there is a file to read

    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadFile(f"{path}: no TOML: {' '.join(str(error).split())}") from None
    networks = document.pop("networks", {})
    if not isinstance(networks, dict):
        raise BadFile(f"{path}: networks must be tables such as [networks.blue]")
    top = {name: _texts(path, name, value, tables=False) for name, value in document.items()}
    tables: dict[str, Given] = {}
    for network, table in networks.items():
        if not isinstance(table, dict):
            raise BadFile(f"{path}: networks.{network} must be a table [networks.{network}]")
        tables[network] = {n: _texts(f"{path}: [networks.{network}]", n, v, tables=True) for n, v in table.items()}
    return top, tables


def _texts(where: str, name: str, value: Any, *, tables: bool) -> list[str]:
    """A TOML value as the texts its flag would have been given."""
    allowed = [n for n, f in FLAGS.items() if f.per_network] if tables else [
        n for n in FLAGS if n not in ONLY_IN_TABLES and n not in ("config", "help", "version")
    ]  # fmt: skip
    if name not in allowed:
        raise BadFile(f"{where}: unknown key {name}{nearest(name, allowed)}")
    items = value if isinstance(value, list) else [value]
    if (isinstance(value, list) and FLAGS[name].kind is not Kind.LIST) or not items:
        raise BadFile(f"{where}: {name} takes one value")
    texts = []
    for item in items:
        if not isinstance(item, str | int | float):
            raise BadFile(f"{where}: {name} must be a string, a number or a bool")
        texts.append(str(item).lower() if isinstance(item, bool) else str(item))
    flag = FLAGS[name]
    try:
        _check(f"{where}: {name}", flag, texts[-1], [])
    except BadUsage as error:
        raise BadFile(str(error)) from None
    return texts


def _check(label: str, flag: Flag, text: str, warnings: list[str]) -> None:
    """Refuses what is not built and values of the wrong kind. Raises BadUsage."""
    match flag.fate:
        case Fate.KUBERNETES:
            raise BadUsage(f"{label} is a Kubernetes flag; this daemon works outside Kubernetes")
        case Fate.IPV6:
            raise BadUsage(f"{label} is refused: only IPv4 is supported")
        case Fate.IGNORED:
            warnings.append(f"{label} is accepted and does nothing: logs go to standard error")
        case Fate.LATER:
            same = truth(label, text) == truth(label, flag.default) if flag.kind is Kind.BOOL else text == flag.default
            if not same:
                raise BadUsage(f"{label} is not built yet")
        case Fate.BUILT:
            _check_kind(label, flag, text)


def _check_kind(label: str, flag: Flag, text: str) -> None:
    match flag.kind:
        case Kind.BOOL:
            truth(label, text)
        case Kind.SECONDS:
            seconds(label, text)
        case Kind.INT if flag.name == "subnet-lease-renew-margin":
            whole(label, text, low=1, high=1439)
        case Kind.INT:
            whole(label, text, low=0, high=100)
        case _:
            if flag.name in ("public-ip", "iface-can-reach") and text:
                try:
                    parse_ip(text)
                except ValueError as error:
                    raise BadUsage(f"{label}: {error}") from None
            if flag.name == "log-format" and text not in ("text", "json"):
                raise BadUsage(f"{label}: {text!r} is neither text nor json")
            if flag.name == "iface-regex":
                _check_regex(label, text)


def _check_regex(label: str, text: str) -> None:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadUsage(f"{label}: {text!r} is no regular expression: {error}") from None


def _assemble(
    told: Given,
    given: Given,
    tables: dict[str, Given],
    warnings: list[str],
    read_file: Callable[[str], bytes | None],
) -> Options:
    for name, texts in given.items():
        for text in texts:
            _check(f"--{name}", FLAGS[name], text, warnings)
    get = _getter(told)
    names = _names(get("networks").split(",") if "networks" in given else list(tables))
    run_dir, state_dir = get("run-dir"), get("state-dir")
    if not run_dir or not state_dir:
        raise BadUsage("--run-dir and --state-dir must name a folder")
    subnet_dir = told["subnet-dir"][-1] if "subnet-dir" in told else f"{run_dir}/networks"
    subnet_file = told["subnet-file"][-1] if "subnet-file" in told else f"{run_dir}/subnet.env"
    networks = []
    for name in names or ("",):
        table = tables.get(name, {})
        env_file = table["subnet-file"][-1] if "subnet-file" in table else f"{subnet_dir}/{name}.env"
        settings = {**told, **table, **{k: v for k, v in given.items() if k not in table}}
        networks.append(_network(name, settings, env_file if name else subnet_file, run_dir, state_dir))
    return Options(
        multi=bool(names), networks=tuple(networks), store=_store(told, read_file), run_dir=run_dir,
        state_dir=state_dir, stop_timeout_s=seconds("--stop-timeout", get("stop-timeout")),
        log_format=get("log-format"), verbosity=int(get("v")), config_file=get("config"), warnings=tuple(warnings),
    )  # fmt: skip


def _getter(told: Given) -> Callable[[str], str]:
    return lambda name: told[name][-1] if name in told else FLAGS[name].default


def _names(listed: list[str]) -> tuple[str, ...]:
    names = [name.strip() for name in listed if name.strip()]
    for at, name in enumerate(names):
        if not NAME.match(name):
            raise BadUsage(f"--networks: {name[:80]!r} is no network name (letters, digits, . _ -, at most 63)")
        if name in RESERVED:
            raise BadUsage(f"--networks: {name!r} is reserved")
        if name in names[:at]:
            raise BadUsage(f"--networks: {name!r} is listed twice")
    return tuple(names)


def _network(name: str, told: Given, env_file: str, run_dir: str, state_dir: str) -> NetworkOptions:
    get = _getter(told)

    def span(flag: str) -> float:
        return seconds(f"--{flag}", get(flag))

    return NetworkOptions(
        name=name, env_file=env_file, lock_file=f"{run_dir}/networks/{name or '_'}.lock",
        state_file=f"{state_dir}/{name or '_'}.json",
        iface=tuple(item for item in told.get("iface", ()) if item),
        iface_regex=tuple(item for item in told.get("iface-regex", ()) if item),
        iface_can_reach=get("iface-can-reach"), public_ip=get("public-ip"),
        renew_margin_s=60 * int(get("subnet-lease-renew-margin")), restart_settled_s=span("restart-settled"),
        restart_floor_s=span("restart-floor"), restart_cap_s=span("restart-cap"),
        liveness_timeout_s=span("liveness-timeout"), ip_masq=False, restore_grace_s=span("restore-grace"),
    )  # fmt: skip


def _store(told: Given, read_file: Callable[[str], bytes | None]) -> StoreOptions:
    get = _getter(told)
    endpoints = tuple(item for item in get("etcd-endpoints").split(",") if item)
    for url in endpoints:
        scheme, _, rest = url.partition("://")
        if scheme not in ("http", "https", "unix") or not rest:
            raise BadUsage(f"--etcd-endpoints: {url!r} is no URL such as http://127.0.0.1:2379")
        if "@" in rest.partition("/")[0]:
            raise BadUsage("--etcd-endpoints: no user or password in a URL; use --etcd-username")
    if not endpoints:
        raise BadUsage("--etcd-endpoints names no endpoint")
    if bool(get("etcd-keyfile")) != bool(get("etcd-certfile")):
        raise BadUsage("--etcd-keyfile and --etcd-certfile must both be given")
    password, path = get("etcd-password"), get("etcd-password-file")
    if path:
        try:
            raw = read_file(path)
        except OSError as error:
            raise BadUsage(f"--etcd-password-file {path}: {error.strerror}") from None
        if raw is None:
            raise BadUsage(f"--etcd-password-file {path}: no such file")
        password = raw.decode("utf-8", "replace").partition("\n")[0].rstrip("\r")
    prefix = "/" + "/".join(part for part in get("etcd-prefix").split("/") if part)
    return StoreOptions(
        endpoints,
        prefix,
        get("etcd-cafile"),
        get("etcd-certfile"),
        get("etcd-keyfile"),
        get("etcd-username"),
        password,
    )
