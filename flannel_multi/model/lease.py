"""Leases as the store holds them: key, value and what watching them yields (spec §3.2)."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, NamedTuple, NoReturn

from flannel_multi.model.subnet import Subnet, format_ip, parse_ip

LEASE_TTL_S = 86400  # 24 hours, spec §3.3
MAX_DEPTH = 16  # of BackendData; every known backend needs 1
_COMPACT = json.JSONEncoder(separators=(",", ":"))  # made once, in the parent


class LeaseAttrs(NamedTuple):
    """What a host publishes about itself. `backend_data` is the parsed JSON of BackendData, or None."""

    public_ip: int
    backend_type: str = ""
    backend_data: Any = None


class LeaseRecord(NamedTuple):
    """One lease key of a network.

    `lease_id` is the etcd lease the key hangs on; 0 means a reservation, which never expires (spec §3.4).
    `revision` is the store's revision of the last write to the key (mod_revision).
    """

    subnet: Subnet
    attrs: LeaseAttrs
    lease_id: int = 0
    revision: int = 0

    @property
    def permanent(self) -> bool:
        return self.lease_id == 0


def encode_value(attrs: LeaseAttrs) -> bytes:
    """The lease value: compact JSON, field order of flannel 0.7 (spec §0 and §3.2), no newline."""
    value: dict[str, Any] = {"PublicIP": format_ip(attrs.public_ip)}
    if attrs.backend_type:
        value["BackendType"] = attrs.backend_type
    if attrs.backend_data is not None:
        value["BackendData"] = attrs.backend_data
    return _COMPACT.encode(value).encode()


def attrs_of(value: Any) -> LeaseAttrs:
    """The attributes in parsed JSON `value`: key names in any letter case, unknown keys ignored (spec §3.2).

    Raises ValueError when it is no lease value.
    """
    if type(value) is not dict:
        raise ValueError("the value is no JSON object")
    if "PublicIP" not in value:  # the usual spelling needs no second dictionary; a poisoned one may be odd
        value = {_canonical(name): item for name, item in value.items()}
    else:
        value = value if _FIELDS.issuperset(value) else {_canonical(n): v for n, v in value.items()}
    ip = value.get("PublicIP")
    if ip is None:
        address = 0
    elif isinstance(ip, str):
        address = parse_ip(ip)
    else:
        raise ValueError("PublicIP is no string")
    kind = value.get("BackendType")
    if kind is None:
        kind = ""
    elif not isinstance(kind, str):
        raise ValueError("BackendType is no string")
    data = value.get("BackendData")
    if not is_shallow(data):
        raise ValueError(f"BackendData is nested more than {MAX_DEPTH} deep, or holds a number beyond all bounds")
    return LeaseAttrs(address, kind, data)


def decode_value(raw: bytes) -> LeaseAttrs:
    """The attributes in the lease value `raw`. Raises ValueError with what is wrong, whatever the bytes."""
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("the value is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"the value is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the value is no JSON: {error.msg} at character {error.pos}") from None
    except ValueError as error:
        raise ValueError(f"the value is no JSON: {str(error)[:80]}") from None
    return attrs_of(value)


_FIELDS = frozenset(("PublicIP", "PublicIPv6", "BackendType", "BackendData", "BackendV6Data"))
_BY_FOLDED = {name.lower(): name for name in _FIELDS}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)  # made once: json.loads with an option makes one a call


def is_shallow(value: Any, depth: int = MAX_DEPTH) -> bool:
    """True when `value` can be written as JSON again at any depth of the stack: what was read in a shallow one
    need not fit a deep one, and a stranger's lease must not end a worker that saves it. Nor is a number written again
    that was read as infinite (1e999): JSON has no word for it."""
    if isinstance(value, dict):
        return depth > 0 and all(is_shallow(item, depth - 1) for item in value.values())
    if isinstance(value, list):
        return depth > 0 and all(is_shallow(item, depth - 1) for item in value)
    return type(value) is not float or isfinite(value)


def _canonical(name: str) -> str:
    return _BY_FOLDED.get(name.lower(), name)
