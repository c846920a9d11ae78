"""The [policy.NAME] tables of the settings file: what an identity may do on a server."""

from __future__ import annotations

from typing import Any

from flannel_multi.model.subnet import Subnet
from flannel_multi.options.flags import nearest
from flannel_multi.options.told import Fault, one_line, quoted
from flannel_multi.options.values import EXIT_CONFIG, Grant

KEYS = ("networks", "public-ips", "admin")


def read_policy(path: str, tables: Any) -> dict[str, Grant]:
    """One grant for each identity. Raises Fault."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise Fault(f"{path}: policy must be tables such as [policy.web-1]", EXIT_CONFIG)
    return {name: _grant(f"{path}: [policy.{one_line(name)[:60]}]", table) for name, table in tables.items()}


def _grant(where: str, table: dict[str, Any]) -> Grant:
    for key in table:
        if key not in KEYS:
            raise Fault(f"{where}: unknown key {one_line(key)[:80]}{nearest(key, KEYS)}", EXIT_CONFIG)
    admin = table.get("admin", False)
    if not isinstance(admin, bool):
        raise Fault(f"{where} admin: expected true or false", EXIT_CONFIG)
    addresses = []
    for text in _texts(where, table, "public-ips", []):
        try:
            subnet = Subnet.parse(text if "/" in text else f"{text}/32")
        except ValueError:
            raise Fault(
                f"{where} public-ips: {quoted(text)} is neither an IPv4 address nor a CIDR", EXIT_CONFIG
            ) from None
        addresses.append((subnet.base, subnet.length))
    return Grant(tuple(_texts(where, table, "networks", ["*"])), tuple(addresses), admin)


def _texts(where: str, table: dict[str, Any], key: str, default: list[str]) -> list[str]:
    value = table.get(key, default)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Fault(f"{where} {key}: expected a list of strings", EXIT_CONFIG)
    return value
