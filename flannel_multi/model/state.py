"""The last known state of a network, as its file holds it: enough to serve again before any store answers.

One JSON object of a version. Peers are compact rows, since there may be 20,000 of them. Only the network's own
worker writes the file, but whatever stands there is read with suspicion: `parse` gives a KnownState or ValueError.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from flannel_multi.model.lease import LeaseAttrs, LeaseRecord, is_shallow
from flannel_multi.model.subnet import Subnet, format_ip, mask_of, parse_ip

VERSION = 1
_HOST_BITS = tuple(~mask_of(length) & 0xFFFFFFFF for length in range(32))
_LARGEST = (1 << 63) - 1  # etcd's revisions and lease ids are signed 64-bit numbers
_COMPACT = json.JSONEncoder(separators=(",", ":"))  # made once, in the parent


@dataclass(frozen=True)
class KnownState:
    """What one network knew when it last wrote. `config` is the key's raw value, `mac` the VTEP's 6 bytes or b"".

    `expires_at` in Unix seconds, 0 for a reservation. `revision` is (cluster, number), ("", 0) when unknown.
    `peers` lack the own lease. `daemon` is a random id of the daemon run that wrote it: a worker that reads its own
    daemon's id was restarted alone. `confirmed`: the store has shown `config` to that daemon. `lost`: the lease was
    another's by then.
    """

    network: str
    config: bytes
    public_ip: int
    mac: bytes
    lease: LeaseRecord
    expires_at: int
    revision: tuple[str, int]
    peers: tuple[LeaseRecord, ...]
    daemon: str
    confirmed: bool = False
    lost: bool = False


def render(state: KnownState) -> bytes:
    """The whole file: one line."""
    value = {
        "version": VERSION,
        "network": state.network,
        "daemon": state.daemon,
        "config": state.config.decode("utf-8", "surrogateescape"),
        "confirmed": state.confirmed,
        "lost": state.lost,
        "public_ip": format_ip(state.public_ip),
        "mac": state.mac.hex(":"),
        "lease": _row(state.lease),
        "expires_at": state.expires_at,
        "revision": list(state.revision),
        "peers": [_row(peer) for peer in state.peers],
    }
    return _COMPACT.encode(value).encode() + b"\n"


def parse(raw: bytes) -> KnownState:
    """The state in `raw`. Raises ValueError for anything that `render` does not write."""
    try:
        value = json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except ValueError:
        raise ValueError("it is no JSON") from None
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise ValueError(f"it is no state of version {VERSION}")
    rows = value.get("peers")
    if not isinstance(rows, list):
        raise ValueError("peers is no list")
    return KnownState(
        network=_text(value, "network"),
        config=_bytes(_text(value, "config")),
        confirmed=value.get("confirmed") is True,
        lost=value.get("lost") is True,
        public_ip=parse_ip(_text(value, "public_ip")),
        mac=_mac(_text(value, "mac")),
        lease=_record(value.get("lease")),
        expires_at=_count(value.get("expires_at"), "expires_at"),
        revision=_revision(value.get("revision")),
        peers=tuple(map(_record, rows)),
        daemon=_text(value, "daemon"),
    )


def _row(record: LeaseRecord) -> list[Any]:
    subnet, attrs, lease_id, revision = record
    return [*subnet, *attrs, lease_id, revision]


def _record(row: Any) -> LeaseRecord:
    if type(row) is not list or len(row) != 7:
        raise ValueError("a lease is no row of 7")
    base, length, address, kind, data, lease_id, revision = row
    for number in (base, length, address, lease_id, revision):
        if type(number) is not int:
            raise ValueError("a lease has text for a number")
    if not (0 <= length < 32 and 0 <= base <= 0xFFFFFFFF and not base & _HOST_BITS[length]):
        raise ValueError("a lease has no subnet")
    if not (0 <= address <= 0xFFFFFFFF and -_LARGEST <= lease_id <= _LARGEST and 0 <= revision <= _LARGEST):
        raise ValueError("a lease has a number out of range")
    if type(kind) is not str or not is_shallow(data):
        raise ValueError("a lease has odd attributes")
    return LeaseRecord(Subnet(base, length), LeaseAttrs(address, kind, data), lease_id, revision)


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise ValueError(f"{name} is no text")
    return text


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("config is no text") from None


def _mac(text: str) -> bytes:
    mac = bytes.fromhex(text.replace(":", ""))
    if len(mac) not in (0, 6):
        raise ValueError("mac has not 6 bytes")
    return mac


def _count(number: Any, name: str) -> int:
    if type(number) is not int or not 0 <= number <= _LARGEST:
        raise ValueError(f"{name} is no count")
    return number


def _revision(value: Any) -> tuple[str, int]:
    match value:
        case [str(cluster), number]:
            return cluster, _count(number, "revision")
        case _:
            raise ValueError("revision is no pair")
