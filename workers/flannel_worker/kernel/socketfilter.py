"""Which kernel events wake this worker: a classic BPF program on the event socket (man 7 socket, SO_ATTACH_FILTER).

Fifty workers on one host each hear every change that any of them makes. Without a filter, fifty networks that
start at once cost the square of that; with it, a worker sleeps through what its siblings do. What passes:

- links, but not the devices of others (flannel.VNI, flannel0, ...) while they stay, and addresses likewise;
- routes of the main table that are foreign, or ours by protocol and inside this network;
- neighbours and forwarding entries of this network's own device, and nexthops on it or on the uplink;
- nothing that this process itself ordered (the event bears the port of the socket that asked; forwarding entries
  alone do not, so those are compared with what is wanted).

The program reads in network order, so numbers in host order are swapped before they are compared. Attributes are
found by the kernel's own walker (SKF_AD_NLATTR: in A the offset of the first attribute, in X the type wanted).
"""

from __future__ import annotations

import socket
import struct
from array import array
from socket import htonl, htons
from typing import NamedTuple

from flannel_worker.kernel import uapi as k
from flannel_worker.kernel.objects import RT_PROTOCOL, Scope

# Offsets from the start of the nlmsghdr; the body begins at 16.
_TYPE, _PORT, _BODY = 4, 12, 16
_INDEX = 20  # of the device, in ifinfomsg, ndmsg and ifaddrmsg alike
_LINK_ATTRS, _ADDR_ATTRS, _ROUTE_ATTRS, _NEXTHOP_ATTRS = 32, 24, 28, 24
_NLATTR = 0xFFFFF000 + 12  # SKF_AD_OFF + SKF_AD_NLATTR

# linux/filter.h
_LD_W, _LD_H, _LD_B, _LD_W_X, _LD_B_X = 0x20, 0x28, 0x30, 0x40, 0x50
_LD_IMM, _LDX_IMM, _TAX, _AND, _JEQ, _JGE, _RET = 0x00, 0x01, 0x07, 0x54, 0x15, 0x35, 0x06
_PASS, _DROP = "pass", "drop"
_VALUE = struct.Struct("=I")
_FPROG = struct.Struct("@HP")  # struct sock_fprog


class _Op(NamedTuple):
    """One instruction; jumps name labels, "" being the next instruction. A value that is a text names a slot, which is
    filled when the program is put to use."""

    code: int
    value: int | str
    yes: str = ""
    no: str = ""


class _Template(NamedTuple):
    """A program with its slots empty, and where in it they are."""

    text: bytes
    slots: tuple[tuple[str, int], ...]


_NO_DEVICE = 0xFFFFFFFF  # no interface has this index


