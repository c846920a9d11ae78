"""One line of a watch, read into changes. Pure.

The first line says that the watch stands (and how far the store's history has come); the others carry events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from flannel_multi.model.lease import LeaseRecord, decode_value
from flannel_multi.store.etcd.answers import (
    BadAnswer,
    Header,
    Kind,
    Problem,
    error_text,
    header_of,
    objects,
    pair_of,
    parse,
    problem,
)
from flannel_multi.store.keys import NetworkKeys
from flannel_multi.store.listing import NO_SUBNET, KeyValue, skip_line
from flannel_multi.store.protocol import Change, ConfigWritten, LeaseGone, LeaseWritten, Skipped


class Line(NamedTuple):
    """`created`: this line only says that the watch stands."""

    header: Header
    created: bool
    events: list[dict[str, Any]]


def read_line(raw: bytes, *, https: bool) -> Line | Problem:
    """Raises BadAnswer."""
    document = parse(raw)
    if document is None:
        raise BadAnswer("a line of the watch is no JSON object")
    if "error" in document:
        return problem(200, error_text(document), https=https)
    result = document.get("result")
    if not isinstance(result, dict):
        raise BadAnswer("a line of the watch has no result")
    if result.get("compact_revision"):
        return Problem(Kind.COMPACTED, "the watch's revision was compacted")
    if result.get("canceled"):
        reason = result.get("cancel_reason")
        text = reason.partition(" desc = ")[2] or reason if isinstance(reason, str) else ""
        if not text:
            return Problem(Kind.AWAY, "etcd ended the watch")
        return problem(200, text, https=https)
    return Line(header_of(result), bool(result.get("created")), objects(result.get("events")))


def changes(keys: NetworkKeys, events: list[dict[str, Any]]) -> Iterator[Change]:
    """What `events` change in the network of `keys`. Raises BadAnswer."""
    for event in events:
        kv = event.get("kv")
        if type(kv) is not dict:
            raise BadAnswer("an event has no key")
        pair = pair_of(kv)
        deleted = event.get("type") in ("DELETE", 1)
        if pair.key == keys.config:
            yield ConfigWritten(None if deleted else pair.value, pair.revision)
        elif pair.key.startswith(keys.subnets):
            yield from _lease_changes(keys, pair, deleted=deleted)


def _lease_changes(keys: NetworkKeys, pair: KeyValue, *, deleted: bool) -> Iterator[Change]:
    subnet = keys.subnet(pair.key)
    if subnet is None:
        if not deleted:
            yield Skipped(skip_line(pair.key, NO_SUBNET))
    elif deleted:
        yield LeaseGone(subnet, pair.revision)
    else:
        try:
            attrs = decode_value(pair.value)
        except ValueError as error:
            yield LeaseGone(subnet, pair.revision)  # whatever it was before, it is no lease now
            yield Skipped(skip_line(pair.key, str(error)))
        else:
            yield LeaseWritten(LeaseRecord(subnet, attrs, pair.lease_id, pair.revision))
