"""Which store a daemon uses, what a server is told, and its policy tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.model.subnet import Subnet, parse_ip
from flannel_multi.options import (
    EtcdOptions,
    Exit,
    Grant,
    ListenOptions,
    Options,
    RemoteOptions,
    SqliteOptions,
    TlsOptions,
    read_options,
)
from flannel_multi.options.listen import parse_listen

FILE = "/etc/flannel/flanneld.toml"
FILES = ["--remote-keyfile=/k", "--remote-certfile=/c", "--remote-cafile=/ca"]


def told(*arguments: str, toml: str = "", env: dict[str, str] | None = None) -> Options | Exit:
    return read_options(list(arguments), env or {}, {FILE: toml.encode()}.get)


def good(*arguments: str, toml: str = "", env: dict[str, str] | None = None) -> Options:
    options = told(*arguments, toml=toml, env=env)
    assert isinstance(options, Options), options
    return options


def refused(*arguments: str, toml: str = "", env: dict[str, str] | None = None) -> Exit:
    answer = told(*arguments, toml=toml, env=env)
    assert isinstance(answer, Exit), answer
    assert (answer.stdout, answer.stderr[-1], answer.stderr[:-1].isprintable()) == ("", "\n", True)
    return answer


# -- which store -----------------------------------------------------------------------------------------------------


def test_without_a_word_it_is_etcd() -> None:
    assert isinstance(good().store, EtcdOptions)
    assert good().store == good("--store=etcd").store


def test_a_store_file_is_named_by_its_url() -> None:
    assert good("--store=sqlite:///var/lib/flannel/store.db").store == SqliteOptions("/var/lib/flannel/store.db")


@pytest.mark.parametrize(
    ("remote", "servers"),
    [
        ("10.0.0.3:8888", ("http://10.0.0.3:8888",)),
        ("10.0.0.3", ("http://10.0.0.3:8888",)),
        ("db1:1, db2:2,,db3", ("http://db1:1", "http://db2:2", "http://db3:8888")),
        ("[::1]:24860", ("http://[::1]:24860",)),
        ("[fd00::1]", ("http://[fd00::1]:8888",)),
        ("http://old:80", ("http://old:80",)),
        ("https://db1", ("https://db1:8888",)),
        ("unix:///run/flannel/v1.sock", ("unix:///run/flannel/v1.sock",)),
    ],
)
def test_servers_are_named_as_in_flannel_or_by_url(remote: str, servers: tuple[str, ...]) -> None:
    assert good(f"--remote={remote}").store == RemoteOptions(servers, TlsOptions())


@pytest.mark.parametrize("flags", [FILES, FILES[:2], FILES[2:]])
def test_any_tls_file_makes_it_https(flags: list[str]) -> None:
    store = good("--remote=db1", *flags).store
    assert isinstance(store, RemoteOptions)
    assert store.servers == ("https://db1:8888",)
    assert store.tls.given


BAD_STORES: dict[str, tuple[list[str], str]] = {
    "remote and store": (["--remote=h", "--store=etcd"], "--remote: give this or store, not both"),
    "plain HTTP with a CA": (["--remote=http://h:1", "--remote-cafile=/ca"], "plain HTTP"),
    "no server": (["--remote=,"], "no server"),
    "a path": (["--remote=h:1/v1"], "is no URL"),
    "a port": (["--remote=h:99999"], "is no URL"),
    "a user": (["--remote=u:p@h:1"], "does not belong in a URL"),
    "a space": (["--remote=h h"], "is no URL"),
    "half a pair": (["--remote=h", "--remote-keyfile=/k"], "give --remote-certfile too"),
    "the other half": (["--remote=h", "--remote-certfile=/c"], "give --remote-keyfile too"),
    "half a pair without remote": (["--remote-keyfile=/k"], "give --remote-certfile too"),
    "no store": (["--store="], "is no store"),
    "no such store": (["--store=redis://h"], "no kind of store"),
    "a relative path": (["--store=sqlite://x"], "three slashes"),
    "listen and remote": (["--listen=:1", "--remote=h"], "--listen: a server has a store of its own"),
    "listen and a server as store": (["--listen=:1", "--store=http://h"], "--listen: a server has a store of its own"),
    "listen and half a pair": (["--listen=:1", "--remote-certfile=/c"], "give --remote-keyfile too"),
}


@pytest.mark.parametrize(("flags", "why"), BAD_STORES.values(), ids=BAD_STORES.keys())
def test_a_store_that_cannot_be_is_exit_2_and_one_line(flags: list[str], why: str) -> None:
    answer = refused(*flags)
    assert answer.status == 2
    assert why in answer.stderr
    assert "u:p" not in answer.stderr


def test_a_flag_wins_over_the_file_whether_it_is_remote_or_store() -> None:
    assert good("--remote=h", toml='store = "sqlite:///x"').store == RemoteOptions(("http://h:8888",))
    assert good("--store=sqlite:///x", toml='remote = "h"').store == SqliteOptions("/x")
    assert good("--store=sqlite:///x", env={"FLANNELD_REMOTE": "h"}).store == SqliteOptions("/x")
    assert good(toml='remote = "h"').store == RemoteOptions(("http://h:8888",))
    assert good("--remote=", toml='remote = "h"').store == good().store


@pytest.mark.parametrize(
    "toml",
    ['remote = "h"\nstore = "etcd"', 'remote = "h:x"', 'store = "x"', "remote = 1", 'listen = ":1"\nremote = "h"'],
)
def test_a_file_with_a_store_that_cannot_be_is_exit_78_and_names_the_file(toml: str) -> None:
    answer = refused(toml=toml)
    assert answer.status == 78
    assert FILE in answer.stderr


# -- a server --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["0.0.0.0:8888", "[::]:8888", ":8888", "fd://", "fd://5", "unix:///run/x", "tcp://h:1"]
)
def test_a_server_is_told_where_to_listen_word_for_word(address: str) -> None:
    assert good(f"--listen={address}").listen == ListenOptions(parse_listen(address))


def test_a_server_has_its_certificate_and_the_ca_of_its_clients() -> None:
    options = good("--listen=:1", *FILES, "--store=sqlite:///x")
    assert options.listen == ListenOptions(parse_listen(":1"), TlsOptions("/ca", "/c", "/k"))
    assert options.store == SqliteOptions("/x")
    assert options.warnings == ()


def test_without_listen_there_is_no_server_whatever_the_policy() -> None:
    assert good(toml="[policy.web-1]").listen is None
    assert good("--listen=").listen is None


def test_a_ca_alone_is_said_to_be_without_use() -> None:
    (warning,) = good("--listen=:1", "--remote-cafile=/ca").warnings
    assert "plain HTTP" in warning


def test_networks_on_a_servers_command_line_are_one_warning() -> None:
    (warning,) = good("--listen=:1", "--networks=blue,green").warnings
    assert warning == "--networks is not used: a server joins no network"


# -- its policy ------------------------------------------------------------------------------------------------------


def policy(toml: str) -> dict[str, Grant]:
    listen = good("--listen=:1", toml=toml).listen
    assert listen is not None
    return dict(listen.policy)


def test_a_table_without_a_word_grants_every_network_and_no_address() -> None:
    assert policy('[policy.web-1]\n[policy."*"]\n[policy.anonymous]') == dict.fromkeys(
        ("web-1", "*", "anonymous"), Grant()
    )


def test_a_table_grants_what_it_says() -> None:
    found = policy(
        '[policy."web-1.example.org"]\nnetworks = ["blue", "dmz-*", "_"]\n'
        'public-ips = ["10.9.0.7", "10.9.1.9/24"]\nadmin = true'
    )
    grant = found["web-1.example.org"]
    assert grant.networks == ("blue", "dmz-*", "_")
    assert [str(Subnet(*one)) for one in grant.public_ips] == ["10.9.0.7/32", "10.9.1.0/24"]
    assert grant.admin
    assert Subnet(*grant.public_ips[0]).holds(parse_ip("10.9.0.7"))


BAD_POLICIES = {
    "number": ("policy = 3", "policy must be tables"),
    "list": ("policy = []", "policy must be tables"),
    "value": ("policy.web-1 = true", "policy must be tables"),
    "array of tables": ("[[policy.web-1]]", "policy must be tables"),
    "misspelt": ("[policy.web-1]\nnetwork = ['blue']", "did you mean networks?"),
    "underscore": ("[policy.web-1]\npublic_ips = []", "did you mean public-ips?"),
    "admin text": ("[policy.web-1]\nadmin = 'true'", "admin: expected true or false"),
    "admin number": ("[policy.web-1]\nadmin = 1", "admin: expected true or false"),
    "networks text": ("[policy.web-1]\nnetworks = 'blue'", "networks: expected a list of strings"),
    "networks numbers": ("[policy.web-1]\nnetworks = [1]", "networks: expected a list of strings"),
    "address": ("[policy.web-1]\npublic-ips = ['web-1']", "neither an IPv4 address nor a CIDR"),
    "IPv6": ("[policy.web-1]\npublic-ips = ['::1']", "neither an IPv4 address nor a CIDR"),
    "length": ("[policy.web-1]\npublic-ips = ['10.0.0.0/33']", "neither an IPv4 address nor a CIDR"),
    "misspelt policy": ("[polcy.web-1]", "did you mean policy?"),
}


@pytest.mark.parametrize(("toml", "why"), BAD_POLICIES.values(), ids=BAD_POLICIES.keys())
def test_a_bad_table_is_exit_78_and_names_file_table_and_key(toml: str, why: str) -> None:
    answer = refused("--listen=:1", toml=toml)
    assert answer.status == 78
    assert FILE in answer.stderr
    assert why in answer.stderr


@given(
    st.text(max_size=30),
    st.sampled_from(["--remote=", "--store=", "--listen=", "--remote=https://", "--store=http://"]),
)
def test_any_text_gives_options_or_one_line(text: str, flag: str) -> None:
    answer = read_options([flag + text], {}, lambda path: None)
    if isinstance(answer, Exit):
        assert answer.status == 2
        assert answer.stderr[:-1].isprintable()
