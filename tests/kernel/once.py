"""A worker in a process of its own, which makes one step for network blue and is gone like a killed one.

    once.py DATAPATH PEER...      (PEER: 2 or 2+bpf, as `peer` of bench.py; "remembered": the store has not answered)

It prints what a look at it would tell, as JSON. Its log goes to standard error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from flannel_worker.backends.protocol import Backend
from tests.kernel.bench import Bench, peers, udp
from tests.kernel.place import keeper, reconciler


async def step(backend: Backend, *words: str) -> None:
    async with reconciler() as opened:
        bench = Bench(opened, keeper(), backend)
        await bench.step(peers(*(word for word in words if word != "remembered")), remembered="remembered" in words)
        seen = {
            "runs": bench.tunnel.runs,
            "faults": bench.plane.faults,
            "lease": bench.published(),
            "imported": [*sys.modules],
        }
        print(json.dumps(seen | {"imported": [*sys.modules]}), flush=True)
        os._exit(0)


asyncio.run(step(udp(DataPath=sys.argv[1]), *sys.argv[2:]))
