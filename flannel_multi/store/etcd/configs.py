"""The config key of a network: read, written and deleted as it is."""

from __future__ import annotations

from flannel_multi.store.client import Deadline
from flannel_multi.store.etcd.answers import b64
from flannel_multi.store.etcd.changing import ChangingKey, delete_key
from flannel_multi.store.etcd.gateway import Gateway
from flannel_multi.store.etcd.pairs import read_first
from flannel_multi.store.keys import NetworkKeys, Range
from flannel_multi.store.protocol import ConfigRead, Revision


async def read(gateway: Gateway, keys: NetworkKeys, deadline: Deadline) -> ConfigRead:
    """See `Ledger.read_config`."""
    outcome = await read_first(gateway, Range(keys.config), deadline=deadline)
    pairs = outcome.pages[0].pairs
    return ConfigRead(pairs[0].value if pairs else None, Revision(*outcome.header[:2]))


async def write(gateway: Gateway, keys: NetworkKeys, raw: bytes, deadline: Deadline) -> int:
    """See `Ledger.write_config`."""
    request = {"key": b64(keys.config), "value": b64(raw)}
    answer = await gateway.call("/v3/kv/put", request, about=Range(keys.config), deadline=deadline)
    return answer.header.revision


async def delete(gateway: Gateway, keys: NetworkKeys, deadline: Deadline) -> int:
    """See `Ledger.delete_config`."""
    return (await delete_key(ChangingKey(gateway, keys.config, deadline))).revision
