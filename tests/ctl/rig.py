"""flannelctl as a user runs it, and stores filled and read beside it."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import redirect_stderr, redirect_stdout
from time import time
from typing import Any, NamedTuple, TypeVar

from flannel_multi.ctl.main import run
from flannel_multi.ctl.opened import Opened
from flannel_multi.model.lease import LeaseAttrs
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.options import EtcdOptions, TlsOptions
from flannel_multi.options.store_url import parse_store_url
from flannel_multi.store.expiries import NEVER
from flannel_multi.store.opening import open_ledger

CONFIG = b'{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan","VNI":1}}'
OTHER = b'{"Network":"10.2.0.0/16","Backend":{"Type":"host-gw"}}'
DATA = {"VNI": 1, "VtepMAC": "6e:bb:a9:11:4b:86"}
_NO_ETCD = EtcdOptions(("http://127.0.0.1:1",), "", "", "", "", "", "")
T = TypeVar("T")


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: bytes
    err: str


class Held(NamedTuple):
    """A lease of a dump. `left_s`: seconds to its end, None for a reservation."""

    ip: str
    kind: str
    data: Any
    left_s: float | None


def ctl(*arguments: str, environ: Mapping[str, str] | None = None) -> Done:
    """The command in this process."""
    out, err = io.BytesIO(), io.StringIO()
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    with redirect_stdout(text), redirect_stderr(err):
        status = run(arguments, environ or {})
    text.flush()
    return Done(status, out.getvalue(), err.getvalue())


def ctl_process(*arguments: str, stdin: bytes = b"") -> Done:
    """The command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "flannel_multi.ctl.main", *arguments],
        input=stdin, capture_output=True, timeout=30, check=False, env={},
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr.decode())


async def with_other(url: str, work: Callable[[Opened], Coroutine[Any, Any, T]]) -> T:
    """What `work` returns, given the store at `url`."""
    options = parse_store_url(url, etcd=_NO_ETCD, tls=TlsOptions())
    ledger = open_ledger(options)
    try:
        return await work(Opened(ledger, options, 5.0))
    finally:
        await ledger.close()


def with_ledger(url: str, work: Callable[[Opened], Coroutine[Any, Any, T]]) -> T:
    """The same, in a loop of its own."""
    return asyncio.run(with_other(url, work))


def write_config(url: str, network: str, raw: bytes) -> None:
    with_ledger(url, lambda store: store.ledger.write_config(network, raw))


def put(
    url: str, network: str, subnet: str, ip: str, *, ttl_s: int | None = 5000, kind: str = "vxlan", data: Any = None
) -> None:
    """A lease; `ttl_s` None: a reservation."""
    attrs = LeaseAttrs(parse_ip(ip), kind, DATA if data is None else data)
    with_ledger(url, lambda store: store.ledger.put_lease(network, Subnet.parse(subnet), attrs, ttl_s=ttl_s))


def leases(url: str, network: str) -> dict[str, Held]:
    """What the store holds now, by subnet."""

    async def look(store: Opened) -> dict[str, Held]:
        records = (await store.snapshot(network)).leases.values()
        await store.learn(records)
        found = {}
        for record in records:
            end_s = store.ledger.expiries.of(record)
            assert end_s is not None
            left_s = None if end_s == NEVER else end_s - time()
            attrs = record.attrs
            found[str(record.subnet)] = Held(_ip(attrs.public_ip), attrs.backend_type, attrs.backend_data, left_s)
        return found

    return with_ledger(url, look)


def config(url: str, network: str) -> bytes | None:
    return with_ledger(url, lambda store: store.ledger.read_config(network)).config


def dump(url: str, *networks: str) -> dict[str, tuple[bytes | None, dict[str, Held]]]:
    """Configs and leases, without the time they have left (None for a reservation, else 0)."""
    return {
        network: (
            config(url, network),
            {subnet: held._replace(left_s=held.left_s and 0) for subnet, held in leases(url, network).items()},
        )
        for network in networks
    }


def _ip(address: int) -> str:
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))
