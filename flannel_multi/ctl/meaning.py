"""What a new config means for a network that has hosts already. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from flannel_multi.ctl.outcome import counted, some
from flannel_multi.model.allocation import fits
from flannel_multi.model.config import NetworkConfig, parse_config
from flannel_multi.model.errors import ConfigError
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.subnet import format_ip


def parsed(raw: bytes | None) -> NetworkConfig | None:
    """The config in `raw`, None when there is none or it is wrong."""
    try:
        return None if raw is None else parse_config(raw)
    except ConfigError:
        return None


def differences(one: NetworkConfig, other: NetworkConfig) -> list[str]:
    """A phrase for each value that the two have not in common: empty when hosts would do the same by both."""
    values = [
        ("Network", str(one.network), str(other.network)),
        ("SubnetLen", str(one.subnet_len), str(other.subnet_len)),
        ("SubnetMin", format_ip(one.subnet_min), format_ip(other.subnet_min)),
        ("SubnetMax", format_ip(one.subnet_max), format_ip(other.subnet_max)),
        ("Backend", one.backend_type, other.backend_type),
    ]
    phrases = [f"{name} {old} becomes {new}" for name, old, new in values if old != new]
    if one.backend_type == other.backend_type and dict(one.backend) != dict(other.backend):
        phrases.append(f"settings of Backend {one.backend_type} change")
    return phrases


def consequences(old: bytes | None, new: NetworkConfig, leases: Iterable[LeaseRecord]) -> list[str]:
    """What the operator should know once `new` stands in the place of `old`, a line each (spec §0: running values
    stay in force until the daemon starts again)."""
    records = sorted(leases)
    if old is None and not records:
        return []
    before = parsed(old)
    if before is None:
        lines = ["hosts that wait for a config take this one at once"]
    elif not (changes := differences(before, new)):
        lines = ["it means the same as before: hosts do nothing"]
    else:
        lines = [f"{'; '.join(changes)}: running hosts keep the old values until flanneld restarts on them"]
        if before.backend_type != new.backend_type:
            lines.append("hosts of two backends do not reach each other: restart all of them together")
    strangers = [record for record in records if not fits(new, record.subnet)]
    if strangers:
        which = some(f"{record.subnet} of {format_ip(record.attrs.public_ip)}" for record in strangers)
        lines.append(
            f"{counted(len(strangers), 'lease does', 'leases do')} not fit it ({which}): "
            "on their next start these hosts take other subnets"
        )
    return lines
