"""Where a network's keys are (spec §3.1), and foreign keys made fit for a log line."""

from __future__ import annotations

from typing import NamedTuple

from flannel_multi.model.subnet import Subnet

SHOWN = 80  # characters of a foreign key in a log line


class Range(NamedTuple):
    """Keys from `start` up to but without `end`; `end` empty: `start` alone."""

    start: bytes
    end: bytes = b""

    def __str__(self) -> str:
        return shown(self.start) + ("*" if self.end else "")


class NetworkKeys(NamedTuple):
    """The keys of one network. `config` is one key, `subnets` ends with a slash."""

    config: bytes
    subnets: bytes
    watched: tuple[Range, ...]

    @classmethod
    def of(cls, prefix: str, network: str) -> NetworkKeys:
        """`network` is "" for the unnamed one. A named network's folder holds nothing else, so one range covers it,
        and etcd then tells its changes in order; the unnamed one has the other networks between config and subnets.
        """
        folder = "/".join([prefix.rstrip("/"), *([network] if network else [])]).encode() + b"/"
        config, subnets = folder + b"config", folder + b"subnets/"
        ranges = (folder_range(folder),) if network else (Range(config), folder_range(subnets))
        return cls(config, subnets, ranges)

    @property
    def leases(self) -> Range:
        return folder_range(self.subnets)

    def lease(self, subnet: Subnet) -> bytes:
        return self.subnets + subnet.key.encode()

    def subnet(self, key: bytes) -> Subnet | None:
        """The subnet that lease key `key` names, or None when it names none."""
        if not key.startswith(self.subnets):
            return None
        try:
            return Subnet.from_key(key[len(self.subnets) :].decode("ascii"))
        except UnicodeDecodeError:
            return None


def folder_range(folder: bytes) -> Range:
    """All keys that start with `folder`, which ends with a slash: `0` is the character after it."""
    return Range(folder, folder[:-1] + b"0")


def shown(raw: bytes) -> str:
    """`raw` as printable ASCII, cut to a line's measure."""
    text = raw[: SHOWN + 1].decode("ascii", "backslashreplace")
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
