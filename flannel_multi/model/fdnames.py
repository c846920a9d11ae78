"""What a descriptor that outlives its worker is called: `<network>.<role>`, with `_` for the unnamed network.

Such a name fits systemd's FDNAME (sd_pid_notify_with_fds(3): ASCII without control characters and colons, 255 at
most), since a network's name is of letters, digits, `.`, `_` and `-`, 63 at most.
"""

from __future__ import annotations

LONGEST_ROLE = 16


def fd_name(network: str, role: str) -> str:
    """Raises ValueError for a role that is not one to 16 letters a-z."""
    if not _is_role(role):
        raise ValueError(f"{role[:80]!r} is no role of a descriptor: one to {LONGEST_ROLE} letters a-z")
    return f"{network or '_'}.{role}"


def role_of(network: str, name: str) -> str | None:
    """The role in `name`, None when it is no name of a descriptor of `network`."""
    owner, _, role = name.rpartition(".")  # a network's name may have dots, a role has none
    return role if owner == (network or "_") and _is_role(role) else None


def _is_role(text: str) -> bool:
    return text.isascii() and text.isalpha() and text.islower() and len(text) <= LONGEST_ROLE
