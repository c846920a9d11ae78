"""Where programs hang: tc's clsact hooks and a device's XDP hook (linux/pkt_cls.h, linux/if_link.h).

All are attached by netlink, so that they stay, with their programs and maps, when every process is gone. libbpf
attaches them. Seeing what is on a tc hook and taking it away is done without it: what it left must go where it is gone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from ctypes import byref, c_int, c_size_t, c_uint32
from typing import NamedTuple

from flannel_worker.datapath import libbpf, rtnetlink

INGRESS, EGRESS = 1, 2  # enum bpf_tc_attach_point
_SIDES = {INGRESS: "ingress", EGRESS: "egress"}
_TC_REPLACE = 1  # BPF_TC_F_REPLACE
_XDP_IF_NONE, _XDP_NATIVE, _XDP_REPLACE = 1, 4, 16
_HANDLE = 1
# linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h
_DELQDISC, _DELTFILTER, _GETTFILTER = 37, 45, 46
_CLSACT, _PARENTS = 0xFFFFFFF1, {INGRESS: 0xFFFFFFF2, EGRESS: 0xFFFFFFF3}
_KIND, _OPTIONS, _BPF_NAME = 1, 2, 7
_ANY_PROTOCOL = 0x0300  # ETH_P_ALL in network order: what libbpf attaches for
_TCMSG = struct.Struct("=B3xiIII")  # family, ifindex, handle, parent, priority and protocol
_GONE = (errno.ENOENT, errno.ENODEV, errno.EINVAL)  # of a filter; EINVAL is what tc says when there is no clsact


class _TcHook(ctypes.Structure):  # struct bpf_tc_hook
    _fields_ = (("sz", c_size_t), ("ifindex", c_int), ("attach_point", c_int), ("parent", c_uint32))


class _TcOpts(ctypes.Structure):  # struct bpf_tc_opts
    _fields_ = (
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
    )


class _XdpOpts(ctypes.Structure):  # struct bpf_xdp_attach_opts
    _fields_ = (("sz", c_size_t), ("old_prog_fd", c_int))


class Filter(NamedTuple):
    """A place of ours on a tc hook: `priority` is the network's port, so no two networks have one."""

    ifindex: int
    side: int
    priority: int
    program: str

    def __str__(self) -> str:
        return f"tc filter {self.program} (prio {self.priority}, {_SIDES[self.side]} of interface {self.ifindex})"

    def _hook(self) -> _TcHook:
        return _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=self.ifindex, attach_point=self.side)

    def _opts(self) -> _TcOpts:
        return _TcOpts(sz=ctypes.sizeof(_TcOpts), handle=_HANDLE, priority=self.priority)


def attach(place: Filter, program: int) -> bool:
    """Puts `program` there, in one step in place of an older one of ours. True when clsact had to be made for it.

    Raises OSError; EEXIST when a stranger's program is there.
    """
    made = _made_hook(place)
    if (holder := holding(place)) not in ("", place.program):
        raise OSError(errno.EEXIST, f"{place}: program {holder} of somebody else is there; choose another Port")
    opts = place._opts()
    opts.prog_fd, opts.flags = program, _TC_REPLACE
    libbpf.call("bpf_tc_attach", byref(place._hook()), byref(opts), what=str(place))
    return made


def _made_hook(place: Filter) -> bool:
    try:
        libbpf.call("bpf_tc_hook_create", byref(place._hook()), what=f"clsact for {place}")
    except FileExistsError:
        return False
    return True


def hanging(ifindex: int, side: int) -> list[Filter]:
    """All filters of one side of the device's clsact, anybody's; `program` is the name that each was attached with.
    Raises OSError; no device or no clsact is no filter."""
    body = _TCMSG.pack(0, ifindex, 0, _PARENTS[side], 0)
    try:
        entries = rtnetlink.dump(_GETTFILTER, body, f"look at {_SIDES[side]} of interface {ifindex}")
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise
    found = []
    for entry in entries:
        _, _, handle, _, info = _TCMSG.unpack_from(entry)
        options = rtnetlink.attrs(rtnetlink.attrs(entry[_TCMSG.size :]).get(_OPTIONS, b""))
        name = options.get(_BPF_NAME, b"").rstrip(b"\0").decode("utf-8", "replace")
        if handle:  # 0: the chain's own line, which names no filter
            found.append(Filter(ifindex, side, info >> 16, name.partition(":[")[0] or "that is no bpf"))
    return found


def holding(place: Filter) -> str:
    """Name of the program that is there, "" without one. Raises OSError."""
    there = (one.program for one in hanging(place.ifindex, place.side) if one.priority == place.priority)
    return next(there, "")


def detach(place: Filter) -> None:
    """Takes away our own program alone; nothing to do when it is not there. Raises OSError."""
    if holding(place) != place.program:
        return
    body = _TCMSG.pack(0, place.ifindex, _HANDLE, _PARENTS[place.side], place.priority << 16 | _ANY_PROTOCOL)
    try:
        rtnetlink.order(_DELTFILTER, body + rtnetlink.attr(_KIND, b"bpf\0"), f"removal of {place}")
    except OSError as error:
        if error.errno not in _GONE:
            raise


def is_empty(ifindex: int) -> bool:
    """Whether no filter of anybody hangs on the device's clsact. Raises OSError."""
    return not hanging(ifindex, INGRESS) and not hanging(ifindex, EGRESS)


def remove_clsact(ifindex: int) -> None:
    """Takes away the whole qdisc: for the caller to know that it is ours and empty. Raises OSError."""
    body = _TCMSG.pack(0, ifindex, 0xFFFF0000, _CLSACT, 0) + rtnetlink.attr(_KIND, b"clsact\0")
    try:
        rtnetlink.order(_DELQDISC, body, f"removal of clsact on interface {ifindex}")
    except OSError as error:
        if error.errno not in _GONE:
            raise


def xdp_attach(ifindex: int, program: int, *, name: str) -> None:
    """Native XDP, in place of an older program of ours called `name`. Raises OSError; EEXIST when a stranger has it."""
    there = xdp_program(ifindex)
    holder = libbpf.program_name(there) if there else ""
    if holder not in ("", name):
        raise OSError(errno.EEXIST, f"XDP of interface {ifindex} is taken by program {holder}")
    what = f"native XDP on interface {ifindex}"
    if not there:
        libbpf.call("bpf_xdp_attach", ifindex, program, _XDP_NATIVE | _XDP_IF_NONE, None, what=what)
        return
    old = libbpf.call("bpf_prog_get_fd_by_id", there, what=what)
    try:
        opts = _XdpOpts(sz=ctypes.sizeof(_XdpOpts), old_prog_fd=old)
        libbpf.call("bpf_xdp_attach", ifindex, program, _XDP_NATIVE | _XDP_REPLACE, byref(opts), what=what)
    finally:
        os.close(old)


def xdp_program(ifindex: int) -> int:
    """Id of the device's native XDP program, 0 without one or without the device. Raises OSError."""
    number = c_uint32()
    try:
        libbpf.call("bpf_xdp_query_id", ifindex, _XDP_NATIVE, byref(number), what=f"XDP of interface {ifindex}")
    except OSError as error:
        if error.errno in _GONE:
            return 0
        raise
    return number.value


def xdp_detach(ifindex: int, *, name: str) -> None:
    """Takes away our own program alone. Raises OSError."""
    there = xdp_program(ifindex)
    if there and libbpf.program_name(there) == name:
        what = f"removal of XDP from interface {ifindex}"
        libbpf.call("bpf_xdp_detach", ifindex, _XDP_NATIVE, None, what=what)
