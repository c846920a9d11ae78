"""Stores by their URLs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.options import EtcdOptions, RemoteOptions, SqliteOptions, StoreOptions, TlsOptions
from flannel_multi.options.store_url import parse_store_url

ETCD = EtcdOptions(("http://127.0.0.1:2379",), "/p", "/ca", "/cert", "/key", "user", "secret")
TLS = TlsOptions("/rca", "/rcert", "/rkey")


def parse(text: str) -> StoreOptions:
    return parse_store_url(text, etcd=ETCD, tls=TLS)


@pytest.mark.parametrize(
    ("text", "endpoints", "prefix"),
    [
        ("etcd://h1:2379", ("http://h1:2379",), "/p"),
        ("etcd://h1", ("http://h1:2379",), "/p"),
        ("etcd://h1:1,h2/", ("http://h1:1", "http://h2:2379"), ""),
        ("etcd://h1:1/coreos.com//network/", ("http://h1:1",), "/coreos.com/network"),
        ("etcds://[::1]:2379,[fd00::2]/x", ("https://[::1]:2379", "https://[fd00::2]:2379"), "/x"),
    ],
)
def test_etcd_by_its_members_keeps_the_settings_that_a_url_has_no_place_for(
    text: str, endpoints: tuple[str, ...], prefix: str
) -> None:
    assert parse(text) == replace(ETCD, endpoints=endpoints, prefix=prefix)


def test_the_word_etcd_is_what_the_settings_say() -> None:
    assert parse("etcd") == ETCD


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("http://old:8888", ("http://old:8888",)),
        ("http://old:8888/", ("http://old:8888",)),
        ("http://a:1,b:2", ("http://a:1", "http://b:2")),
        ("http://a:1,http://b", ("http://a:1", "http://b:8888")),
        ("unix:///run/flannel/v1.sock", ("unix:///run/flannel/v1.sock",)),
    ],
)
def test_servers_without_tls_are_given_no_certificates(text: str, servers: tuple[str, ...]) -> None:
    assert parse(text) == RemoteOptions(servers, TlsOptions())


def test_servers_with_tls_are_given_the_remote_files() -> None:
    assert parse("https://a:1,[::1]:2") == RemoteOptions(("https://a:1", "https://[::1]:2"), TLS)


@pytest.mark.parametrize("path", ["/var/lib/flannel/store.db", "/a b?x=1#%20,é"])
def test_a_files_path_is_taken_as_it_is(path: str) -> None:
    assert parse(f"sqlite://{path}") == SqliteOptions(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no store"),
        ("10.0.0.3:8888", "is no store"),
        ("redis://h", "is no kind of store"),
        ("sqlite://store.db", "three slashes"),
        ("sqlite://", "three slashes"),
        ("sqlite:///var/", "names a folder"),
        ("sqlite:///a\0b", "no URL has"),
        ("unix://x", "three slashes"),
        ("etcd://", "a host is missing"),
        ("etcd:///prefix", "a host is missing"),
        ("etcd://h1,,h2", "a host is missing"),
        ("etcd://h:port", "is no URL"),
        ("etcd://h?x", "is no URL"),
        ("http://", "a host is missing"),
        ("http://a,", "a host is missing"),
        ("http://a:1/v1", "has a path"),
        ("http://a,https://b", "mixes two schemes"),
    ],
)
def test_what_is_no_store_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)


@pytest.mark.parametrize("text", ["etcd://me:hunter2@h:1", "http://me:hunter2@h:1"])
def test_a_password_in_a_url_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="does not belong in a URL") as caught:
        parse(text)
    assert "hunter2" not in str(caught.value)


@given(st.text(), st.sampled_from(["", "etcd://", "etcds://", "sqlite:///", "http://", "https://", "unix:///"]))
def test_any_text_gives_options_or_one_reason(text: str, scheme: str) -> None:
    try:
        parse(scheme + text)
    except ValueError as error:
        reason = str(error)
    else:
        reason = ""
    assert "\n" not in reason
