"""Flag over environment over file over default, made into `Options`; every fault is one line and an exit status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flannel_multi import __version__
from flannel_multi.options.argv import parse
from flannel_multi.options.checks import check_fate, check_kind, seconds, truth
from flannel_multi.options.flags import FLAGS, MEANT, ON_COMMAND_LINE, Kind, environment_name, nearest
from flannel_multi.options.manual import help_text
from flannel_multi.options.settings_file import ReadFile, bad_name, read_settings_file
from flannel_multi.options.stores import listen_of, store_of
from flannel_multi.options.told import Fault, Rank, Settings, Told, one_line
from flannel_multi.options.values import EXIT_CONFIG, Exit, NetworkOptions, Options

LONGEST_LINE = 400  # characters of a message
WITHOUT_EFFECT = frozenset(("FLANNELD_HELP", "FLANNELD_VERSION"))  # looked at before the environment, as in flannel


def read_options(arguments: Sequence[str], environ: Mapping[str, str], read_file: ReadFile) -> Options | Exit:
    """The whole of what the daemon was told. `read_file` gives None for a file that is not there, or raises OSError."""
    try:
        return _read(arguments, environ, read_file)
    except Fault as fault:
        line = one_line(f"flanneld: {fault}")
        return Exit(
            fault.status, stderr=(line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 3] + "...") + "\n"
        )


def _read(arguments: Sequence[str], environ: Mapping[str, str], read_file: ReadFile) -> Options | Exit:
    given = parse(arguments)
    for name, told in given.items():
        check_kind(FLAGS[name], told)
    if truth(_get(given, "help").last):
        return Exit(0, stdout=help_text())
    if truth(_get(given, "version").last):
        return Exit(0, stdout=f"{__version__}\n")
    warnings: list[str] = []
    given = {**_from_environment(environ, given, warnings), **given}
    for name, told in given.items():
        if warning := check_fate(FLAGS[name], told):
            warnings.append(warning)
    path = _get(given, "config").last
    found = read_settings_file(path, read_file, warnings) if path else None
    if found is None and path and "config" in given:
        raise Fault(f"{path}: no such file", EXIT_CONFIG)
    top, tables, policy = found or ({}, {}, {})
    told_all = {**top, **given}
    names = _names(given["networks"]) if "networks" in given else tuple(tables)
    networks = _networks(names, top, tables, given, warnings)
    store = store_of(told_all, _get, read_file, warnings)
    listen = listen_of(told_all, _get, store, policy, warnings)
    if listen is not None and "networks" in given and names:
        warnings.append(f"{given['networks'].where} is not used: a server joins no network")
    return Options(
        multi=bool(names), networks=networks, store=store, listen=listen,
        run_dir=_folder(told_all, "run-dir") or "/", state_dir=_folder(told_all, "state-dir") or "/",
        stop_timeout_s=seconds(_get(told_all, "stop-timeout").last), log_format=_get(told_all, "log-format").last,
        verbosity=int(_get(told_all, "v").last), config_file=path if found else "",
        warnings=tuple(one_line(line) for line in warnings),
    )  # fmt: skip


def _get(settings: Settings, name: str) -> Told:
    return settings.get(name) or Told((FLAGS[name].default,), f"--{name}", Rank.DEFAULT)


def _folder(settings: Settings, name: str) -> str:
    """Without its slash at the end, so "" for the root."""
    return _get(settings, name).last.rstrip("/")


def _from_environment(environ: Mapping[str, str], given: Settings, warnings: list[str]) -> Settings:
    """An empty variable counts as unset, and one whose flag was given is not looked at (flannel behaviour §1.5)."""
    by_variable = {environment_name(name): name for name in ON_COMMAND_LINE}
    found: Settings = {}
    for variable, value in environ.items():
        if not variable.startswith("FLANNELD_") or variable in WITHOUT_EFFECT:
            continue
        name = by_variable.get(variable)
        if name is None:
            warnings.append(
                f"unknown variable {variable[:80]} ignored{nearest(variable, map(environment_name, MEANT))}"
            )
        elif value and name not in given:
            found[name] = Told((value,), variable, Rank.ENVIRONMENT)
            check_kind(FLAGS[name], found[name])
    return found


def _names(told: Told) -> tuple[str, ...]:
    names = [name.strip() for name in told.last.split(",") if name.strip()]
    for at, name in enumerate(names):
        if why := bad_name(name):
            raise told.fault(why)
        if name in names[:at]:
            raise told.fault(f"{name!r} is listed twice")
    return tuple(names)


def _networks(
    names: tuple[str, ...], top: Settings, tables: dict[str, Settings], given: Settings, warnings: list[str]
) -> tuple[NetworkOptions, ...]:
    host = {**top, **given}
    run_dir, state_dir = _folder(host, "run-dir"), _folder(host, "state-dir")
    if not names:
        env_file = host["subnet-file"].last if "subnet-file" in host else f"{run_dir}/subnet.env"
        return (_network("", host, env_file, run_dir, state_dir),)
    if "subnet-file" in host:
        warnings.append(f"{host['subnet-file'].where} is for the unnamed network only; named ones follow --subnet-dir")
    subnet_dir = _folder(host, "subnet-dir") if "subnet-dir" in host else f"{run_dir}/networks"
    networks = []
    for name in names:
        table = tables.get(name, {})
        env_file = table["subnet-file"].last if "subnet-file" in table else f"{subnet_dir}/{name}.env"
        networks.append(_network(name, {**top, **table, **given}, env_file, run_dir, state_dir))
    return tuple(networks)


def _network(name: str, told: Settings, env_file: str, run_dir: str, state_dir: str) -> NetworkOptions:
    def span(flag: str) -> float:
        return seconds(_get(told, flag).last)

    def items(flag: str) -> tuple[str, ...]:
        assert FLAGS[flag].kind is Kind.LIST
        return tuple(text for text in _get(told, flag).texts if text)

    floor, cap = _get(told, "restart-floor"), _get(told, "restart-cap")
    if span("restart-floor") > span("restart-cap"):
        raise max(floor, cap, key=lambda one: one.rank).fault(
            f"the shortest wait between restarts, {floor.last}, is above the longest, {cap.last}"
        )
    return NetworkOptions(
        name=name, env_file=env_file, lock_file=f"{run_dir}/networks/{name or '_'}.lock",
        state_file=f"{state_dir}/{name or '_'}.json",
        iface=tuple(one for text in items("iface") for one in text.split(",") if one),
        iface_regex=items("iface-regex"),
        iface_can_reach=_get(told, "iface-can-reach").last, public_ip=_get(told, "public-ip").last,
        renew_margin_s=60 * int(_get(told, "subnet-lease-renew-margin").last),
        restart_settled_s=span("restart-settled"), restart_floor_s=span("restart-floor"),
        restart_cap_s=span("restart-cap"), liveness_timeout_s=span("liveness-timeout"), ip_masq=False,
        restore_grace_s=span("restore-grace"),
    )  # fmt: skip
