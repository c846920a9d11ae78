"""Whose certificate a server shows that is not for the name it was asked by. Imported when that has happened."""

from __future__ import annotations

from flannel_multi.store.sockets import addresses, peer_certificate
from flannel_multi.store.tls import TlsFiles, explain_name
from flannel_multi.store.transport import Endpoint


async def name_fault(endpoint: Endpoint, tls: TlsFiles) -> str:
    """One line that gives both names, "" when the certificate has none to give. Nothing is asked of the server, and
    its certificate must be sound but for the name. Raises OSError, StoreRefused."""
    context = tls.nameless_context()
    for address in await addresses(endpoint.host):
        return explain_name(await peer_certificate(address, endpoint.port, context, endpoint.host), endpoint.host)
    return ""
