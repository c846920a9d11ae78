"""A process that writes to a store file until it has written enough or is killed: PATH NETWORK COUNT TOGETHER.

Prints `subnet vni revision` for each write that was acknowledged. Lease N has public IP N + 1; VNIs count the writes.
"""

from __future__ import annotations

import asyncio
import sys

from flannel_multi.model.lease import LeaseAttrs
from flannel_multi.model.subnet import Subnet
from flannel_multi.options import SqliteOptions
from flannel_multi.store.sqlite import SqliteStore

SUBNETS = 200


async def write(path: str, network: str, count: int, together: int) -> None:
    store = SqliteStore(SqliteOptions(path))
    numbers = iter(range(count))

    async def write_some() -> None:
        for at in numbers:
            subnet = Subnet.parse(f"10.1.{at % SUBNETS}.0/24")
            attrs = LeaseAttrs(at % SUBNETS + 1, "vxlan", {"VNI": at})
            lease = await store.put_lease(network, subnet, attrs)
            print(subnet, at, lease.record.revision, flush=True)

    await asyncio.gather(*(write_some() for _ in range(together)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
