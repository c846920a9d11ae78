"""The TOML file: settings of the daemon at the top, one [networks.NAME] table for each network, in order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from flannel_multi.model.names import NAME, RESERVED
from flannel_multi.options.checks import check_fate, check_kind
from flannel_multi.options.flags import (
    AT_TOP_OF_FILE,
    FLAGS,
    IN_TABLES,
    MEANT,
    ONLY_IN_TABLES,
    Fate,
    Flag,
    Kind,
    nearest,
)
from flannel_multi.options.policy_tables import read_policy
from flannel_multi.options.told import Fault, Rank, Settings, Told, one_line, quoted
from flannel_multi.options.values import EXIT_CONFIG, Grant

ReadFile = Callable[[str], bytes | None]
_EXPECTED = {
    Kind.BOOL: "true or false",
    Kind.INT: "an integer",
    Kind.SECONDS: 'a number of seconds, or a text such as "10s"',
    Kind.STRING: "a string",
    Kind.LIST: "a string or a list of strings",
}


def bad_name(name: str) -> str:
    """Why `name` is no network name (flannel behaviour §0), "" when it is one."""
    if name in RESERVED:
        return f"{quoted(name)} is reserved"
    if not NAME.match(name):
        return f"{quoted(name)} is no network name (letters, digits, . _ -, at most 63, none of . _ - first)"
    return ""


class SettingsFile(NamedTuple):
    """Settings at the top, those of each network, and a server's policy by identity."""

    top: Settings
    networks: dict[str, Settings]
    policy: dict[str, Grant]


def read_settings_file(path: str, read_file: ReadFile, warnings: list[str]) -> SettingsFile | None:
    """None when there is no such file. Raises Fault."""
    try:
        raw = read_file(path)
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {error.strerror or error}", EXIT_CONFIG) from None
    if raw is None:
        return None
    document = _document(path, raw)
    networks, policy = document.pop("networks", {}), read_policy(path, document.pop("policy", {}))
    if not isinstance(networks, dict):
        raise Fault(f"{path}: networks must be tables such as [networks.blue]", EXIT_CONFIG)
    top = {name: _setting(f"{path}:", name, value, AT_TOP_OF_FILE, warnings) for name, value in document.items()}
    tables: dict[str, Settings] = {}
    for network, table in networks.items():
        if why := bad_name(network):
            raise Fault(f"{path}: networks: {why}", EXIT_CONFIG)
        where = f"{path}: [networks.{network}]"
        if not isinstance(table, dict):
            raise Fault(f"{path}: networks.{network} must be a table [networks.{network}]", EXIT_CONFIG)
        tables[network] = {name: _setting(where, name, value, IN_TABLES, warnings) for name, value in table.items()}
    return SettingsFile(top, tables, policy)


def _document(path: str, raw: bytes) -> dict[str, Any]:
    import tomllib  # only when there is a file to read

    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Fault(f"{path}: no TOML: byte {error.start} is not UTF-8", EXIT_CONFIG) from None
    except RecursionError:
        raise Fault(f"{path}: no TOML: nested too deeply", EXIT_CONFIG) from None
    except ValueError as error:  # also what int() says of 5,000 digits
        raise Fault(f"{path}: no TOML: {' '.join(str(error).split())}", EXIT_CONFIG) from None


def _setting(where: str, name: str, value: Any, allowed: tuple[str, ...], warnings: list[str]) -> Told:
    """A TOML value as the texts its flag would have been given. Raises Fault."""
    if name not in allowed:
        if name in (AT_TOP_OF_FILE if allowed is IN_TABLES else IN_TABLES):
            hint = f"; it stands {'at the top of the file' if allowed is IN_TABLES else 'in [networks.NAME]'}"
        else:
            known = [item for item in allowed if item in MEANT or item in ONLY_IN_TABLES]
            hint = nearest(name, known if allowed is IN_TABLES else [*known, "networks", "policy"])
        raise Fault(f"{where.removesuffix(':')}: unknown key {one_line(name)[:80]}{hint}", EXIT_CONFIG)
    flag = FLAGS[name]
    items = value if flag.kind is Kind.LIST and isinstance(value, list) else [value]
    told = Told(tuple(_text(where, flag, item) for item in items), f"{where} {name}", Rank.FILE)
    check_kind(flag, told)
    if warning := check_fate(flag, told):
        warnings.append(warning)
    return told


def _text(where: str, flag: Flag, item: Any) -> str:
    match flag.kind, item:
        case Kind.BOOL, bool():
            return "true" if item else "false"
        case ((Kind.INT | Kind.SECONDS), int()) if not isinstance(item, bool) and abs(item) < 10**9:
            return str(item)
        case Kind.SECONDS, float() if math.isfinite(item) and abs(item) < 10**9:
            return f"{item:f}"
        case ((Kind.SECONDS | Kind.STRING | Kind.LIST), str()):
            return item
        case _ if flag.fate is Fate.LATER:
            raise Fault(f"{where} {flag.name}: not built yet", EXIT_CONFIG)
        case _:
            raise Fault(f"{where} {flag.name}: expected {_EXPECTED[flag.kind]}", EXIT_CONFIG)
