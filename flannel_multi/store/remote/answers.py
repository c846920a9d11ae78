"""What a flanneld server answers, read from bytes that nobody vouches for. Pure.

v1 words its errors for people, as text/plain; what a program must tell apart is told apart here, by the words that
flannel 0.5 to 0.7 and our own server use (spec §6). The body of a good answer is read by `model/v1`.
"""

from __future__ import annotations

import binascii
import enum
import json
import re
from calendar import timegm
from typing import NamedTuple

from flannel_multi.model.lease import LEASE_TTL_S, LeaseRecord
from flannel_multi.model.v1 import BadAnswer, ToldLease
from flannel_multi.store.transport import Reply

LARGEST = (1 << 63) - 1  # revisions and lease ids are signed 64-bit numbers everywhere else
ROUNDED_S = 2  # two clocks of whole seconds, read one after the other


class Kind(enum.Enum):
    ABSENT = "the key is not there"
    AWAY = "this server's store does not answer; another server may reach it"
    FULL = "no subnet is left"
    HELD = "another has it, or it is gone"
    NO_ROUTE = "this server does not know the request"
    UNREADABLE = "the server cannot read what is stored"
    STRANGER = "no flanneld server"
    REFUSED = "no"


class Problem(NamedTuple):
    """An answer that is none: what kind, and one line of what was said. `key`, `revision`: of Kind.ABSENT."""

    kind: Kind
    text: str
    key: str = ""
    revision: int = 0


NO_SERVER = "not flannel's protocol: is this the --listen address of a flanneld?"
_ABSENT = re.compile(r"100: Key not found \((.{0,600}?)\) \[(\d{1,19})\]\s*\Z", re.DOTALL)
_HELD = re.compile(r"lease (\d+\.\d+\.\d+\.\d+/\d+) is held by (\d+\.\d+\.\d+\.\d+)\Z", re.ASCII)
_AWAY_MARKS = (
    "client: etcd cluster is unavailable",
    "client: etcd member",
    "peers are not reachable",
    "Raft Internal Error",
    "During Leader Election",
    "etcdserver: ",
    "context deadline exceeded",
    "i/o timeout",
    "connection refused",
    "connection reset",
    "no route to host",
    "unexpected EOF",
)
_WANTS_TLS = "HTTP request to an HTTPS server"
_AWAY_STATUS = (408, 429, 502, 503, 504)


def problem_of(reply: Reply) -> Problem | None:
    """What is wrong with an answer, None when it is 200. Total."""
    status, body = reply.status, reply.body
    if status == 200:
        return None
    text = body[:2000].decode("utf-8", "replace")
    line = one_line(text) or f"{status} without a reason"
    if status == 403:
        return Problem(Kind.REFUSED, _reason(body) or f"forbidden: {line}")
    if status == 404:
        return Problem(Kind.NO_ROUTE, line) if text.startswith("404 page not found") else _stranger(status)
    if status == 409:
        return Problem(Kind.HELD, line)
    if status in _AWAY_STATUS:
        return Problem(Kind.AWAY, f"{status}: {line}")
    if status == 400:
        return Problem(Kind.REFUSED, "it speaks TLS; set --remote-cafile" if _WANTS_TLS in text else f"400: {line}")
    if status == 500:
        return _inner(text, line)
    return _stranger(status)


def _inner(text: str, line: str) -> Problem:
    """Of the one status 500 that v1 has for all that its store says."""
    if found := _ABSENT.search(text):
        return Problem(Kind.ABSENT, line, one_line(found[1], 600), min(int(found[2]), LARGEST))
    if any(mark in text for mark in _AWAY_MARKS):
        return Problem(Kind.AWAY, line)
    if text.startswith("out of subnets"):
        return Problem(Kind.FULL, line)
    if text.startswith("internal error: "):
        return Problem(Kind.REFUSED, line.removeprefix("internal error: "))
    return Problem(Kind.UNREADABLE, line)


def _stranger(status: int) -> Problem:
    return Problem(Kind.STRANGER, f"{status}: {NO_SERVER}")


def _reason(body: bytes) -> str:
    """The words of our own server's policy, "" when there are none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    reason = document.get("error") if isinstance(document, dict) else None
    return one_line(reason) if isinstance(reason, str) else ""


def holder_of(text: str) -> tuple[str, str] | None:
    """(subnet, holder) of a refusal that names both."""
    found = _HELD.match(text)
    return (found[1], found[2]) if found else None


def one_line(text: str, most: int = 240) -> str:
    """Foreign text as one printable line."""
    text = " ".join(text[: 4 * most].split())
    return "".join(c if c.isprintable() else "?" for c in text[:most])


def cursor_of(reply: Reply) -> int | None:
    """The revision that one of our own servers put on its answer; None: an older server, or nonsense."""
    text = reply.header(b"flannel-cursor")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else LARGEST + 1
    return number if number <= LARGEST else None


def cluster_of(reply: Reply) -> str:
    """Which store one of our own servers answers from, "" when it is not said."""
    return one_line(reply.header(b"flannel-cluster"), 80)


def bounded(number: int) -> int:
    """Raises BadAnswer for what is no revision."""
    if not 0 <= number <= LARGEST:
        raise BadAnswer("a revision is out of range")
    return number


# -- time ----------------------------------------------------------------------------------------------------------

_DATE = re.compile(r"\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT\Z", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def date_of(reply: Reply) -> int | None:
    """The server's clock when it answered, in Unix seconds."""
    found = _DATE.match(reply.header(b"date"))
    if found is None or found[2] not in _MONTHS:
        return None
    day, _, year, hour, minute, second = found.groups()
    try:
        return timegm((int(year), _MONTHS.index(found[2]) + 1, int(day), int(hour), int(minute), int(second)))
    except (ValueError, OverflowError):
        return None


def ttl_s(end_s: int, now_s: float) -> int | None:
    """Seconds from `now_s` to `end_s`, both of the server's clock: ours need not agree with it. None: no end."""
    if end_s == 0:
        return None
    left_s = max(0, end_s - int(now_s))
    return LEASE_TTL_S if abs(left_s - LEASE_TTL_S) <= ROUNDED_S else left_s


# -- leases --------------------------------------------------------------------------------------------------------


def record_of(network: str, told: ToldLease, cursor: int, before: LeaseRecord | None = None) -> LeaseRecord:
    """A lease as the rest of us knows it. An older server tells neither revision nor lease id: then the revision is
    `cursor`, or the one of `before`, the lease known so far, if nothing in it has changed. Raises BadAnswer."""
    if told.lease_id is not None and told.revision is not None:
        return LeaseRecord(told.subnet, told.attrs, bounded(told.lease_id), bounded(told.revision))
    lease_id = synthetic_id(network, told) if told.end_s else 0
    if before is not None and (before.attrs, before.lease_id) == (told.attrs, lease_id):
        return before
    return LeaseRecord(told.subnet, told.attrs, lease_id, bounded(cursor))


def synthetic_id(network: str, told: ToldLease) -> int:
    """An id that is the same exactly while the holder is: what tells whether a lease is still ours goes by the id.
    It differs between subnets and networks, since ends of leases are remembered by it."""
    place = binascii.crc32(f"{network}/{told.subnet.key}".encode()) & 0x1FFFFFFF
    return place << 33 | told.attrs.public_ip + 1
