"""Requests to whichever server answers, and what their answers mean. Knows v1's errors, nothing of single requests."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from flannel_multi.model.errors import FlannelError, KeyAbsent, LeaseHeld, LeaseLost, StoreRefused, StoreUnavailable
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.v1 import BadAnswer, ToldLease
from flannel_multi.options import RemoteOptions
from flannel_multi.store.client import Client, Deadline, Request
from flannel_multi.store.expiries import Expiries
from flannel_multi.store.protocol import Lease, Revision
from flannel_multi.store.remote.answers import (
    NO_SERVER,
    Kind,
    Problem,
    bounded,
    cluster_of,
    cursor_of,
    date_of,
    holder_of,
    problem_of,
    ttl_s,
)
from flannel_multi.store.tls import REMOTE, TlsFiles
from flannel_multi.store.transport import Endpoint, Reply

OLD_CLUSTER = "v1"  # the one name for the store behind servers that do not say which it is
_T = TypeVar("_T")


class Told(NamedTuple):
    """An answer: who gave it, what is wrong with it, and whether the server knows our extensions of v1."""

    endpoint: Endpoint
    reply: Reply
    problem: Problem | None
    modern: bool

    @property
    def cursor(self) -> int | None:
        """The point of history in the headers (or, of an absent key, in the words)."""
        found = cursor_of(self.reply)
        if found is None and self.problem is not None and self.problem.kind is Kind.ABSENT:
            return self.problem.revision
        return found


class Seen(NamedTuple):
    """What this store has told of a network last. `settled`: leases were told up to here; `config` as it was at
    `config_at`."""

    settled: Revision
    config: bytes | None
    config_at: int


class Session:
    """The servers as the options name them. No connection, file or look-up before the first request."""

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options
        self._client: Client | None = None
        self._modern: dict[Endpoint, bool] = {}
        self._cluster = ""
        self.expiries = Expiries()
        self.seen: dict[str, Seen] = {}

    async def ask(self, request: Request, *, deadline: Deadline, at: Endpoint | None = None) -> Told:
        """One request, at `at` alone if given; where a server cannot serve, at the next. Raises StoreUnavailable,
        StoreRefused (TLS)."""
        failures: list[tuple[Endpoint, Problem]] = []
        while True:
            try:
                endpoint, reply = await self.client.exchange(request, deadline=deadline, at=at)
            except StoreUnavailable as error:
                raise _with(failures, error) from None
            told = self.told(endpoint, reply)
            if told.problem is None or told.problem.kind not in (Kind.AWAY, Kind.STRANGER):
                return told
            self.client.demote(endpoint)
            failures.append((endpoint, told.problem))
            if at is not None or len(failures) >= len(self.client.endpoints):
                raise _with(failures, None)

    async def call(self, request: Request, *, deadline: Deadline, doing: str = "do this") -> Told:
        """As `ask`, for a good answer. `doing`: what an older server may be unable to do. Raises KeyAbsent, LeaseHeld,
        LeaseLost besides."""
        told = await self.ask(request, deadline=deadline)
        if told.problem is not None:
            raise self.refusal(told, doing=doing)
        return told

    def told(self, endpoint: Endpoint, reply: Reply) -> Told:
        """An answer, and what it shows of the server."""
        if reply.status == 200 or cursor_of(reply) is not None:  # an error without it says nothing of the server
            self._modern[endpoint] = cursor_of(reply) is not None
            self._cluster = cluster_of(reply) or self._cluster
        return Told(endpoint, reply, problem_of(reply), self._modern.get(endpoint, False))

    def refusal(self, told: Told, *, doing: str = "do this") -> FlannelError:
        """The error that says what is wrong with an answer."""
        endpoint, problem = told.endpoint, told.problem
        assert problem is not None
        match problem.kind:
            case Kind.ABSENT:
                return KeyAbsent(problem.key, problem.revision)
            case Kind.HELD if held := holder_of(problem.text):
                return LeaseHeld(*held)
            case Kind.HELD:
                return LeaseLost(problem.text)
            case Kind.NO_ROUTE:
                return StoreRefused(f"{endpoint} is an older server, which cannot {doing}: {problem.text}")
            case Kind.AWAY:
                self.client.demote(endpoint)
                return StoreUnavailable(f"{endpoint}: {problem.text}")
            case _:
                return StoreRefused(f"{endpoint}: {problem.text}")

    def read(self, told: Told, how: Callable[[bytes], _T]) -> _T:
        """The body of a good answer. Raises StoreRefused when it is none."""
        try:
            return how(told.reply.body)
        except BadAnswer as error:
            self.client.demote(told.endpoint)
            raise StoreRefused(f"{told.endpoint}: {error}; {NO_SERVER}") from None

    def revision(self, told: Told, number: int) -> Revision:
        """Point `number` of the history that `told` is of. Raises StoreRefused."""
        cluster = (cluster_of(told.reply) or self._cluster) if told.modern else OLD_CLUSTER
        return Revision(cluster, self.read(told, lambda _: bounded(number)))

    def note(self, told: Told, lease: ToldLease, record: LeaseRecord) -> Lease:
        """`record`, the lease as told, and the seconds that it has left, which are remembered."""
        now_s = date_of(told.reply)
        left_s = ttl_s(lease.end_s, time() if now_s is None else now_s)
        self.expiries.note(record, left_s)
        return Lease(record, left_s)

    @property
    def all_modern(self) -> bool:
        """True when every server has been heard, and knows our extensions: a request that an older one would
        misunderstand may then be sent to whichever answers."""
        return all(self._modern.get(endpoint, False) for endpoint in self.client.endpoints)

    @property
    def client(self) -> Client:
        if self._client is None:
            try:
                endpoints = tuple(Endpoint.parse(url) for url in self._options.servers)
            except ValueError as error:
                raise StoreRefused(f"--remote: {error}") from None
            tls = self._options.tls
            files = TlsFiles(cafile=tls.cafile, certfile=tls.certfile, keyfile=tls.keyfile, words=REMOTE)
            self._client = Client(endpoints, files)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def get(network: str, rest: str) -> Request:
    return Request("GET", path_of(network, rest))


def path_of(network: str, rest: str) -> str:
    """`rest` is what follows the network's name, with its query."""
    return f"/v1/{quote(network, safe='') if network else '_'}/{rest}"


def _with(failures: list[tuple[Endpoint, Problem]], error: StoreUnavailable | None) -> FlannelError:
    """The one error for several servers that did not serve."""
    texts = [f"{endpoint}: {problem.text}" for endpoint, problem in failures]
    strangers = bool(failures) and all(problem.kind is Kind.STRANGER for _, problem in failures)
    if error is None and strangers:
        return StoreRefused("; ".join(texts))
    return StoreUnavailable("; ".join([*texts, *([error.message] if error else [])]))
