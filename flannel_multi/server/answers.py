"""Answers of protocol v1, and errors as v1 words them (spec §6.1)."""

from __future__ import annotations

from collections.abc import Callable

from flannel_multi.model.errors import (
    ConfigError,
    FlannelError,
    KeyAbsent,
    LeaseHeld,
    LeaseLost,
    NoSubnetLeft,
    StoreUnavailable,
)
from flannel_multi.model.v1 import UTF8, text_of
from flannel_multi.server.exchange import JSON, TEXT, Response
from flannel_multi.server.policy import Forbidden
from flannel_multi.store.protocol import Revision

NOT_FOUND = Response(404, b"404 page not found\n", TEXT, (("X-Content-Type-Options", "nosniff"),))
CLUSTER = "Flannel-Cluster"
AWAY = "client: etcd cluster is unavailable or misconfigured; error #0: "  # clients know it by this beginning


def place(revision: Revision) -> tuple[tuple[str, str], ...]:
    """Where in the store's history an answer is: our own clients read it, others pass it over."""
    return (("Flannel-Cursor", str(revision.number)), (CLUSTER, revision.cluster))


def relabelled(response: Response, label: Callable[[str], str]) -> Response:
    """The answer, with the store's name as clients are to know it."""
    headers = tuple((name, label(value) if name == CLUSTER else value) for name, value in response.headers)
    return response if headers == response.headers else response._replace(headers=headers)


def json_line(text: str, revision: Revision | None = None) -> Response:
    return Response(200, f"{text}\n".encode(*UTF8), JSON, place(revision) if revision else ())


def page(body: bytes, revision: Revision) -> Response:
    """`body` is whole, with its line feed; it may be shared by many answers."""
    return Response(200, body, JSON, place(revision))


def done(revision: Revision | None = None) -> Response:
    return Response(200, headers=place(revision) if revision else ())


def refused(status: int, text: str, revision: Revision | None = None) -> Response:
    return Response(status, text.encode(*UTF8), TEXT, place(revision) if revision else ())


def forbidden(error: Forbidden) -> Response:
    body = f'{{"error":{text_of(error.reason)},"identity":{text_of(error.identity)}}}\n'
    return Response(403, body.encode(*UTF8), JSON)


def failed(error: FlannelError, *, doing: str = "", cluster: str = "") -> Response:
    """An error of the store or of what was asked of it. `doing` goes before what the store says; `cluster` is the
    store that lacks a key."""
    match error:
        case LeaseHeld() | LeaseLost():
            return refused(409, error.message)
        case NoSubnetLeft():
            return refused(500, "out of subnets")
        case ConfigError():
            return refused(500, f"{doing}{error.flannel}")
        case KeyAbsent():
            return refused(500, f"{doing}{error.message}", Revision(cluster, error.revision))
        case StoreUnavailable():
            return refused(500, f"{doing}{AWAY}{error.message}\n")
        case _:
            return refused(500, f"{doing}{error.message}")
