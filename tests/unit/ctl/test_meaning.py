"""What a new config means for hosts that run."""

from __future__ import annotations

from flannel_multi.ctl.meaning import consequences, differences
from flannel_multi.model.config import parse_config
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet, parse_ip

OLD = b'{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan","VNI":1}}'


def lease(subnet: str, ip: str = "192.0.2.1") -> LeaseRecord:
    return LeaseRecord(Subnet.parse(subnet), LeaseAttrs(parse_ip(ip)), 7, 1)


def said(old: bytes | None, new: bytes, *leases: LeaseRecord) -> str:
    return "\n".join(consequences(old, parse_config(new), leases))


def test_a_first_config_needs_no_words() -> None:
    assert said(None, OLD) == ""


def test_hosts_that_run_keep_their_values() -> None:
    text = said(OLD, b'{"Network":"10.1.0.0/16","SubnetLen":25,"Backend":{"Type":"vxlan","VNI":1}}')
    assert "SubnetLen 24 becomes 25" in text
    assert "running hosts keep the old values until flanneld restarts on them" in text


def test_hosts_that_wait_with_a_wrong_config_go_on() -> None:
    assert "take this one at once" in said(b"{", OLD)


def test_a_config_that_is_only_written_differently_does_nothing() -> None:
    assert said(OLD, OLD.replace(b":", b" : ").replace(b"Network", b"network")).endswith("hosts do nothing")


def test_another_backend_asks_for_a_restart_of_all() -> None:
    text = said(OLD, b'{"Network":"10.1.0.0/16","Backend":{"Type":"host-gw"}}')
    assert "Backend vxlan becomes host-gw" in text
    assert "restart all of them together" in text


def test_settings_of_the_same_backend_are_told_apart() -> None:
    one, other = parse_config(OLD), parse_config(OLD.replace(b"1}}", b"2}}"))
    assert differences(one, other) == ["settings of Backend vxlan change"]
    assert differences(one, one) == []


def test_leases_that_no_longer_fit_are_named() -> None:
    new = b'{"Network":"10.2.0.0/16","Backend":{"Type":"vxlan","VNI":1}}'
    text = said(OLD, new, lease("10.1.5.0/24"), lease("10.2.5.0/24"))
    assert "1 lease does not fit it (10.1.5.0/24 of 192.0.2.1)" in text
