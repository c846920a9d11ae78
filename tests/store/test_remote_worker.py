"""The remote store on a worker's own event loop, which has no more than it needs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from flannel_multi.options import RemoteOptions, TlsOptions
from flannel_multi.store.protocol import LeaseWritten
from flannel_multi.store.remote import RemoteStore
from flannel_worker.loop import Loop
from tests.lab.server import Server
from tests.lab.store_file import StoreFile
from tests.lab.tls import make_certificates
from tests.store.remote_rig import admin
from tests.store.rig import CONFIG, attrs, config


def test_a_worker_joins_keeps_and_follows_its_network_over_tls(tmp_path: Path) -> None:
    tls = make_certificates(tmp_path / "pem")
    file = StoreFile(tmp_path / "store.db")
    file.put_config("blue", CONFIG)

    async def story(url: str) -> None:
        store = RemoteStore(RemoteOptions((url,), TlsOptions(cafile=str(tls.ca))))
        start = await store.snapshot("blue")
        assert start.config == CONFIG
        lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
        watch = cast(Any, store.watch("blue", after=start.revision))
        async with aclosing(watch):
            async with asyncio.timeout(5.0):
                change = await anext(watch)
            assert change == LeaseWritten(lease.record)
            assert await store.renew("blue", lease) == lease
            waiting = asyncio.get_running_loop().create_task(anext(watch))
            await asyncio.sleep(0.05)
            published = await store.publish("blue", lease, attrs("192.0.2.1", vni=4))
            async with asyncio.timeout(5.0):
                assert await waiting == LeaseWritten(published.record)
            await store.release("blue", published)
        await store.close()

    flags = [f"--remote-certfile={tls.server_cert}", f"--remote-keyfile={tls.server_key}", *admin(tmp_path)]
    with Server(file.url, tmp_path, flags=flags) as server:
        Loop().run(story(f"https://{server.address}"))
