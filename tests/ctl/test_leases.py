"""flannelctl leases, reserve, release and revoke, on every kind of store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.ctl.conftest import MakeStore
from tests.ctl.rig import CONFIG, DATA, ctl, leases, put, write_config
from tests.lab.etcd import Etcd


@pytest.fixture
def blue(url: str) -> str:
    """A network with one lease and one reservation."""
    write_config(url, "blue", CONFIG)
    put(url, "blue", "10.1.7.0/24", "192.0.2.1")
    put(url, "blue", "10.1.8.0/24", "192.0.2.2", ttl_s=None, kind="", data={})
    return url


def test_leases_are_listed_with_what_they_are_and_when_they_end(blue: str) -> None:
    done = ctl(f"--store={blue}", "leases", "blue")
    assert (done.status, done.err) == (0, "")
    header, lease, reservation = done.out.decode().splitlines()
    assert header.split("  ")[0] == "SUBNET"
    assert re.fullmatch(
        r'10\.1\.7\.0/24  192\.0\.2\.1  vxlan    in 1h 2[23]m +\{"VNI":1,"VtepMAC":"6e:bb:a9:11:4b:86"\}', lease
    )
    assert re.fullmatch(r"10\.1\.8\.0/24  192\.0\.2\.2  -        reservation  \{\}", reservation)


def test_leases_are_listed_for_programs(blue: str) -> None:
    lease, reservation = json.loads(ctl("leases", "blue", "--json", f"--store={blue}").out)
    assert 4900 < lease.pop("ttl_s") <= 5000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", lease.pop("expiration"))
    assert lease == {
        "subnet": "10.1.7.0/24", "public_ip": "192.0.2.1", "backend_type": "vxlan", "backend_data": DATA,
        "reservation": False,
    }  # fmt: skip
    assert reservation == {
        "subnet": "10.1.8.0/24", "public_ip": "192.0.2.2", "backend_type": "", "backend_data": {},
        "reservation": True, "expiration": None, "ttl_s": None,
    }  # fmt: skip


def test_a_network_without_leases_is_an_empty_list(url: str) -> None:
    write_config(url, "blue", CONFIG)
    done = ctl(f"--store={url}", "leases", "blue")
    assert done.status == 0
    assert len(done.out.splitlines()) == 1
    assert json.loads(ctl(f"--store={url}", "leases", "blue", "--json").out) == []


def test_leases_whose_config_is_gone_are_listed_and_that_is_said(url: str) -> None:
    put(url, "blue", "10.1.7.0/24", "192.0.2.1")
    done = ctl(f"--store={url}", "leases", "blue")
    assert done.status == 0
    assert b"10.1.7.0/24" in done.out
    assert "blue has leases and no config" in done.err


def test_a_reserved_subnet_has_no_end(blue: str) -> None:
    done = ctl(f"--store={blue}", "reserve", "blue", "10.1.9.0/24", "192.0.2.9")
    assert (done.status, done.err) == (0, "")
    assert done.out == b"blue: 10.1.9.0/24 is reserved for 192.0.2.9\n"
    assert leases(blue, "blue")["10.1.9.0/24"] == ("192.0.2.9", "", None, None)


def test_the_lease_of_a_host_becomes_its_reservation_and_a_lease_again(blue: str) -> None:
    before = leases(blue, "blue")["10.1.7.0/24"]
    assert ctl(f"--store={blue}", "reserve", "blue", "10.1.7.0/24", "192.0.2.1").status == 0
    assert leases(blue, "blue")["10.1.7.0/24"] == before._replace(left_s=None)
    done = ctl(f"--store={blue}", "release", "blue", "10.1.7.0/24")
    assert done.status == 0
    assert b"10.1.7.0/24 of 192.0.2.1 is no reservation: it ends in 24h" in done.out
    after = leases(blue, "blue")["10.1.7.0/24"]
    assert after._replace(left_s=None) == before._replace(left_s=None)
    assert after.left_s is not None
    assert 86300 < after.left_s <= 86400


@pytest.mark.parametrize(
    ("subnet", "ip", "reason"),
    [
        ("10.1.7.0/24", "192.0.2.9", "192.0.2.1|taken"),
        ("10.1.9.0/25", "192.0.2.9", "/24|mask"),
        ("10.9.9.0/24", "192.0.2.9", "outside"),
    ],
)
def test_a_reservation_that_cannot_be_is_refused(blue: str, subnet: str, ip: str, reason: str) -> None:
    before = leases(blue, "blue").keys()
    done = ctl(f"--store={blue}", "reserve", "blue", subnet, ip)
    assert done.status == 1
    assert done.err.startswith("flannelctl: reserve blue: ")
    assert re.search(reason, done.err)
    assert done.err.count("\n") == 1
    assert leases(blue, "blue").keys() == before


def test_a_reservation_needs_a_network(blue: str) -> None:
    done = ctl(f"--store={blue}", "reserve", "nonet", "10.1.9.0/24", "192.0.2.9")
    assert done.status == 3
    assert "flannelctl: reserve nonet: no such network: " in done.err
    assert "nonet/config" in done.err


@pytest.mark.parametrize(("subnet", "kind"), [("10.1.7.0/24", "lease"), ("10.1.8.0/24", "reservation")])
def test_what_is_revoked_is_gone_at_once(blue: str, subnet: str, kind: str) -> None:
    done = ctl(f"--store={blue}", "revoke", "blue", subnet)
    assert done.status == 0
    assert re.fullmatch(rf"blue: the {kind} {re.escape(subnet)} of 192\.0\.2\.\d is deleted\n", done.out.decode())
    assert subnet not in leases(blue, "blue")
    assert len(leases(blue, "blue")) == 1


@pytest.mark.parametrize("command", ["release", "revoke"])
def test_a_lease_that_is_not_there_is_status_3(blue: str, command: str) -> None:
    done = ctl(f"--store={blue}", command, "blue", "10.1.99.0/24")
    assert done.status == 3
    assert done.err.startswith(f"flannelctl: {command} blue: no lease or reservation 10.1.99.0/24")
    assert done.err.count("\n") == 1


def test_a_key_that_is_no_lease_is_named_and_can_be_revoked(etcd: Etcd) -> None:
    etcd.put("/poison/blue/config", CONFIG)
    etcd.put("/poison/blue/subnets/10.1.3.0-24", "garbage\x1b[2J")
    url = f"etcd://{etcd.url.removeprefix('http://')}/poison"
    assert "skipped /poison/blue/subnets/10.1.3.0-24" in ctl(f"--store={url}", "leases", "blue").err
    done = ctl(f"--store={url}", "revoke", "blue", "10.1.3.0/24")
    assert (done.status, done.out) == (0, b"blue: 10.1.3.0/24, which held no lease, is deleted\n")
    assert etcd.get("/poison/blue/subnets/10.1.3.0-24") is None


def test_a_reader_that_has_enough_is_no_error_to_shout_about(make_store: MakeStore) -> None:
    url = make_store("sqlite")
    write_config(url, "blue", CONFIG)
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["config", "list", f"--store={url}"]
    done = subprocess.run(
        [sys.executable, "-m", "flannel_multi.ctl.main", *arguments],
        stdout=writing, stderr=subprocess.PIPE, timeout=30, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
