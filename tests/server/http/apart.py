"""A server in a process of its own, whose memory can be looked at: `python apart.py LISTEN` says its port, then serves.

`/` is answered at once, `/wait` never, `/large` with one shared body of 2 MB; `/memory` with the process's own
resident KiB, and `/count` with its connections.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from flannel_multi.options.listen import parse_listen
from flannel_multi.server.exchange import Request, Response
from flannel_multi.server.http.limits import Limits
from flannel_multi.server.http.listening import open_listener
from flannel_multi.server.http.server import HttpServer

LARGE = os.urandom(2_000_000)


async def main() -> None:
    async def handler(request: Request) -> Response:
        match request.path:
            case "/wait":
                await asyncio.get_running_loop().create_future()
            case "/large":
                return Response(200, LARGE)
            case "/memory":
                status = Path("/proc/self/status").read_text()
                return Response(200, status.partition("VmRSS:")[2].split()[0].encode())
            case "/count":
                return Response(200, str(server.connections).encode())
        return Response(200, b"hello")

    server = HttpServer(handler, Limits(head_s=60.0))
    listener = open_listener(parse_listen(sys.argv[1]), os.environ, os.getpid())
    server.start([listener])
    print(listener.getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