def event_filter(port: int, device: int, scope: Scope | None) -> bytes:
    """The program, as an array of sock_filter. `device` 0: no device yet. Without `scope` no route of ours passes."""
    values = {"port": htonl(port), "device": htonl(device or _NO_DEVICE), "uplink": _NO_DEVICE}
    if scope is not None:
        base, length = scope.within
        values |= {"base": base, "mask": (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF}
        values["uplink"] = htonl(scope.uplink or _NO_DEVICE)
    template = _WITHOUT_SCOPE if scope is None else _WITHIN_SCOPE
    program = bytearray(template.text)
    for name, place in template.slots:
        _VALUE.pack_into(program, place, values[name])
    return bytes(program)


def _program(*, scoped: bool) -> list[_Op | str]:
    return [
        _Op(_LD_W, _PORT),
        _Op(_JEQ, "port", yes=_DROP),
        _Op(_LD_H, _TYPE),
        *_when("link", k.RTM_NEWLINK),
        *_when("gone", k.RTM_DELLINK),
        *_when("address", k.RTM_NEWADDR, k.RTM_DELADDR),
        *_when("route", k.RTM_NEWROUTE, k.RTM_DELROUTE),
        *_when("entry", k.RTM_NEWNEIGH, k.RTM_DELNEIGH),
        *_when("nexthop", k.RTM_NEWNEXTHOP, k.RTM_DELNEXTHOP),
        _Op(_RET, 0),
        "link",
        _Op(_LD_B, _BODY),
        _Op(_JEQ, 0, no=_DROP),  # not of a bridge about its ports
        *_unless_sibling(_LINK_ATTRS, k.IFLA_IFNAME),
        "gone",
        _Op(_LD_B, _BODY),
        _Op(_JEQ, 0, yes=_PASS, no=_DROP),
        "address",
        *_unless_sibling(_ADDR_ATTRS, k.IFA_LABEL),
        *_route(scoped=scoped),
        "entry",
        _Op(_LD_W, _INDEX),
        _Op(_JEQ, "device", yes=_PASS, no=_DROP),
        *_nexthop(),
        _PASS,
        _Op(_RET, 0xFFFFFFFF),
        _DROP,
        _Op(_RET, 0),
    ]


def _when(label: str, *types: int) -> list[_Op]:
    return [_Op(_JEQ, htons(kind), yes=label) for kind in types]


def _unless_sibling(attrs: int, name: int) -> list[_Op]:
    """Passes our own device, and every device not named flannel and then a dot or a digit."""
    return [
        _Op(_LD_W, _INDEX),
        _Op(_JEQ, "device", yes=_PASS),
        *_find(attrs, name),
        _Op(_JEQ, 0, yes=_PASS),
        _Op(_TAX, 0),
        _Op(_LD_W_X, 4),
        _Op(_JEQ, int.from_bytes(b"flan", "big"), no=_PASS),
        _Op(_LD_W_X, 8),
        _Op(_AND, 0xFFFFFF00),
        _Op(_JEQ, int.from_bytes(b"nel\0", "big"), no=_PASS),
        _Op(_LD_B_X, 11),
        _Op(_JEQ, ord("."), yes=_DROP),
        _Op(_JGE, ord("0"), no=_PASS),
        _Op(_JGE, ord("9") + 1, yes=_PASS, no=_DROP),
    ]


def _route(*, scoped: bool) -> list[_Op | str]:
    ops: list[_Op | str] = [
        "route",
        _Op(_LD_B, _BODY + 4),
        _Op(_JEQ, k.RT_TABLE_MAIN, no=_DROP),
        _Op(_LD_B, _BODY + 5),
        _Op(_JEQ, RT_PROTOCOL, no=_PASS),
    ]
    if not scoped:
        return [*ops, _Op(_RET, 0)]
    return [
        *ops,
        *_find(_ROUTE_ATTRS, k.RTA_DST),
        _Op(_JEQ, 0, yes=_DROP),
        _Op(_TAX, 0),
        _Op(_LD_W_X, 4),
        _Op(_AND, "mask"),
        _Op(_JEQ, "base", yes=_PASS, no=_DROP),
    ]


def _nexthop() -> list[_Op | str]:
    return [
        "nexthop",
        *_find(_NEXTHOP_ATTRS, k.NHA_OIF),
        _Op(_JEQ, 0, yes=_DROP),
        _Op(_TAX, 0),
        _Op(_LD_W_X, 4),
        _Op(_JEQ, "device", yes=_PASS),
        _Op(_JEQ, "uplink", yes=_PASS, no=_DROP),
    ]


def _find(start: int, kind: int) -> list[_Op]:
    return [_Op(_LD_IMM, start), _Op(_LDX_IMM, kind), _Op(_LD_W, _NLATTR)]


def _assembled(program: list[_Op | str]) -> _Template:
    labels: dict[str, int] = {}
    ops: list[_Op] = []
    for line in program:
        if isinstance(line, str):
            labels[line] = len(ops)
        else:
            ops.append(line)
    text = b""
    slots: list[tuple[str, int]] = []
    for place, op in enumerate(ops):
        yes, no = ((labels[label] - place - 1) if label else 0 for label in (op.yes, op.no))
        if isinstance(op.value, str):
            slots.append((op.value, len(text) + 4))
        text += struct.pack("=HBBI", op.code, yes, no, 0 if isinstance(op.value, str) else op.value)
    return _Template(text, tuple(slots))


# Assembled once, at import and so in the parent: a worker only fills in its numbers.
_WITHOUT_SCOPE, _WITHIN_SCOPE = _assembled(_program(scoped=False)), _assembled(_program(scoped=True))


def attach(sock: socket.socket, program: bytes) -> None:
    """Puts `program` on `sock` in place of the one before, in one step. Raises OSError."""
    held = array("B", program)  # alive, and in one place, until the call is over
    fprog = _FPROG.pack(len(program) // 8, held.buffer_info()[0])
    sock.setsockopt(socket.SOL_SOCKET, k.SO_ATTACH_FILTER, fprog)
