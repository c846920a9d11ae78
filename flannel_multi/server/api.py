"""flannel's protocol v1 over a ledger: one method a route (spec §6.2), and what is ours besides.

Ours, which v1 clients pass over: `Flannel-Cursor` and `Flannel-Cluster` on answers; `?revisions=1` and `?max=N` on
lists and watches of leases; `?raw=1`, `?next=N`, `?follow=1` and `?alive=1` on the config; PUT and DELETE of the
config; `?prefer`, `?quiet`, `?from`, `?ttl`, `?renew` and `?holder` on writes. `openapi.json` describes all of it,
and is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files

from flannel_multi import log
from flannel_multi.model.config import NetworkConfig, parse_config, parse_layout
from flannel_multi.model.errors import (
    ConfigError,
    FlannelError,
    KeyAbsent,
    LeaseHeld,
    StoreRefused,
    StoreUnavailable,
)
from flannel_multi.model.v1 import config_text, reservation_text, snapshot_result, text_of
from flannel_multi.options import Grant
from flannel_multi.server import answers, bodies
from flannel_multi.server.answers import NOT_FOUND
from flannel_multi.server.asked import Asked, Gone, parse
from flannel_multi.server.exchange import JSON, Request, Response
from flannel_multi.server.leasing import Leasing
from flannel_multi.server.network import Networks
from flannel_multi.server.policy import Forbidden, Rights
from flannel_multi.server.registry import Registry
from flannel_multi.store.protocol import ConfigRead, Ledger, Revision
from flannel_multi.store.reserving import reserve

OPENAPI = "/openapi.json"
AT_ONCE = 64  # requests that the store is asked for at one time: each may take a connection to it
Route = Callable[[Asked], Awaitable[Response]]


class Api:
    """Answers requests. `handle` is a `Handler`."""

    def __init__(self, ledger: Ledger, policy: Mapping[str, Grant]) -> None:
        self._ledger = ledger
        self.policy = policy  # may be replaced at any time
        self._registry = Registry(ledger)
        self._busy = asyncio.Semaphore(AT_ONCE)
        self._fault = ""  # of the store, as it was said last
        self._networks = Networks(ledger, self._registry.turns)
        leasing = Leasing(ledger, self._registry)
        self._routes: dict[tuple[str, str], Route] = {
            ("GET", "networks"): self._list_networks,
            ("GET", "config"): self._config,
            ("PUT", "config"): self._write_config,
            ("DELETE", "config"): self._delete_config,
            ("GET", "leases"): self._leases,
            ("POST", "leases"): leasing.take,
            ("GET", "lease"): self._lease,
            ("PUT", "lease"): leasing.put,
            ("DELETE", "lease"): leasing.delete,
            ("GET", "reservations"): self._reservations,
            ("POST", "reservations"): self._reserve,
            ("DELETE", "reservation"): self._unreserve,
        }

    async def handle(self, request: Request) -> Response:
        if request.path == OPENAPI and request.method == "GET":
            return Response(200, files("flannel_multi.server").joinpath("openapi.json").read_bytes(), JSON)
        try:
            asked = parse(request, Rights(self.policy, request.peer))
        except Gone as elsewhere:
            return Response(301, headers=(("Location", elsewhere.path),))
        except bodies.BadQuery as error:
            return answers.refused(400, str(error))
        route = self._routes.get((request.method, asked.what)) if asked is not None else None
        if asked is None or route is None:
            return NOT_FOUND
        return answers.relabelled(await self._answer(request, asked, route), self._registry.label)

    async def _answer(self, request: Request, asked: Asked, route: Route) -> Response:
        try:
            if _waits(request, asked):
                return await route(asked)  # perhaps for days
            async with self._busy:
                response = await route(asked)
            self._fault = ""
            return response
        except Forbidden as error:
            log.info(f"{request.peer.address} refused: {error.reason}")
            return answers.forbidden(error)
        except bodies.BadBody as error:
            return answers.refused(400, str(error))
        except bodies.BadCursor as error:
            return answers.refused(500, str(error))
        except KeyAbsent as absent:
            return answers.failed(absent, doing=_doing(request, asked), cluster=await self._registry.known_cluster())
        except FlannelError as error:
            self._tell(error)
            return answers.failed(error, doing=_doing(request, asked))

    def _tell(self, error: FlannelError) -> None:
        """What is wrong with the store is said once, until it serves again."""
        if isinstance(error, StoreUnavailable | StoreRefused) and error.message != self._fault:
            self._fault = error.message
            log.warning(error.message)

    def close(self) -> None:
        self._registry.close()
        self._networks.close()

    # -- networks and configs ------------------------------------------------------------------------------------

    async def _list_networks(self, asked: Asked) -> Response:
        def wanted(name: str) -> bool:
            return asked.rights.joins(name)

        if (cursor := asked.cursor()) is not None:
            news = await self._networks.next_event(cursor, wanted=wanted)
            if news.body is not None:
                return answers.page(news.body, news.revision)
        else:
            await self._networks.follower.start()  # the cursor of this answer will be asked from
        found = await self._ledger.networks()
        names = [text_of(name) for name in found.names if wanted(name)]
        return answers.page(snapshot_result(names, found.revision.number), found.revision)

    async def _config(self, asked: Asked) -> Response:
        asked.rights.join(asked.shown)
        if asked.flag("alive"):  # thousands of watchers ask now and then: the store's own watch knows
            follower = self._registry.network(asked.network).follower
            await follower.start()
            return answers.done(follower.revision)
        cursor = asked.cursor() if asked.flag("raw") else None
        if cursor is not None:
            found = await self._registry.network(asked.network).next_config(cursor)
        else:
            if asked.flag("follow"):  # the cursor of this answer will be asked from, and must be in the history then
                await self._registry.network(asked.network).follower.start()
            found = await self._ledger.read_config(asked.network)
        raw = self._present(asked, found)
        if asked.flag("raw"):
            return Response(200, raw, JSON, answers.place(found.revision))
        return answers.json_line(_config_text(raw, parse_layout(raw)), found.revision)

    async def _write_config(self, asked: Asked) -> Response:
        asked.rights.configure(asked.shown)
        try:
            if not asked.flag("raw"):  # our own clients write what they are told to, as to any other store
                parse_config(asked.body)
        except ConfigError as error:
            return answers.refused(400, error.message)
        number = await self._ledger.write_config(asked.network, asked.body)
        return answers.done(await self._at(asked, number))

    async def _delete_config(self, asked: Asked) -> Response:
        asked.rights.configure(asked.shown)
        number = await self._ledger.delete_config(asked.network)
        return answers.done(await self._at(asked, number))

    # -- leases, read --------------------------------------------------------------------------------------------

    async def _leases(self, asked: Asked) -> Response:
        asked.rights.join(asked.shown)
        network, rich = self._registry.network(asked.network), asked.flag("revisions")
        if (cursor := asked.cursor()) is not None:
            news = await network.next_events(cursor, None, most=asked.most(), rich=rich)
            if news.body is not None:
                return answers.page(news.body, news.revision)
        return answers.page(*await network.board.page(rich=rich))

    async def _lease(self, asked: Asked) -> Response:
        asked.rights.join(asked.shown)
        if asked.subnet is None:
            return answers.refused(400, "bad subnet")
        network, rich = self._registry.network(asked.network), asked.flag("revisions")
        if (cursor := asked.cursor()) is not None:
            news = await network.next_events(cursor, asked.subnet, most=asked.most(), rich=rich)
            if news.body is not None:
                return answers.page(news.body, news.revision)
        snapshot = await network.board.read()
        record = snapshot.leases.get(asked.subnet)
        if record is None:
            key = self._ledger.keys(asked.network).lease(asked.subnet).decode()
            raise KeyAbsent(key, snapshot.revision.number)
        await network.board.learn([record])
        text = network.board.text(record, rich=rich)
        return answers.page(snapshot_result([text], snapshot.revision.number), snapshot.revision)

    # -- reservations --------------------------------------------------------------------------------------------

    async def _reservations(self, asked: Asked) -> Response:
        asked.rights.join(asked.shown)
        snapshot = await self._registry.network(asked.network).board.read()
        kept = (snapshot.leases[subnet] for subnet in sorted(snapshot.leases))
        items = ",".join(reservation_text(record) for record in kept if record.permanent)
        return answers.json_line(f"[{items}]", snapshot.revision)

    async def _reserve(self, asked: Asked) -> Response:
        wanted = bodies.read_reservation(asked.body)
        asked.rights.arrange(asked.shown)
        try:
            record = await reserve(self._ledger, asked.network, wanted.subnet, wanted.public_ip)
        except LeaseHeld:
            return answers.refused(500, "internal error: subnet: lease already taken")
        return answers.done(await self._at(asked, record.revision))

    async def _unreserve(self, asked: Asked) -> Response:
        asked.rights.arrange(asked.shown)
        if asked.subnet is None:
            return answers.refused(400, "bad subnet")
        record = await self._ledger.unreserve(asked.network, asked.subnet)
        return answers.done(await self._at(asked, record.revision))

    # -- small ---------------------------------------------------------------------------------------------------

    def _present(self, asked: Asked, found: ConfigRead) -> bytes:
        """The config. Raises KeyAbsent."""
        if found.config is None:
            raise KeyAbsent(self._ledger.keys(asked.network).config.decode(), found.revision.number)
        return found.config

    async def _at(self, asked: Asked, number: int) -> Revision:
        return Revision(await self._registry.cluster(), number)


DOING = {
    ("GET", "networks"): "failed to retrieve networks: ",
    ("GET", "leases"): "failed to retrieve subnet leases: ",
    ("POST", "reservations"): "internal error: ",
}


def _config_text(raw: bytes, config: NetworkConfig) -> str:
    return config_text(
        raw,
        network=config.network,
        subnet_len=config.subnet_len,
        subnet_min=config.subnet_min,
        subnet_max=config.subnet_max,
    )


def _doing(request: Request, asked: Asked) -> str:
    return DOING.get((request.method, asked.what), "")


def _waits(request: Request, asked: Asked) -> bool:
    """Whether it is a long poll."""
    polled = asked.what in ("networks", "leases", "lease") or (asked.what == "config" and asked.flag("raw"))
    return request.method == "GET" and polled and "next" in asked.query
