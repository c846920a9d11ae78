"""The network config JSON: what flannel accepts, minus what it should have refused (spec §2 and §0).

`parse_config` is total over bytes: whatever stands in the key gives a `NetworkConfig` or one `ConfigError` whose
text names the key of the document, its value and the rule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NoReturn

from flannel_multi.model.errors import ConfigError
from flannel_multi.model.shown import Float, show
from flannel_multi.model.subnet import Subnet, format_ip, mask_of, parse_ip

NO_ADDRESS = "Invalid IP address format"  # flannel's words
MAX_BYTES = 1 << 20  # larger than etcd's own request limit of 1.5 MiB would matter for; a config has 200


@dataclass(frozen=True)
class NetworkConfig:
    """A valid config. `subnet_min` and `subnet_max` are the base addresses of the first and last subnet to lease.

    `backend_type` is lower-cased; `backend` holds the backend's keys lower-cased, as they match in any letter case.
    `warnings` are one line each, for what was accepted though odd.
    """

    network: Subnet
    subnet_len: int
    subnet_min: int
    subnet_max: int
    backend_type: str
    backend: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()


def parse_config(raw: bytes) -> NetworkConfig:
    """The config in `raw`. Raises ConfigError."""
    document = _document(raw)
    layout = _layout(document)
    kind, backend = _backend(document)
    return replace(layout, backend_type=kind, backend=MappingProxyType(backend))


def parse_layout(raw: bytes) -> NetworkConfig:
    """As `parse_config`, but for the backend, which a server passes on and does not read: also one that no host could
    run, such as null (spec §6.3). Raises ConfigError."""
    document = _document(raw)
    backend = document.get("backend")
    kind = backend.get("type", "") if type(backend) is _Folded else ""
    if not isinstance(backend, dict | None) or not isinstance(kind, str | None):
        raise ConfigError(
            f"Backend is {show(backend)}, expected an object with a Type that is a name",
            "error decoding Backend property of config: json: cannot unmarshal it",
        )
    return _layout(document)


def _layout(document: dict[str, Any]) -> NetworkConfig:
    warnings: list[str] = []
    network = _network(document, warnings)
    subnet_len = _subnet_len(document, network)
    step = 1 << (32 - subnet_len)
    low = _bound(document, "SubnetMin", network, subnet_len)
    high = _bound(document, "SubnetMax", network, subnet_len)
    subnet_min = low if low else network.base + step
    subnet_max = high if high else network.last + 1 - step
    if subnet_min > subnet_max:
        raise ConfigError(f"SubnetMin {format_ip(subnet_min)} is above SubnetMax {format_ip(subnet_max)}")
    _families(document, warnings)
    return NetworkConfig(network, subnet_len, subnet_min, subnet_max, "", warnings=tuple(warnings))


def integer(config: NetworkConfig, key: str, default: int, *, low: int, high: int) -> int:
    """Backend key `key` (any letter case) from `low` to `high`; `default` if absent or null. Raises ConfigError."""
    value = config.backend.get(key.lower())
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:  # bool is an int in Python, and is not one in JSON
        raise ConfigError(
            f"Backend.{key} of {config.backend_type} is {show(value)}, expected an integer from {low} to {high}"
        )
    return value


def flag(config: NetworkConfig, key: str, default: bool = False) -> bool:
    """Backend key `key` (any letter case); `default` when absent or null. Raises ConfigError."""
    value = config.backend.get(key.lower())
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ConfigError(f"Backend.{key} of {config.backend_type} is {show(value)}, expected true or false")
    return value


def choice(config: NetworkConfig, key: str, *values: str) -> str:
    """Backend key `key` (any letter case), one of `values`; the first when absent or null. Raises ConfigError."""
    value = config.backend.get(key.lower())
    if value is None:
        return values[0]
    if value not in values:
        raise ConfigError(
            f"Backend.{key} of {config.backend_type} is {show(value)}, expected one of {', '.join(values)}"
        )
    return str(value)


def _document(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"the config has {len(raw)} bytes, more than {MAX_BYTES}")
    if not raw.strip():
        raise ConfigError(
            'the config is empty; write a JSON object such as {"Network":"10.1.0.0/16"}', "unexpected end of JSON input"
        )
    try:
        document = _DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"the config is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}") from None
    except RecursionError:
        raise ConfigError("the config is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"the config is no JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except ValueError:
        raise ConfigError("the config holds an integer of thousands of digits") from None
    if type(document) is not _Folded:
        raise ConfigError(f"the config is {show(document)}, expected a JSON object with Network")
    return document


class _Folded(dict[str, Any]):
    """A JSON object with its keys lower-cased; of two spellings of one key the later wins, as in flannel."""


def _fold(pairs: list[tuple[str, Any]]) -> _Folded:
    return _Folded((name.lower(), value) for name, value in pairs)


def _no_constant(name: str) -> NoReturn:
    raise ConfigError(f"the config is no JSON: {name} is no JSON value")


_DECODER = json.JSONDecoder(object_pairs_hook=_fold, parse_float=Float, parse_constant=_no_constant)  # made once


def _network(document: dict[str, Any], warnings: list[str]) -> Subnet:
    value = document.get("network")
    if value is None:
        raise ConfigError(
            'Network is missing; write for example "Network":"10.1.0.0/16"',
            "please define a correct Network parameter in the flannel config",
        )
    if not isinstance(value, str):
        raise ConfigError(
            f"Network is {show(value)}, expected a string such as 10.1.0.0/16", f"invalid CIDR address: {show(value)}"
        )
    try:
        network = Subnet.parse(value)
    except ValueError:
        raise ConfigError(
            f"Network {show(value)} is no IPv4 CIDR such as 10.1.0.0/16", f"invalid CIDR address: {value[:80]}"
        ) from None
    if parse_ip(value.partition("/")[0]) != network.base:
        warnings.append(f"Network {value} has host bits, read as {network}")
    return network


def _subnet_len(document: dict[str, Any], network: Subnet) -> int:
    value = document.get("subnetlen")
    if value is not None and (type(value) is not int or value < 0):
        raise ConfigError(f"SubnetLen is {show(value)}, expected an integer from {network.length + 1} to 30")
    if not value:
        if network.length > 28:
            raise ConfigError(
                f"Network {network} is too small: without SubnetLen it can be a /28 at most",
                "network is too small. Minimum useful network prefix is /28",
            )
        return 24 if network.length < 24 else network.length + 1
    if value > 30:
        raise ConfigError(
            f"SubnetLen {show(value)} is too long: a subnet needs two addresses, so at most 30",
            "SubnetLen must be less than /31",
        )
    if value <= network.length:
        raise ConfigError(
            f"SubnetLen {value} must be longer than the prefix of Network {network}",
            "HostSubnet is larger network than Network"
            if value < network.length
            else "network must be able to accommodate at least four subnets",
        )
    return int(value)


def _bound(document: dict[str, Any], key: str, network: Subnet, subnet_len: int) -> int:
    """SubnetMin or SubnetMax as an address; 0 when absent, which `0.0.0.0` means too (spec §2.1)."""
    if key.lower() not in document:
        return 0
    value = document[key.lower()]
    if not isinstance(value, str):
        raise ConfigError(f"{key} is {show(value)}, expected a string such as {format_ip(network.base)}", NO_ADDRESS)
    try:
        address = parse_ip(value)
    except ValueError:
        raise ConfigError(f"{key} {show(value)} is no IPv4 address", NO_ADDRESS) from None
    if address == 0:
        return 0
    if not network.holds(address):
        raise ConfigError(f"{key} {value} lies outside Network {network}", f"{key} is not in the range of the Network")
    if address & ~mask_of(subnet_len) & 0xFFFFFFFF:
        raise ConfigError(
            f"{key} {value} is not on a boundary of SubnetLen {subnet_len}",
            f"{key} is not on a SubnetLen boundary: {value}",
        )
    return address


def _families(document: dict[str, Any], warnings: list[str]) -> None:
    for key in ("EnableIPv4", "EnableIPv6", "EnableNFTables"):
        value = document.get(key.lower())
        if value is not None and not isinstance(value, bool):
            raise ConfigError(f"{key} is {show(value)}, expected true or false")
    if document.get("enableipv4") is False:
        raise ConfigError("EnableIPv4 is false: only IPv4 is supported")
    if document.get("enableipv6"):
        warnings.append("EnableIPv6 is ignored: only IPv4 is supported")


def _backend(document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(type, keys): an absent Backend is udp, one without Type has the empty type, which no backend has (§2.5)."""
    if "backend" not in document:
        return "udp", {}
    value = document["backend"]
    if value is None:
        raise ConfigError('Backend is null; give it a Type such as {"Type":"vxlan"}')
    if type(value) is not _Folded:
        raise ConfigError(f'Backend is {show(value)}, expected an object such as {{"Type":"vxlan"}}')
    kind = value.get("type")
    if not isinstance(kind, str) or not kind:
        raise ConfigError(f"Backend.Type is {show(kind) if kind is not None else 'missing'}, expected a name")
    return kind.lower(), {name: item for name, item in value.items() if name != "type"}
