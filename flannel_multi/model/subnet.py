"""IPv4 addresses as integers and subnets as pairs: what leases, routes and allocation count with.

`ipaddress` objects cost 3 µs each; a network of 20,000 leases makes five of them a lease. An address here is an
int of 32 bits, a subnet a tuple, and both compare, hash and sort as such.
"""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

_N = r"(0|[1-9]\d{0,2})"  # without leading zeros: two keys must not name one subnet
_KEY = re.compile(rf"{_N}\.{_N}\.{_N}\.{_N}-(0|[1-9]\d?)\Z", re.ASCII)


def parse_ip(text: str) -> int:
    """The address of dotted-quad `text`. Raises ValueError; leading zeros, short forms and IPv6 are refused."""
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
    except (OSError, UnicodeEncodeError, ValueError):
        raise ValueError(f"{text[:40]!r} is no IPv4 address") from None


def format_ip(address: int) -> str:
    """Dotted-quad text of `address`."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def mask_of(length: int) -> int:
    """The netmask of a prefix of `length` bits, as an int."""
    return (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF


class Subnet(NamedTuple):
    """An IPv4 prefix. `base` has no bits below `length`; build from foreign text with `Subnet.parse`."""

    base: int
    length: int

    @classmethod
    def parse(cls, cidr: str) -> Subnet:
        """The subnet of `A.B.C.D/LEN`, host bits masked off (spec §2.1). Raises ValueError."""
        address, slash, length = cidr.partition("/")
        if not slash or not length.isascii() or not length.isdigit() or len(length) > 2 or int(length) > 32:
            raise ValueError(f"{cidr[:40]!r} is no CIDR")
        return cls(parse_ip(address) & mask_of(int(length)), int(length))

    @classmethod
    def of(cls, address: int, length: int) -> Subnet:
        """The subnet of `length` bits that holds `address`."""
        return cls(address & mask_of(length), length)

    @classmethod
    def from_key(cls, key: str) -> Subnet | None:
        """The subnet named by the last element of a lease key, `A.B.C.D-LEN` (spec §3.1), else None.

        Length 0 to 31 as in flannel; host bits or leading zeros make it no subnet: two keys could then name one.
        """
        match = _KEY.match(key)
        if match is None:
            return None
        a, b, c, d, length = (int(part) for part in match.groups())
        if max(a, b, c, d) > 255 or length > 31:
            return None
        base = a << 24 | b << 16 | c << 8 | d
        if base & ~mask_of(length) & 0xFFFFFFFF:
            return None
        return cls(base, length)

    @property
    def key(self) -> str:
        """`A.B.C.D-LEN`, the last element of a lease key."""
        return f"{format_ip(self.base)}-{self.length}"

    @property
    def last(self) -> int:
        """The highest address inside."""
        return self.base | (~mask_of(self.length) & 0xFFFFFFFF)

    def holds(self, address: int) -> bool:
        return address & mask_of(self.length) == self.base

    def covers(self, other: Subnet) -> bool:
        """True when every address of `other` is inside."""
        return other.length >= self.length and other.base & mask_of(self.length) == self.base

    def overlaps(self, other: Subnet) -> bool:
        """True when one lies inside the other, equality included (spec §3.5: equal under the shorter mask)."""
        return self.covers(other) or other.covers(self)

    def __str__(self) -> str:
        return f"{format_ip(self.base)}/{self.length}"
