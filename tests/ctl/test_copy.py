"""flannelctl store copy between stores of every kind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from time import time

import pytest

from flannel_multi.ctl.copying import Done, carry_out
from flannel_multi.ctl.copyplan import plan
from flannel_multi.ctl.opened import Opened
from flannel_multi.model.lease import LeaseAttrs
from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.model.v1 import NO_END, expiration
from tests.ctl.conftest import MakeStore, policy
from tests.ctl.oldserver import OldServer
from tests.ctl.rig import (
    CONFIG,
    DATA,
    OTHER,
    Held,
    config,
    ctl,
    dump,
    leases,
    put,
    with_ledger,
    with_other,
    write_config,
)
from tests.lab.etcd import Etcd
from tests.lab.server import Server
from tests.lab.store_file import StoreFile

NETWORKS = ("", "blue", "green")
SLACK_S = 2.0


def fill(url: str) -> None:
    """Two named networks and the unnamed one, with leases and reservations."""
    write_config(url, "blue", CONFIG)
    write_config(url, "green", OTHER)
    write_config(url, "", CONFIG)
    put(url, "blue", "10.1.7.0/24", "192.0.2.1", ttl_s=5000)
    put(url, "blue", "10.1.8.0/24", "192.0.2.2", ttl_s=70000, kind="", data={"x": [1, 2.5, None, "é<"]})
    put(url, "blue", "10.1.9.0/24", "192.0.2.3", ttl_s=None)
    put(url, "", "10.1.1.0/24", "192.0.2.1", ttl_s=300, kind="host-gw")


def assert_same_ends(one: str, other: str, slack_s: float) -> None:
    for network in NETWORKS:
        before, after = leases(one, network), leases(other, network)
        for subnet, held in before.items():
            if held.left_s is None:
                assert after[subnet].left_s is None
            else:
                assert after[subnet].left_s == pytest.approx(held.left_s, abs=slack_s)


@pytest.mark.parametrize(
    "kinds",
    [
        ("etcd", "sqlite", "etcd"),
        ("sqlite", "etcd", "sqlite"),
        ("sqlite", "server over etcd", "sqlite"),
        ("etcd", "server over sqlite", "etcd"),
    ],
    ids=" to ".join,
)
def test_there_and_back_every_lease_is_what_it_was(kinds: tuple[str, str, str], make_store: MakeStore) -> None:
    first, between, last = (make_store(kind) for kind in kinds)
    fill(first)
    before = dump(first, *NETWORKS)
    for source, target in ((first, between), (between, last)):
        done = ctl("store", "copy", source, target)
        assert (done.status, done.err) == (0, "")
    assert dump(last, *NETWORKS) == before
    assert dump(first, *NETWORKS) == before
    assert_same_ends(first, last, 2 * SLACK_S)


def test_the_table_says_what_was_copied_and_the_second_time_that_all_is_there(make_store: MakeStore) -> None:
    source, target = make_store("etcd"), make_store("sqlite")
    fill(source)
    assert ctl("store", "copy", source, target).out.decode().splitlines() == [
        "NETWORK  CONFIG  LEASES    RESERVATIONS",
        "_        copied  1 copied  -",
        "blue     copied  2 copied  1 copied",
        "green    copied  -         -",
    ]
    before = dump(target, *NETWORKS)
    again = ctl("store", "copy", source, target)
    assert again.status == 0
    assert again.out.decode().splitlines() == [
        "NETWORK  CONFIG  LEASES   RESERVATIONS",
        "_        there   1 there  -",
        "blue     there   2 there  1 there",
        "green    there   -        -",
    ]
    assert dump(target, *NETWORKS) == before


def test_a_dry_run_says_the_same_and_writes_nothing(make_store: MakeStore) -> None:
    source, target = make_store("etcd"), make_store("etcd")
    fill(source)
    done = ctl("store", "copy", "--dry-run", source, target)
    assert done.status == 0
    assert "blue     to be copied  2 to be copied  1 to be copied" in done.out.decode()
    assert dump(target, *NETWORKS) == {network: (None, {}) for network in NETWORKS}


def test_only_the_named_networks_are_copied(make_store: MakeStore) -> None:
    source, target = make_store("etcd"), make_store("etcd")
    fill(source)
    assert ctl("store", "copy", source, target, "--networks=_,green").status == 0
    assert config(target, "blue") is None
    assert config(target, "green") == OTHER
    assert leases(target, "").keys() == {"10.1.1.0/24"}
    missing = ctl("store", "copy", source, target, "--networks=blue,nonet")
    assert missing.status == 3
    assert "FROM has no network nonet" in missing.err
    assert config(target, "blue") is None


def test_all_conflicts_are_listed_and_nothing_is_written_for_their_network(make_store: MakeStore) -> None:
    source, target = make_store("etcd"), make_store("sqlite")
    fill(source)
    write_config(target, "blue", OTHER)
    put(target, "blue", "10.1.7.0/24", "192.0.2.77")
    put(target, "blue", "10.1.8.0/23", "192.0.2.78")
    before = dump(target, "blue")
    done = ctl("store", "copy", source, target)
    assert done.status == 1
    assert dump(target, "blue") == before
    text = done.out.decode()
    assert "blue: 10.1.7.0/24 is of 192.0.2.1 in FROM and of 192.0.2.77 in TO" in text
    assert "blue: 10.1.8.0/24 of 192.0.2.2 overlaps 10.1.8.0/23 of 192.0.2.78 in TO" in text
    assert "blue: the configs differ" in text
    assert done.err.splitlines()[-1] == (
        "flannelctl: store copy: 4 conflicts in blue: settle them and copy again"
    )  # fmt: skip
    assert dump(target, "", "green") == dump(source, "", "green")  # the others came over


def test_a_config_is_replaced_only_on_request(make_store: MakeStore) -> None:
    source, target = make_store("etcd"), make_store("sqlite")
    write_config(source, "blue", CONFIG)
    write_config(target, "blue", OTHER)
    assert ctl("store", "copy", source, target).status == 1
    assert config(target, "blue") == OTHER
    done = ctl("store", "copy", source, target, "--replace-configs", "--json")
    assert (done.status, json.loads(done.out)[0]["config"]) == (0, "replaced")
    assert config(target, "blue") == CONFIG


def test_a_host_that_has_moved_already_keeps_what_it_told_the_new_store(make_store: MakeStore) -> None:
    source, target = make_store("etcd"), make_store("sqlite")
    fill(source)
    put(target, "blue", "10.1.7.0/24", "192.0.2.1", data={"VtepMAC": "00:00:00:00:00:01"}, ttl_s=80000)
    done = ctl("store", "copy", source, target)
    assert done.status == 0
    assert "note: blue: 10.1.7.0/24: 192.0.2.1 has told TO other backend data since" in done.err
    held = leases(target, "blue")["10.1.7.0/24"]
    assert held.data == {"VtepMAC": "00:00:00:00:00:01"}
    assert held.left_s is not None
    assert held.left_s > 79000


def test_a_store_that_fails_ends_the_copy_with_one_line(make_store: MakeStore) -> None:
    source = make_store("sqlite")
    fill(source)
    done = ctl("store", "copy", source, "etcd://127.0.0.1:1", "--timeout=2s")
    assert done.status == 1
    assert done.out == b""
    assert done.err.count("\n") == 1
    assert "store copy: store unreachable: http://127.0.0.1:1" in done.err


def test_a_copy_that_was_cut_off_is_completed_by_the_next(make_store: MakeStore, tmp_path: Path) -> None:
    source, behind = StoreFile(tmp_path / "from.db"), tmp_path / "behind.db"
    source.put_config("blue", CONFIG)
    each = range(1, 251)
    source.put_leases("blue", [(f"10.1.{at}.0-25", f'{{"PublicIP":"192.0.2.{at}"}}') for at in each])
    source.put_leases("blue", [(f"10.1.{at}.128-26", f'{{"PublicIP":"192.0.3.{at}"}}') for at in each])
    with Server(f"sqlite://{behind}", tmp_path, flags=[f"--config={policy(tmp_path)}"]) as server:
        arguments = ["store", "copy", source.url, server.url]
        copying = subprocess.Popen([sys.executable, "-m", "flannel_multi.ctl.main", *arguments], stderr=subprocess.PIPE)
        while not count(behind) and copying.poll() is None:
            threading.Event().wait(0.005)
        server.kill()
        _, said = copying.communicate(timeout=30)
        assert copying.returncode == 1
        assert b"what was copied by then stays, and copying again goes on from there" in said
        assert 0 < count(behind) < 500
        server.start()
        assert config(server.url, "blue") is None  # hosts that wait for it must not meet half of the leases
        assert ctl(*arguments).status == 0
        assert dump(server.url, "blue") == dump(source.url, "blue")


def test_a_subnet_that_is_taken_during_the_copy_is_a_conflict_and_holds_the_config_back(
    make_store: MakeStore,
) -> None:
    source, target = make_store("sqlite"), make_store("etcd")
    fill(source)

    async def race(one: Opened, other: Opened) -> Done:
        made = plan("blue", await one.snapshot("blue"), await other.snapshot("blue"))
        await one.learn(made.writes)
        attrs = LeaseAttrs(parse_ip("192.0.2.77"))
        await other.ledger.put_lease("blue", Subnet.parse("10.1.7.0/24"), attrs)
        return await carry_out(one, other, made)

    done = with_ledger(source, lambda one: with_other(target, lambda other: race(one, other)))
    assert done.plan.conflicts == ("lease 10.1.7.0/24 is held by 192.0.2.77 in TO since a moment ago",)
    assert leases(target, "blue").keys() == {"10.1.7.0/24", "10.1.8.0/24", "10.1.9.0/24"}
    assert config(target, "blue") is None


def count(path: Path) -> int:
    """Leases in a store file, 0 when there is none."""
    if not path.exists():
        return 0
    with StoreFile(path).sql() as connection:
        return int(connection.execute("SELECT count(*) FROM leases").fetchone()[0])


def test_from_a_file_that_is_not_there_nothing_is_made(tmp_path: Path, make_store: MakeStore) -> None:
    done = ctl("store", "copy", f"sqlite://{tmp_path}/slip.db", make_store("etcd"))
    assert done.status == 3
    assert not (tmp_path / "slip.db").exists()


def test_a_lease_whose_etcd_lease_is_about_to_end_keeps_its_few_seconds(etcd: Etcd, make_store: MakeStore) -> None:
    source, target = make_store("etcd"), make_store("sqlite")
    write_config(source, "blue", CONFIG)
    put(source, "blue", "10.1.7.0/24", "192.0.2.1", ttl_s=20)
    assert ctl("store", "copy", source, target).status == 0
    left_s = leases(target, "blue")["10.1.7.0/24"].left_s
    assert left_s is not None
    assert left_s <= 20


@pytest.mark.parametrize("kind", ["sqlite", "etcd", "server over sqlite"])
def test_from_an_old_server_every_lease_comes_over_with_the_life_it_has_left(kind: str, make_store: MakeStore) -> None:
    target = make_store(kind)
    now_s = int(time())
    mac = {"VtepMAC": "6e:bb:a9:11:4b:86"}
    with OldServer() as old:
        old.configs["blue"] = (
            '{"Network":"10.1.0.0/16","SubnetMin":"10.1.1.0","SubnetMax":"10.1.255.0","SubnetLen":24,'
            '"Backend":{"Type":"vxlan","VNI":1}}'
        )
        old.configs["_"] = '{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.0","SubnetMax":"10.5.255.0","SubnetLen":24}'
        old.leases["blue"] = {
            "10.1.7.0/24": (
                {"PublicIP": "192.0.2.1", "BackendType": "vxlan", "BackendData": mac}, expiration(now_s + 5000)
            ),
            "10.1.8.0/24": ({"PublicIP": "192.0.2.1"}, expiration(now_s + 80000).replace("Z", ".984758232Z")),
            "10.1.9.0/24": ({"PublicIP": "192.0.2.3"}, NO_END),
        }  # fmt: skip
        old.leases["_"] = {"10.5.1.0/24": ({"PublicIP": "192.0.2.1", "BackendType": "udp"}, expiration(now_s + 60))}
        done = ctl("store", "copy", old.url, target)
        assert (done.status, done.err) == (0, "")
        assert not [line for line in old.asked if not line.startswith("GET ")]
        again = ctl("store", "copy", old.url, target)
        assert again.status == 0
        assert "3 there" in again.out.decode() or "2 there" in again.out.decode()
    assert (config(target, "blue") or b"").rstrip() == old.configs["blue"].encode()
    passed_s = time() - now_s
    found = {**leases(target, "blue"), **leases(target, "")}
    ends = {subnet: held.left_s for subnet, held in found.items()}
    assert ends == {
        "10.1.7.0/24": pytest.approx(5000 - passed_s, abs=SLACK_S),
        "10.1.8.0/24": pytest.approx(80000 - passed_s, abs=SLACK_S),
        "10.1.9.0/24": None,
        "10.5.1.0/24": pytest.approx(60 - passed_s, abs=SLACK_S),
    }
    assert {subnet: held._replace(left_s=None) for subnet, held in found.items()} == {
        "10.1.7.0/24": Held("192.0.2.1", "vxlan", mac, None),
        "10.1.8.0/24": Held("192.0.2.1", "", None, None),
        "10.1.9.0/24": Held("192.0.2.3", "", None, None),
        "10.5.1.0/24": Held("192.0.2.1", "udp", None, None),
    }


def test_from_an_old_server_to_a_file_no_end_is_off_by_two_seconds(tmp_path: Path) -> None:
    ends = {f"10.1.{at}.0-24": int(time()) + 30 + 997 * at for at in range(1, 40)}
    with OldServer() as old:
        old.configs["blue"] = CONFIG.decode()
        old.leases["blue"] = {
            name.replace("-", "/"): ({"PublicIP": f"192.0.2.{at}"}, expiration(end_s).replace("Z", ".5Z"))
            for at, (name, end_s) in enumerate(ends.items(), start=1)
        }
        assert ctl("store", "copy", old.url, f"sqlite://{tmp_path}/store.db").status == 0
    with StoreFile(tmp_path / "store.db").sql() as connection:
        found = {
            bytes(name).decode(): end_s for name, end_s in connection.execute("SELECT name, expires_at FROM leases")
        }
    assert found.keys() == ends.keys()
    worst_s = max(abs(found[name] - end_s - 0.5) for name, end_s in ends.items())
    print(f"ends are off by {worst_s:.2f} s at most")
    assert worst_s < SLACK_S


def test_an_old_server_takes_no_configs_and_that_is_said_before_anything_is_lost(make_store: MakeStore) -> None:
    source = make_store("sqlite")
    write_config(source, "blue", CONFIG)
    with OldServer() as old:
        done = ctl("store", "copy", source, old.url)
    assert done.status == 1
    assert "older server" in done.err
    assert done.err.count("\n") == 1


def test_data_of_every_shape_survives(make_store: MakeStore) -> None:
    source, target = make_store("sqlite"), make_store("etcd")
    write_config(source, "blue", CONFIG)
    put(source, "blue", "10.1.7.0/24", "192.0.2.1", data=[DATA, "\u2028<&>", 10**30, 1e300, False, ""])
    assert ctl("store", "copy", source, target).status == 0
    assert dump(target, "blue") == dump(source, "blue")
