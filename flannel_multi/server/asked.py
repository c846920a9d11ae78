"""A request of protocol v1 taken apart: which network, which lease, which options (spec §6.1, §6.2). Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.options.settings_file import bad_name
from flannel_multi.server.bodies import BadQuery, read_cursor
from flannel_multi.server.exchange import Request
from flannel_multi.server.policy import Rights

UNNAMED = "_"
MOST_EVENTS = 200  # of one answer: a client that does not take it holds 80 KB of memory at most
MOST_OPTIONS = 50  # of one query: the thousands that a head has room for take 8 ms to read
_SLASHES = re.compile("//+")
_COLLECTIONS = {"config": "config", "leases": "leases", "reservations": "reservations"}
_ITEMS = {"leases": "lease", "reservations": "reservation"}


class Gone(Exception):
    """The path has double slashes: the client is sent to the one without."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Asked(NamedTuple):
    """`what` names the route. `network` is "" for the unnamed one; `subnet` None where the path names none."""

    what: str
    network: str
    subnet: Subnet | None
    query: dict[str, list[str]]
    body: bytes
    rights: Rights

    @property
    def shown(self) -> str:
        """The network's name as policies have it."""
        return self.network or UNNAMED

    def cursor(self) -> int | None:
        """`?next=`, None when there is none. Raises BadCursor."""
        return read_cursor(self.query["next"][0]) if "next" in self.query else None

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0] in ("1", "true")

    def most(self) -> int:
        """How many events one answer may bear."""
        text = self.query.get("max", ["1"])[0]
        return min(max(int(text), 1), MOST_EVENTS) if text.isascii() and text.isdigit() and len(text) < 6 else 1

    def address(self, name: str) -> int | None:
        """An IPv4 address of the query. Raises BadQuery."""
        if name not in self.query:
            return None
        try:
            return parse_ip(self.query[name][0])
        except ValueError as error:
            raise BadQuery(f"?{name}: {error}") from None

    def ttl_s(self) -> int | None:
        """`?ttl=` in seconds. Raises BadQuery."""
        if "ttl" not in self.query:
            return None
        text = self.query["ttl"][0]
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise BadQuery("?ttl: no number of seconds")
        return int(text)


def parse(request: Request, rights: Rights) -> Asked | None:
    """None for a path that is no route. Raises Gone, BadQuery."""
    if "//" in request.path:
        raise Gone(_SLASHES.sub("/", request.path) + (f"?{request.query}" if request.query else ""))
    try:
        parts = [unquote(part, errors="strict") for part in request.path.split("/")]
    except UnicodeDecodeError:
        return None
    try:
        query = parse_qs(request.query, keep_blank_values=True, max_num_fields=MOST_OPTIONS, errors="replace")
    except ValueError:
        raise BadQuery(f"more than {MOST_OPTIONS} options in the query") from None
    match parts:
        case ["", "v1", ""]:
            return Asked("networks", "", None, query, request.body, rights)
        case ["", "v1", name, collection] if collection in _COLLECTIONS and _is_network(name):
            return Asked(_COLLECTIONS[collection], _network(name), None, query, request.body, rights)
        case ["", "v1", name, collection, item] if collection in _ITEMS and item and _is_network(name):
            return Asked(_ITEMS[collection], _network(name), Subnet.from_key(item), query, request.body, rights)
        case _:
            return None


def _is_network(name: str) -> bool:
    return name == UNNAMED or not bad_name(name)


def _network(name: str) -> str:
    return "" if name == UNNAMED else name
