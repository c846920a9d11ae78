"""A server from its first listener to its last connection: sockets, signals, the service manager."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Mapping
from socket import AF_UNIX, socket

from flannel_multi import log
from flannel_multi.options import ListenOptions, Options
from flannel_multi.server.api import Api
from flannel_multi.server.http.listening import open_listener
from flannel_multi.server.http.server import HttpServer
from flannel_multi.server.http.tls import ServerTls, server_tls
from flannel_multi.service_manager import Notifier, watchdog_s
from flannel_multi.store.opening import open_ledger

EXIT_FAILED = 1
GARBAGE = 50_000  # objects made before the collector looks: thousands that wait are no garbage, and cost each look


def serve(options: Options, environ: Mapping[str, str], reread: Callable[[], Options | None]) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status. `reread` gives the options as they are now written, or
    None after it has said why they cannot be used."""
    assert options.listen is not None
    try:
        listener, tls = open_listener(options.listen.address, environ, os.getpid()), server_tls(options.listen.tls)
    except (OSError, ValueError) as error:
        log.error(f"the server cannot start: {error}")
        return EXIT_FAILED
    asyncio.run(_Server(options, environ, reread).run(listener, tls))
    log.info("stopped")
    return 0


class _Server:
    def __init__(self, options: Options, environ: Mapping[str, str], reread: Callable[[], Options | None]) -> None:
        self._options = options
        self._reread = reread
        self._notifier = Notifier(watchdog_s=watchdog_s(environ))

    async def run(self, listener: socket, tls: ServerTls | None) -> None:
        loop, listen = asyncio.get_running_loop(), self._options.listen
        assert listen is not None
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        ledger = open_ledger(self._options.store)
        api = Api(ledger, listen.policy)
        http = HttpServer(api.handle, tls=tls)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up, api)
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)  # as flannel: it means nothing here
        gc.freeze()
        gc.set_threshold(GARBAGE, 20, 20)
        http.start([listener])
        log.info(f"listening on {listen.address.text}{_manner(listener, listen, tls)}")
        self._notifier.ready()
        self._notifier.status(f"serving on {listen.address.text}")
        self._beat(loop)
        await stopped.wait()
        log.info("stopping; clients keep their leases and come back with their cursors")
        http.close()
        api.close()
        await ledger.close()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._notifier.beat_s is not None:
            self._notifier.watchdog()
            loop.call_later(self._notifier.beat_s, self._beat, loop)

    def _hang_up(self, api: Api) -> None:
        """The policy is read again; all else takes a restart. TLS files need no word: they are looked at anyway."""
        fresh = self._reread()
        if fresh is None or fresh.listen is None:
            return
        api.policy = fresh.listen.policy
        log.info(f"SIGHUP: {len(api.policy)} policy tables are in force")


def _manner(listener: socket, listen: ListenOptions, tls: ServerTls | None) -> str:
    if listener.family == AF_UNIX:
        return ""  # its file says who may, and TLS is not spoken there
    if tls is None:
        return " (plain HTTP: whoever reaches it may take leases)"
    return " with TLS; clients show certificates" if listen.tls.cafile else " with TLS"
