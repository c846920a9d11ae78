"""flannel's HTTP protocol v1 as JSON (spec §6.3): what a server says, and what a client reads of it. Pure.

Go's encoder is followed to the byte: compact, fields in its order, `<`, `>` and `&` inside strings escaped.
Bytes from a server are read as nobody vouches for them: whatever they are, `BadAnswer` is all that is raised.
"""

from __future__ import annotations

import json
import re
from calendar import timegm
from collections.abc import Iterable
from time import gmtime, strftime
from typing import Any, NamedTuple

from flannel_multi.model.lease import LeaseAttrs, LeaseRecord, attrs_of
from flannel_multi.model.subnet import Subnet, format_ip, parse_ip

NO_END = "0001-01-01T00:00:00Z"  # Go's zero time: a reservation, or a lease that is gone
NOBODY = '{"PublicIP":"0.0.0.0"}'
NO_LEASE = f'{{"Subnet":"0.0.0.0/0","Attrs":{NOBODY},"Expiration":"{NO_END}"}}'  # what network events bear
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_UNSAFE = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
_SPACE_OR_STRING = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)\Z", re.ASCII)
UTF8 = ("utf-8", "backslashreplace")  # half a surrogate pair, which JSON can name and UTF-8 cannot, as its escape
MOST_EVENTS = 10_000  # of one answer that a client believes


class BadAnswer(ValueError):
    """The bytes are not what a flanneld server would have said; the text says why."""


# -- a server's side ---------------------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """`value` as Go would write it."""
    return _ENCODER.encode(value).translate(_UNSAFE)


def expiration(end_s: int) -> str:
    """Unix seconds in RFC 3339, UTC; 0 is no end."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(end_s)) if end_s else NO_END


def lease_text(record: LeaseRecord, end_s: int, *, revisions: bool = False) -> str:
    """A lease. `revisions`: with its place in the store's history, which only our own clients ask for."""
    attrs = record.attrs
    value: dict[str, Any] = {"PublicIP": format_ip(attrs.public_ip)}
    if attrs.backend_type:
        value["BackendType"] = attrs.backend_type
    if attrs.backend_data is not None:
        value["BackendData"] = attrs.backend_data
    more = f',"Revision":{record.revision},"LeaseID":"{record.lease_id}"' if revisions else ""
    return f'{{"Subnet":"{record.subnet}","Attrs":{text_of(value)},"Expiration":"{expiration(end_s)}"{more}}}'


def gone_text(subnet: Subnet) -> str:
    """The lease of a `removed` event."""
    return f'{{"Subnet":"{subnet}","Attrs":{NOBODY},"Expiration":"{NO_END}"}}'


def event_text(kind: str, lease: str, *, network: str = "") -> str:
    """`kind` is `added` or `removed`; `network` stands in events about networks alone."""
    named = f',"network":{text_of(network)}' if network else ""
    return f'{{"type":"{kind}","lease":{lease}{named}}}'


def events_result(events: Iterable[str], cursor: int) -> bytes:
    """A watch result that tells events."""
    return f'{{"events":[{",".join(events)}],"snapshot":null,"cursor":"{cursor}"}}\n'.encode(*UTF8)


def snapshot_result(items: Iterable[str], cursor: int) -> bytes:
    """A watch result that tells everything: leases, or names of networks as JSON strings."""
    return f'{{"events":null,"snapshot":[{",".join(items)}],"cursor":"{cursor}"}}\n'.encode(*UTF8)


def reservation_text(record: LeaseRecord) -> str:
    return f'{{"Subnet":"{record.subnet}","PublicIP":"{format_ip(record.attrs.public_ip)}"}}'


def config_text(raw: bytes, *, network: Subnet, subnet_len: int, subnet_min: int, subnet_max: int) -> str:
    """A valid config with its defaults filled in. Backend is passed through as it was written, compacted."""
    head = (
        f'{{"Network":"{network}","SubnetMin":"{format_ip(subnet_min)}","SubnetMax":"{format_ip(subnet_max)}",'
        f'"SubnetLen":{subnet_len}'
    )
    backend = _member(raw.decode("utf-8"), "backend")
    return f'{head},"Backend":{backend}}}' if backend is not None else f"{head}}}"


def _member(document: str, folded: str) -> str | None:
    """The value of the last key of a JSON object that is `folded` in lower case, compacted; None when absent."""
    decoder, found = json.JSONDecoder(), None
    at = document.index("{") + 1
    while (at := _next(document, at)) < len(document) and document[at] == '"':
        key, at = decoder.raw_decode(document, at)
        start = _next(document, at)
        _, at = decoder.raw_decode(document, start)
        if key.lower() == folded:
            found = document[start:at]
    return None if found is None else _compact(found)


def _next(document: str, at: int) -> int:
    """The place of the next character that is no space, comma or colon."""
    while at < len(document) and document[at] in " \t\r\n,:":
        at += 1
    return at


