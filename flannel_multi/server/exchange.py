"""A request and its answer, between the HTTP side, which knows nothing of leases, and the protocol, which knows
nothing of sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


class Identity(NamedTuple):
    """Who a client's certificate, verified, says that it is. `names`: the common name, then DNS names; `addresses`:
    the IPv4 addresses among its alternative names."""

    names: tuple[str, ...]
    addresses: frozenset[int] = frozenset()


class Peer(NamedTuple):
    """The other end. `address` for the log, such as `192.0.2.1:4242`; `identity` None: no client certificate was
    asked for; `local`: it came by a unix socket, whose file says who may."""

    address: str
    identity: Identity | None = None
    local: bool = False


class Request(NamedTuple):
    """`path` as it came, still percent-encoded, without the query. The body is whole."""

    method: str
    path: str
    query: str
    body: bytes
    peer: Peer


class Response(NamedTuple):
    """`body` is sent with its length; `content_type` "" sends none. `body` may be shared by many answers."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]
"""Answers one request; cancelled when the client goes away meanwhile. It may wait for ever (a long poll)."""
