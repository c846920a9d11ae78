"""Resources that are global on a host, and who of several networks may have them: a pure arbiter's vocabulary.

A claim names one resource of one kind. Two claims of the same kind clash by the rule of that kind: equal names,
or, for `cidr`, overlapping prefixes. A udp port and a VNI on the same port clash too: the kernel's vxlan has it open.
"""

from __future__ import annotations

from dataclasses import dataclass

from flannel_multi.model.subnet import Subnet

KINDS = ("cidr", "device", "vni-port", "udp-port", "env-file")


@dataclass(frozen=True)
class Claim:
    """`kind` is one of KINDS; `name` its text: a CIDR, an interface name, `VNI/port`, a port, an absolute path."""

    kind: str
    name: str


@dataclass(frozen=True)
class Clash:
    """`claim` was refused because network `holder` has `held` (the holder's name for the resource)."""

    claim: Claim
    holder: str
    held: str


def clash(a: Claim, b: Claim) -> bool:
    """True when both cannot be granted on one host."""
    if a.kind != b.kind:
        return {a.kind, b.kind} == {"udp-port", "vni-port"} and _port(a) == _port(b)
    if a.kind == "cidr":
        try:
            return Subnet.parse(a.name).overlaps(Subnet.parse(b.name))
        except ValueError:
            return a.name == b.name
    return a.name == b.name


def _port(claim: Claim) -> str:
    """The UDP port of `8285` and of `12/8285`."""
    return claim.name.rpartition("/")[2]