def _compact(text: str) -> str:
    return _SPACE_OR_STRING.sub(lambda found: found[1] or "", text).translate(_UNSAFE)


# -- a client's side ---------------------------------------------------------------------------------------------


class ToldLease(NamedTuple):
    """A lease as a server tells it. `end_s`: Unix seconds, 0 for none. `revision` and `lease_id` None: not told."""

    subnet: Subnet
    attrs: LeaseAttrs
    end_s: int
    revision: int | None = None
    lease_id: int | None = None


class ToldEvent(NamedTuple):
    """`lease` is of what was added or removed; `network` is "" but in events about networks."""

    removed: bool
    lease: ToldLease
    network: str


class ToldWatch(NamedTuple):
    """`snapshot` counts when `events` is empty: leases or names. `skipped`: what in it was no lease, a line each."""

    events: list[ToldEvent]
    snapshot: list[Any]
    cursor: int
    skipped: list[str]


def read_lease(value: Any) -> ToldLease:
    """A lease from parsed JSON. Raises BadAnswer."""
    if type(value) is not dict:
        raise BadAnswer("a lease is no JSON object")
    folded = {name.lower(): item for name, item in value.items()}
    subnet, attrs = folded.get("subnet"), folded.get("attrs")
    try:
        found = Subnet.parse(subnet if isinstance(subnet, str) else "")
        told = LeaseAttrs(0) if attrs is None else attrs_of(attrs)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"a lease cannot be read: {error}") from None
    return ToldLease(
        found, told, read_time(folded.get("expiration")), _number(folded, "revision"), _number(folded, "leaseid")
    )


def read_time(value: Any) -> int:
    """RFC 3339 as Unix seconds, 0 for Go's zero time or none. Raises BadAnswer."""
    if value is None:
        return 0
    found = _TIME.match(value) if isinstance(value, str) else None
    if found is None:
        raise BadAnswer("Expiration is no time")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    zone = found[7]
    offset_s = 0 if zone == "Z" else (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60) * (-1 if zone[0] == "-" else 1)
    try:
        return max(0, timegm((year, month, day, hour, minute, second)) - offset_s)
    except (ValueError, OverflowError):
        raise BadAnswer("Expiration is no time") from None


def read_watch(raw: bytes) -> ToldWatch:
    """A watch result about leases; leases in it that cannot be read are skipped. Raises BadAnswer."""
    document = read_object(raw)
    skipped: list[str] = []
    events = []
    for item in _items(document, "events"):
        try:
            events.append(_event(item))
        except BadAnswer as error:
            skipped.append(str(error))
    snapshot: list[Any] = []
    for item in _items(document, "snapshot"):
        if isinstance(item, str):
            snapshot.append(item)
            continue
        try:
            snapshot.append(read_lease(item))
        except BadAnswer as error:
            skipped.append(str(error))
    cursor = document.get("cursor")
    if not isinstance(cursor, str) or not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 20):
        raise BadAnswer("the cursor is no number in a string")
    return ToldWatch(events, snapshot, int(cursor), skipped)


def read_object(raw: bytes) -> dict[str, Any]:
    """One JSON object, key names in lower case. Raises BadAnswer."""
    value = read_json(raw)
    if type(value) is not dict:
        raise BadAnswer("the answer is no JSON object")
    return {name.lower(): item for name, item in value.items()}


def read_json(raw: bytes) -> Any:
    """Raises BadAnswer."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise BadAnswer("the answer is no JSON") from None


def _event(value: Any) -> ToldEvent:
    if type(value) is not dict:
        raise BadAnswer("an event is no JSON object")
    kind, network = value.get("type"), value.get("network")
    if kind not in ("added", "removed"):
        raise BadAnswer("an event is neither added nor removed")
    if not isinstance(network, str | None):
        raise BadAnswer("an event's network is no name")
    return ToldEvent(kind == "removed", read_lease(value.get("lease")), network or "")


def _items(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if value is None:
        return []
    if type(value) is not list or (name == "events" and len(value) > MOST_EVENTS):
        raise BadAnswer(f"{name} is no list")
    return value


def _number(folded: dict[str, Any], name: str) -> int | None:
    value = folded.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        return int(value)
    return value if type(value) is int and value >= 0 else None


def read_reservations(raw: bytes) -> list[tuple[Subnet, int]]:
    """Subnets and public IPs. Raises BadAnswer."""
    value = read_json(raw)
    if type(value) is not list:
        raise BadAnswer("the answer is no list of reservations")
    found = []
    for item in value:
        try:
            folded = {name.lower(): inner for name, inner in item.items()}
            found.append((Subnet.parse(folded["subnet"]), parse_ip(folded["publicip"])))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise BadAnswer("a reservation cannot be read") from None
    return found
