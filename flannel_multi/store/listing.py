"""Lease records out of the key-value pairs of a listing: fast for the usual, patient with poison. Pure.

Values are read by one json.loads for a page of them: joined by separators that a value cannot know, so that a value
of any shape either stays between its own separators or makes the whole fail, and then each is read alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

from flannel_multi.model.lease import LeaseAttrs, LeaseRecord, attrs_of, decode_value
from flannel_multi.model.subnet import Subnet
from flannel_multi.store.keys import NetworkKeys, shown

MAX_LINES = 20  # of what was skipped; then one that counts the rest


class KeyValue(NamedTuple):
    """One pair of the store. `lease_id` 0: on no etcd lease."""

    key: bytes
    value: bytes
    lease_id: int
    revision: int


class Skips:
    """Lines about keys that are no leases, bounded in number."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._count = 0

    def add(self, key: bytes, reason: str) -> None:
        self._count += 1
        if len(self._lines) < MAX_LINES:
            self._lines.append(skip_line(key, reason))

    @property
    def lines(self) -> tuple[str, ...]:
        more = self._count - len(self._lines)
        return (*self._lines, f"{more} more keys skipped that are no leases") if more else tuple(self._lines)


def skip_line(key: bytes, reason: str) -> str:
    return f"skipped {shown(key)}: {reason}"


NO_SUBNET = "the key names no subnet (A.B.C.D-LEN)"


def records(keys: NetworkKeys, pairs: Iterable[KeyValue], skips: Skips) -> dict[Subnet, LeaseRecord]:
    """The leases among `pairs`; what is none goes to `skips`."""
    named: list[tuple[Subnet, KeyValue]] = []
    for pair in pairs:
        subnet = keys.subnet(pair.key)
        if subnet is None:
            skips.add(pair.key, NO_SUBNET)
        else:
            named.append((subnet, pair))
    values = decode_values([pair.value for _, pair in named])
    found: dict[Subnet, LeaseRecord] = {}
    for (subnet, pair), attrs in zip(named, values, strict=True):
        if isinstance(attrs, str):
            skips.add(pair.key, attrs)
        else:
            found[subnet] = LeaseRecord(subnet, attrs, pair.lease_id, pair.revision)
    return found


def decode_values(values: list[bytes]) -> list[LeaseAttrs | str]:
    """Attributes of each lease value, or the text of what is wrong with it."""
    parsed = _parse_together(values)
    if parsed is None:
        return [_decode_alone(value) for value in values]
    decoded: list[LeaseAttrs | str] = []
    for value in parsed:
        try:
            decoded.append(attrs_of(value))
        except ValueError as error:
            decoded.append(str(error))
    return decoded


def _decode_alone(value: bytes) -> LeaseAttrs | str:
    try:
        return decode_value(value)
    except ValueError as error:
        return str(error)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _parse_together(values: list[bytes]) -> list[Any] | None:
    """All values parsed at once, or None when at least one is not exactly one JSON value."""
    mark = os.urandom(16).hex()
    joined = b"[" + f',"{mark}",'.encode().join(values) + b"]"
    try:
        parsed = _DECODER.decode(joined.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if len(parsed) != max(0, 2 * len(values) - 1) or any(item != mark for item in parsed[1::2]):
        return None
    return list(parsed[::2])
