"""Calls of etcd's JSON gateway: one request, one answer, the auth token renewed, errors in words.

Nothing here knows of networks or leases of subnets.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from flannel_multi.model.errors import Compacted, StoreRefused, StoreUnavailable
from flannel_multi.options import EtcdOptions
from flannel_multi.store.client import BROKEN, Client, Deadline, Stream
from flannel_multi.store.etcd.answers import (
    DENIED,
    NO_ETCD,
    USER_NEEDED,
    BadAnswer,
    Header,
    Kind,
    Problem,
    header_of,
    read,
)
from flannel_multi.store.keys import Range
from flannel_multi.store.tls import TlsFiles
from flannel_multi.store.transport import Endpoint, Headers, Reply

NEEDS_LEADER = ("Grpc-Metadata-Hasleader", "true")  # a member cut off from the others ends the watch


class NoEtcdLease(StoreRefused):
    """The etcd lease is not there (expired, revoked, never granted)."""


class LeaseExists(StoreRefused):
    """An etcd lease with the id that was asked for is there already."""


class NoSpace(StoreRefused):
    """etcd takes no writes until it is given space."""


class Result(NamedTuple):
    """A good answer, who gave it, and where in its history."""

    endpoint: Endpoint
    header: Header
    body: dict[str, Any]


class Gateway:
    """One etcd (cluster) as its options name it. No connection, file or look-up before the first call."""

    def __init__(self, options: EtcdOptions) -> None:
        self._options = options
        self._client: Client | None = None
        self._token: str | None = None  # "": etcd says that it wants none
        self._seen: Header | None = None  # the last linearizable answer
        self.history = 0  # how often the store's data was seen to be replaced

    async def call(
        self, path: str, request: dict[str, Any], *, deadline: Deadline, about: Range, at: Endpoint | None = None
    ) -> Result:
        """The answer to one request about keys `about` (for the error's text).

        Raises StoreUnavailable, StoreRefused, Compacted, NoEtcdLease, LeaseExists.
        """
        body = json.dumps(request).encode()
        for first in (True, False):
            token = await self._authorization(deadline)
            floor = self._seen
            endpoint, reply = await self.client.post(path, body, token, deadline=deadline, at=at)
            found = read(reply, https=endpoint.scheme == "https")
            if not isinstance(found, Problem):
                try:
                    header = header_of(found)
                except BadAnswer:
                    raise self.bad_answer(endpoint) from None
                if path.startswith("/v3/kv/"):
                    self._follow(floor, header)
                return Result(endpoint, header, found)
            if found.kind is Kind.COMPACTED and "revision" not in request:
                raise self.bad_answer(endpoint)
            if not (first and self.forget_token(found)):
                raise self.error(found, endpoint, about)
        raise AssertionError("unreachable")

    async def stream(self, path: str, request: bytes, *, deadline: Deadline, about: Range) -> Stream:
        """Opens an endless answer whose head says 200. Raises as `call` does."""
        for first in (True, False):
            headers = (NEEDS_LEADER, *await self._authorization(deadline))
            stream = await self.client.stream(path, request, headers, deadline=deadline)
            if stream.status == 200:
                return stream
            found = await self._refusal(stream, deadline)
            if not (first and self.forget_token(found)):
                raise self.error(found, stream.endpoint, about)
        raise AssertionError("unreachable")

    def forget_token(self, found: Problem) -> bool:
        """True when `found` asks for a new auth token, and there can be one: the request is worth sending again."""
        if found.kind is not Kind.TOKEN or not self._options.username:
            return False
        self._token = None
        return True

    def error(self, found: Problem, endpoint: Endpoint, about: Range) -> Exception:
        """The exception that says `found`."""
        match found.kind:
            case Kind.COMPACTED:
                return Compacted(f"{endpoint}: {found.text}")
            case Kind.NO_LEASE:
                return NoEtcdLease(f"{endpoint}: {found.text}")
            case Kind.LEASE_EXISTS:
                return LeaseExists(f"{endpoint}: {found.text}")
            case Kind.NO_SPACE:
                return NoSpace(f"{endpoint}: {found.text}")
            case Kind.AWAY:
                self.client.demote(endpoint)
                return StoreUnavailable(f"{endpoint}: {found.text}")
            case Kind.TOKEN:
                return StoreRefused(f"{endpoint}: {found.text if self._options.username else USER_NEEDED}")
            case Kind.REFUSED if found.text == DENIED and not self._options.username:
                return StoreRefused(f"{endpoint}: permission denied; {USER_NEEDED}")
            case Kind.REFUSED if found.text == DENIED:
                return StoreRefused(f"{endpoint}: {self._denied(about)}")
            case Kind.REFUSED:
                self.client.demote(endpoint)
                return StoreRefused(f"{endpoint}: {found.text}")

    def bad_answer(self, endpoint: Endpoint) -> StoreRefused:
        """`endpoint` answers with something that etcd would not say."""
        self.client.demote(endpoint)
        return StoreRefused(f"{endpoint}: {NO_ETCD}")

    def _follow(self, floor: Header | None, header: Header) -> None:
        """Reads of etcd are linearizable: none is older than `floor`, an answer that came before it was asked for.

        The raft term starts anew with a restore, and shows one whose revisions have caught up already.
        """
        self._seen = header
        if floor is not None and (
            header.cluster != floor.cluster or header.revision < floor.revision or 0 < header.term < floor.term
        ):
            self.history += 1

    @property
    def client(self) -> Client:
        if self._client is None:
            options = self._options
            try:
                endpoints = tuple(Endpoint.parse(url) for url in options.endpoints)
            except ValueError as error:
                raise StoreRefused(f"--etcd-endpoints: {error}") from None
            tls = TlsFiles(cafile=options.cafile, certfile=options.certfile, keyfile=options.keyfile)
            self._client = Client(endpoints, tls)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    async def _authorization(self, deadline: Deadline) -> Headers:
        """The header that carries our token, asked for when there is none."""
        if not self._options.username:
            return ()
        if self._token is None:
            request = {"name": self._options.username, "password": self._options.password}
            endpoint, reply = await self.client.post(
                "/v3/auth/authenticate", json.dumps(request).encode(), deadline=deadline
            )
            found = read(reply, https=endpoint.scheme == "https")
            if isinstance(found, Problem):
                if "authentication is not enabled" in found.text:
                    self._token = ""
                    return ()
                raise self._not_authenticated(found, endpoint)
            token = found.get("token")
            if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
                raise self.bad_answer(endpoint)  # it must stand in a header
            self._token = token
        return (("Authorization", self._token),) if self._token else ()

    def _not_authenticated(self, found: Problem, endpoint: Endpoint) -> Exception:
        if found.kind is Kind.AWAY:
            return self.error(found, endpoint, Range(b""))
        return StoreRefused(f"{endpoint}: user {self._options.username!r}: {found.text}")

    async def _refusal(self, stream: Stream, deadline: Deadline) -> Problem:
        """What an answer that is no stream says."""
        try:
            async with deadline.part(1.0):
                body = await stream.connection.rest()
        except BROKEN:
            body = b""
        finally:
            stream.connection.close()
        found = read(Reply(stream.status, body), https=stream.endpoint.scheme == "https")
        return found if isinstance(found, Problem) else Problem(Kind.REFUSED, NO_ETCD)

    def _denied(self, about: Range) -> str:
        prefix = self._options.prefix.rstrip("/") + "/"
        return (
            f"user {self._options.username!r} may not use {about} (permission denied); "
            f"grant it: etcdctl role grant-permission ROLE readwrite --prefix=true {prefix}"
        )
