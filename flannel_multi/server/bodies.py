"""Bodies of requests, read as Go reads them (spec §6.1): the first JSON value counts, key names in any letter case,
unknown keys ignored; and its words for what cannot be read. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

from flannel_multi.model.lease import LeaseAttrs, attrs_of
from flannel_multi.model.shown import show
from flannel_multi.model.subnet import Subnet, parse_ip

_STARTS = frozenset('{["-0123456789tfn')
_SPACE = " \t\r\n"
_NUMBER = re.compile(r"\d+\Z", re.ASCII)
_WORDS = ("true", "false", "null", "-")
MOST_DIGITS = 20
MOST_BYTES = 8 << 10  # of a lease, which has 200: every listing and every host bears what one of them publishes


class BadBody(ValueError):
    """400: `JSON decoding error: ` and the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"JSON decoding error: {reason}")


class BadQuery(BadBody):
    """400: an option in the query of a write that cannot be read."""

    def __init__(self, reason: str) -> None:
        ValueError.__init__(self, reason)


class BadCursor(ValueError):
    """500, as in flannel."""


class PutLease(NamedTuple):
    subnet: Subnet
    attrs: LeaseAttrs


class Reservation(NamedTuple):
    subnet: Subnet
    public_ip: int


def read_attrs(body: bytes) -> LeaseAttrs:
    """The body of POST leases. An absent PublicIP is 0.0.0.0. Raises BadBody."""
    return _attrs(_value(body))


def read_lease(body: bytes) -> PutLease:
    """The body of PUT lease; what it says of the end does not count. Raises BadBody."""
    value = _object(_value(body), "subnet.Lease")
    return PutLease(_subnet(value.get("subnet")), _attrs(value.get("attrs")))


def read_reservation(body: bytes) -> Reservation:
    """The body of POST reservations. Raises BadBody."""
    value = _object(_value(body), "subnet.Reservation")
    return Reservation(_subnet(value.get("subnet")), _address(value.get("publicip")))


def _value(body: bytes) -> Any:
    if len(body) > MOST_BYTES:
        raise BadBody(f"the body has more than {MOST_BYTES} bytes")
    try:
        text = body.decode("utf-8").lstrip(_SPACE)
    except UnicodeDecodeError:
        raise BadBody("invalid UTF-8 in the body") from None
    if not text:
        raise BadBody("EOF")
    if text[0] not in _STARTS:
        raise BadBody(f"invalid character {_shown(text[0])} looking for beginning of value")
    try:
        return _DECODER.raw_decode(text)[0]
    except json.JSONDecodeError as error:
        if _is_cut(text[error.pos : error.pos + 6], error.msg):
            raise BadBody("unexpected EOF") from None
        raise BadBody(f"invalid character {_shown(text[error.pos])}: {error.msg}") from None
    except RecursionError:
        raise BadBody("exceeded max depth") from None
    except ValueError as error:
        raise BadBody(str(error)[:80]) from None


def _is_cut(rest: str, why: str) -> bool:
    """The body ends where more of it is due: in a string, of which the decoder names the beginning, or in a word."""
    return why.startswith("Unterminated string") or any(word.startswith(rest) for word in _WORDS)


def _shown(character: str) -> str:
    return repr(character) if character.isprintable() else f"'\\x{ord(character):02x}'"


def _object(value: Any, kind: str) -> dict[str, Any]:
    if value is None:
        return {}
    if type(value) is not dict:
        name = {list: "array", str: "string", bool: "bool"}.get(type(value), "number")
        raise BadBody(f"json: cannot unmarshal {name} into Go value of type {kind}")
    return {name.lower(): item for name, item in value.items()}


def _attrs(value: Any) -> LeaseAttrs:
    folded = _object(value, "subnet.LeaseAttrs")
    if "publicip" in folded:
        _address(folded["publicip"])
    try:
        return attrs_of(value if value is not None else {})
    except ValueError as error:
        raise BadBody(str(error)) from None


def _address(value: Any) -> int:
    if value is None:
        return 0
    try:
        return parse_ip(value if isinstance(value, str) else "")
    except ValueError:
        raise BadBody("Invalid IP address format") from None


def _subnet(value: Any) -> Subnet:
    if value is None:
        return Subnet(0, 0)
    try:
        return Subnet.parse(value if isinstance(value, str) else "")
    except ValueError:
        raise BadBody(f"invalid CIDR address: {value[:80] if isinstance(value, str) else show(value)}") from None


def read_cursor(text: str) -> int:
    """`?next=`. Raises BadCursor with Go's words."""
    if not _NUMBER.match(text):
        raise BadCursor(f"failed to parse cursor: strconv.ParseUint: parsing {json.dumps(text[:80])}: invalid syntax")
    if len(text) > MOST_DIGITS or int(text) >= 1 << 64:
        raise BadCursor(
            f"failed to parse cursor: strconv.ParseUint: parsing {json.dumps(text[:80])}: value out of range"
        )
    return int(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"invalid character {name[0]!r} looking for beginning of value")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
