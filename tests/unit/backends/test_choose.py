"""From a config to its backend, and alloc, which has nothing more to say."""

from __future__ import annotations

import pytest

from flannel_multi.model.config import parse_config
from flannel_multi.model.errors import ConfigError, NotBuiltYet
from flannel_multi.model.lease import encode_value
from flannel_multi.model.subnet import Subnet
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.protocol import Place
from flannel_worker.kernel.objects import Scope
from tests.unit.backends.places import UPLINK, config, lease


@pytest.mark.parametrize("kind", ["alloc", "host-gw", "udp", "vxlan"])
def test_a_built_backend_is_found_in_any_letter_case(kind: str) -> None:
    assert backend_for(config(f'{{"TYPE":"{kind.upper()}"}}')).kind == kind


@pytest.mark.parametrize("kind", ["aws-vpc", "gce"])
def test_a_backend_of_later_is_not_built_yet(kind: str) -> None:
    with pytest.raises(NotBuiltYet, match=f"{kind}.* is not built yet"):
        backend_for(config(f'{{"Type":"{kind}"}}'))


def test_an_absent_backend_is_udp() -> None:
    assert backend_for(parse_config(b'{"Network":"10.5.0.0/16"}')).kind == "udp"


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("wat", "use one of"),
        ("vxlann", "did you mean vxlan"),
        ("hostgw", "did you mean host-gw"),
        ("wireguard", "use one of"),
        ("\\n\\u0007\\u007f", "use one of"),
        ("x" * 100_000, "use one of"),
    ],
)
def test_an_unknown_backend_is_one_line_with_the_nearest_name(kind: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as caught:
        backend_for(config(f'{{"Type":"{kind}"}}'))
    assert caught.value.message.isprintable()
    assert len(caught.value.message) <= 200


def test_alloc_publishes_an_address_and_asks_the_kernel_for_nothing() -> None:
    backend, place, network = backend_for(config('{"Type":"alloc"}')), Place(UPLINK, None), Subnet.parse("10.5.0.0/16")
    backend.check(UPLINK)
    assert encode_value(backend.attrs(place)) == b'{"PublicIP":"192.168.77.1"}'
    assert (backend.mtu(place), backend.device_name(), backend.claims(), backend.watches_peers) == (1500, "", (), False)
    assert backend.link(UPLINK, network="blue", mac=b"") is None
    assert backend.own(Subnet.parse("10.5.1.0/24"), place) == ()
    assert backend.peer(lease(kind="vxlan"), place, nexthops=False) == ()
    assert backend.scope(network, [Subnet.parse("10.5.1.0/24")], place) == Scope(0, 2, network, frozenset())
