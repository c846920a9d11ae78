"""Which differences of an existing device call for a new one (spec §7.3)."""

from __future__ import annotations

import pytest

from flannel_worker.kernel.device import misfit
from flannel_worker.kernel.host import VxlanConfig
from flannel_worker.kernel.linkwire import LinkSeen
from flannel_worker.kernel.objects import VxlanLink

SPEC = VxlanLink("flannel.1", 1, 8472, 2, 0xC0A84D01, 1450, b"\2\0\0\0\0\xaa")
FITTING = VxlanConfig(1, 2, 0xC0A84D01, 8472, learning=False, gbp=False)


def seen(config: VxlanConfig | None, kind: str = "vxlan") -> LinkSeen:
    return LinkSeen(9, "flannel.1", b"\2\0\0\0\0\xbb", 1300, 0, kind, "other", config)


def test_mtu_mac_alias_and_being_down_call_for_no_new_device() -> None:
    assert misfit(seen(FITTING), SPEC) == ""


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (FITTING._replace(vni=2), "VNI 2 instead of 1"),
        (FITTING._replace(lower=3), "uplink ifindex 3 instead of 2"),
        (FITTING._replace(local=0), "local address 0.0.0.0 instead of 192.168.77.1"),
        (FITTING._replace(port=4789), "port 4789 instead of 8472"),
        (FITTING._replace(gbp=True), "GBP True instead of False"),
        (FITTING._replace(learning=True), "learning True instead of False"),
        (FITTING._replace(l2miss=True), "l2miss True instead of False"),
        (FITTING._replace(external=True), "external True instead of False"),
        (FITTING._replace(group=0xEF000001), "default destination 239.0.0.1 instead of 0.0.0.0"),
        (FITTING._replace(ipv6=True), "IPv6 True instead of False"),
    ],
)
def test_a_difference_is_named_with_both_sides(config: VxlanConfig, reason: str) -> None:
    assert misfit(seen(config), SPEC) == reason


def test_a_device_of_another_kind_never_fits() -> None:
    assert misfit(seen(None, "bridge"), SPEC) == "kind bridge instead of vxlan"
    assert misfit(seen(None, ""), SPEC) == "kind hardware instead of vxlan"
