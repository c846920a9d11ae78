"""What the tests of the remote store share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from flannel_multi.options import RemoteOptions, TlsOptions
from flannel_multi.store.remote import RemoteStore


@asynccontextmanager
async def opened_remote(*servers: str, tls: TlsOptions = TlsOptions()) -> AsyncIterator[RemoteStore]:  # noqa: B008
    """A store on `servers` (URLs), closed at the end."""
    store = RemoteStore(RemoteOptions(servers, tls))
    try:
        yield store
    finally:
        await store.close()


def admin(folder: Path) -> list[str]:
    """Flags of a server on which clients without a certificate may do everything, and those with one join networks."""
    settings = folder / "flanneld.toml"
    settings.write_text('[policy.anonymous]\nadmin = true\n\n[policy."*"]\nnetworks = ["*"]\n')
    return [f"--config={settings}"]
