"""Where programs hang: tc's clsact hooks and a device's XDP hook (linux/pkt_cls.h, linux/if_link.h), by libbpf.

All are attached by netlink, so that they stay, with their programs and maps, when every process is gone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from ctypes import byref, c_int, c_size_t, c_uint32
from typing import NamedTuple

from flannel_worker.datapath import libbpf

INGRESS, EGRESS = 1, 2  # enum bpf_tc_attach_point
_SIDES = {INGRESS: "ingress", EGRESS: "egress"}
_TC_REPLACE = 1  # BPF_TC_F_REPLACE
_XDP_IF_NONE, _XDP_NATIVE, _XDP_REPLACE = 1, 4, 16
_HANDLE = 1
# linux/rtnetlink.h, linux/pkt_sched.h: struct nlmsghdr and struct tcmsg
_RTM_NEWTFILTER, _RTM_GETTFILTER, _REQUEST_DUMP = 44, 46, 0x301
_CLSACT_INGRESS, _CLSACT_EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_DUMP = struct.Struct("=IHHIIB3xiIII")
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


def holding(place: Filter) -> str:
    """Name of the program that is there, "" without one. Raises OSError."""
    opts = place._opts()
    try:
        libbpf.call("bpf_tc_query", byref(place._hook()), byref(opts), what=str(place))
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise
    return libbpf.program_name(opts.prog_id)


def detach(place: Filter) -> None:
    """Takes away our own program alone; nothing to do when it is not there. Raises OSError."""
    if holding(place) != place.program:
        return
    try:
        libbpf.call("bpf_tc_detach", byref(place._hook()), byref(place._opts()), what=f"removal of {place}")
    except OSError as error:
        if error.errno not in _GONE:
            raise


def is_empty(ifindex: int) -> bool:
    """Whether no filter of anybody hangs on the device's clsact. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        for parent in (_CLSACT_INGRESS, _CLSACT_EGRESS):
            sock.send(_DUMP.pack(_DUMP.size, _RTM_GETTFILTER, _REQUEST_DUMP, 1, 0, 0, ifindex, 0, parent, 0))
            # The first message tells: a filter, or the end of an empty list.
            (kind,) = struct.unpack_from("=H", sock.recv(65536), 4)
            if kind == _RTM_NEWTFILTER:
                return False
            # An error is the answer for a device or a qdisc that is gone.
    return True


def remove_clsact(ifindex: int) -> None:
    """Takes away the whole qdisc: for the caller to know that it is ours and empty. Raises OSError."""
    hook = _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=ifindex, attach_point=INGRESS | EGRESS)
    try:
        libbpf.call("bpf_tc_hook_destroy", byref(hook), what=f"removal of clsact on interface {ifindex}")
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
