"""What etcd's JSON gateway answers, read from bytes that nobody vouches for. Pure.

etcd 3.4 and 3.5 put an error as {"error": text, "code": n}, in a stream as {"error": {"message": text, …}}; 3.6 as
{"code": n, "message": text}. Integers of 64 bits come as strings; both forms are read.
"""

from __future__ import annotations

import binascii
import enum
import json
from typing import Any, NamedTuple

from flannel_multi.store.listing import KeyValue
from flannel_multi.store.transport import Reply


class Kind(enum.Enum):
    TOKEN = "our auth token is not accepted (any more)"
    AWAY = "this endpoint cannot serve now, another may"
    COMPACTED = "the revision asked for is forgotten"
    NO_LEASE = "no such etcd lease"
    LEASE_EXISTS = "an etcd lease with this id exists"
    NO_SPACE = "no writes, for want of space"
    REFUSED = "no"


class Problem(NamedTuple):
    """An answer that is none: what kind, and one line of what was answered and what to do."""

    kind: Kind
    text: str


class BadAnswer(Exception):
    """The bytes are not what etcd would have said."""


class Header(NamedTuple):
    """Who answered, and when in its history. `term` 0: not given."""

    cluster: str
    revision: int
    term: int


NO_SPACE = (
    "etcd is out of space (NOSPACE) and takes no writes: compact, defragment and disarm it "
    "(etcdctl compact REVISION; etcdctl defrag; etcdctl alarm disarm), or raise --quota-backend-bytes"
)
GATEWAY_OFF = (
    "404 for /v3: etcd's JSON gateway is off, as it is when etcd is started by --config-file; "
    "add `enable-grpc-gateway: true` to that file and restart etcd"
)
GATEWAY_CUT_OFF = (
    "etcd's JSON gateway cannot reach its own etcd: with --client-cert-auth the server certificate (--cert-file) needs "
    "the clientAuth extended key usage too, so issue it with serverAuth and clientAuth"
)
CN_IGNORED = (
    "etcd ignores the common name of client certificates on its JSON gateway and so refuses them while authentication "
    "is on: use a client certificate without a common name, with --etcd-username and --etcd-password-file"
)
USER_NEEDED = (
    "etcd has authentication on: set --etcd-username and --etcd-password-file "
    "(a client certificate's common name does not count on etcd's JSON gateway)"
)
NO_ETCD = "not etcd's JSON: is this the client port of an etcd 3.4 or newer?"
DENIED = "permission denied"
_MARKS = (
    ("invalid auth token", Kind.TOKEN, ""),
    ("revision of auth store is old", Kind.TOKEN, ""),
    ("user name is empty", Kind.TOKEN, ""),
    (
        "invalid user ID or password",
        Kind.REFUSED,
        "etcd does not accept the user name or password; see --etcd-username and --etcd-password-file",
    ),
    ("CommonName of client", Kind.REFUSED, CN_IGNORED),
    ("database space exceeded", Kind.NO_SPACE, NO_SPACE),
    ("revision has been compacted", Kind.COMPACTED, ""),
    ("requested lease not found", Kind.NO_LEASE, ""),
    ("lease already exists", Kind.LEASE_EXISTS, ""),
    ("no leader", Kind.AWAY, "this etcd member has no leader: is the majority of the members up?"),
    ("request timed out", Kind.AWAY, "etcd timed out: is the majority of the members up?"),
    ("context deadline exceeded", Kind.AWAY, "etcd timed out: is the majority of the members up?"),
    ("leader changed", Kind.AWAY, "etcd changed its leader"),
    ("too many requests", Kind.AWAY, "etcd is overloaded (too many requests)"),
    ("server stopped", Kind.AWAY, "etcd is stopping"),
    ("HTTP request to an HTTPS server", Kind.REFUSED, "it speaks TLS: write https:// in --etcd-endpoints"),
)


