"""Whether this kernel runs our programs: they are loaded with maps of their own and given a packet each.

Nothing is attached, and no packet leaves (BPF_PROG_TEST_RUN, kernel: Documentation/bpf/bpf_prog_run.rst).
"""

from __future__ import annotations

import struct

from flannel_worker.datapath import bpfobject, ethtool, libbpf
from flannel_worker.datapath.bpflayout import MARK_SIZE, NUMBER, ONLY, VERSION, Config, peer_key, peer_value

_HERE, _THERE, _PORT = 0xC0000201, 0xC0000202, 8285  # 192.0.2.0/24, RFC 5737: for documentation
_FROM, _TO = 0xC6336401, 0xC6336402  # 198.51.100.0/24, likewise
_MAC = bytes(12) + b"\x08\x00"  # both addresses as the loopback device has it, whose packet it seems to be
_OVERHEAD = 28
_REDIRECT, _PASS = 7, 2  # TC_ACT_REDIRECT, XDP_PASS


def self_test(uplink: int) -> str:
    """ "" when packets can go through the kernel programs over device `uplink`, else why not, in one line."""
    try:
        if not ethtool.device(uplink).ethernet:
            return "the uplink has no Ethernet header, which the kernel programs need"
        return _there_and_back(uplink)
    except OSError as error:
        return error.strerror or str(error)


def _there_and_back(uplink: int) -> str:
    """A packet is wrapped by one program and opened by the others, as if it had come from a host to itself."""
    inner = _ipv4(ttl=64)
    loaded = bpfobject.overlay()
    try:
        config = Config(_THERE, uplink, uplink, _PORT, verify_source=False, mac=len(_MAC))
        loaded.maps["config"].update(ONLY, config.packed())
        loaded.maps["peers"].update(peer_key(_TO, 32), peer_value(_TO, 32, _THERE, fast=True))
        verdict, wrapped = libbpf.run(loaded.program("tun_egress"), _MAC + inner, what="test run of tun_egress")
        if verdict != _REDIRECT or len(wrapped) != len(_MAC) + _OVERHEAD + len(inner):
            return f"the kernel does not wrap packets as it should (verdict {verdict}, {len(wrapped)} bytes)"
        if wrapped[-len(inner) :] != _ipv4(ttl=63):
            return "the kernel does not wrap packets as it should (other content)"
        verdict, opened = libbpf.run(loaded.program("uplink_ingress"), wrapped, what="test run of uplink_ingress")
        if (verdict, opened) != (_REDIRECT, _MAC + _ipv4(ttl=62)):
            return f"the kernel does not open packets as it should (verdict {verdict}, {len(opened)} bytes)"
    finally:
        loaded.close()
    return _opened_early(config, wrapped)


def _opened_early(config: Config, wrapped: bytes) -> str:
    loaded = bpfobject.xdp()
    try:
        loaded.maps["endpoints"].update(config.endpoint(), NUMBER.pack(VERSION))
        verdict, opened = libbpf.run(loaded.program("uplink_xdp"), wrapped, what="test run of uplink_xdp")
    finally:
        loaded.close()
    if (verdict, opened[MARK_SIZE:]) != (_PASS, _MAC + wrapped[len(_MAC) + _OVERHEAD :]):
        return f"the kernel does not open packets early as it should (verdict {verdict}, {len(opened)} bytes)"
    return ""


def _ipv4(*, ttl: int) -> bytes:
    """A packet of protocol 253 (RFC 3692: for experiments) with 32 bytes in it."""
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 52, 1, 0, ttl, 253, 0, _FROM, _TO)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + bytes(range(32))