def read(reply: Reply, *, https: bool) -> dict[str, Any] | Problem:
    """The JSON object of a good answer (of a stream's first line, its `result`), or what is wrong. Total."""
    document = parse(reply.body)
    if reply.status == 200 and document is not None:
        if "error" in document:
            return problem(200, error_text(document), https=https)
        result = document.get("result", document)
        return result if isinstance(result, dict) else Problem(Kind.REFUSED, NO_ETCD)
    text = error_text(document) if document is not None else reply.body[:200].decode("ascii", "replace")
    if document is None and reply.status == 404:
        return Problem(Kind.REFUSED, GATEWAY_OFF)
    return problem(reply.status, text, https=https, json_said=document is not None)


def problem(status: int, text: str, *, https: bool, json_said: bool = True) -> Problem:
    """What error `text` with HTTP `status` means. `https`: the endpoint speaks TLS."""
    for mark, kind, meaning in _MARKS:
        if mark in text:
            return Problem(kind, meaning or one_line(text))
    if "permission denied" in text.lower():
        return Problem(Kind.REFUSED, DENIED)
    if status == 401:
        return Problem(Kind.TOKEN, one_line(text))
    if status == 503 and https and not text.startswith("etcdserver:") and "dialing" not in text:
        return Problem(Kind.REFUSED, f"503 ({one_line(text)}): {GATEWAY_CUT_OFF}")
    if status in (502, 503, 504):
        return Problem(Kind.AWAY, f"{status}: {one_line(text) or 'not available'}")
    if not json_said:
        return Problem(Kind.REFUSED, f"{status}: {NO_ETCD}")
    return Problem(Kind.REFUSED, f"etcd answered {status}: {one_line(text) or 'no reason given'}")


def parse(raw: bytes) -> dict[str, Any] | None:
    """The JSON object in `raw`, or None when there is none. Never raises."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None
    return document if isinstance(document, dict) else None


def error_text(document: dict[str, Any]) -> str:
    """The words of an error answer, in any of the shapes above."""
    error = document.get("error", document)
    if isinstance(error, dict):
        error = error.get("message", "")
    return error if isinstance(error, str) else ""


def one_line(text: str) -> str:
    """Foreign text as one printable line of at most 160 characters."""
    text = " ".join(text.split()).removeprefix("etcdserver: ")
    return "".join(c if c.isprintable() else "?" for c in text[:160])


def number(value: object) -> int:
    """An integer as the gateway writes it; absent (None) is 0. Raises BadAnswer."""
    if value is None:
        return 0
    if type(value) is int:
        return value
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    raise BadAnswer("a number is none")


def header_of(result: dict[str, Any]) -> Header:
    """Raises BadAnswer."""
    header = result.get("header")
    if not isinstance(header, dict):
        raise BadAnswer("the header is missing")
    cluster = number(header.get("cluster_id"))
    if cluster == 0:
        raise BadAnswer("the cluster is not named")
    return Header(str(cluster), number(header.get("revision")), number(header.get("raft_term")))


def objects(value: object) -> list[dict[str, Any]]:
    """A list of JSON objects; absent is empty. Raises BadAnswer."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(type(item) is dict for item in value):
        raise BadAnswer("a list of objects is none")
    return value


def unb64(value: object) -> bytes:
    """Bytes as the gateway writes them; absent is empty. Raises BadAnswer."""
    if value is None:
        return b""
    if not isinstance(value, str):
        raise BadAnswer("base64 text is none")
    try:
        return binascii.a2b_base64(value)
    except ValueError:  # binascii.Error, and text that is not ASCII
        raise BadAnswer("base64 text is none") from None


def b64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode("ascii")


def pair_of(kv: dict[str, Any]) -> KeyValue:
    """A key-value pair from the gateway's JSON. Raises BadAnswer."""
    return KeyValue(
        unb64(kv.get("key")), unb64(kv.get("value")), number(kv.get("lease")), number(kv.get("mod_revision"))
    )
