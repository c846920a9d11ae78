"""What `--listen` may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.options.listen import Listen, parse_listen


@pytest.mark.parametrize(
    ("text", "kind", "host", "number", "path"),
    [
        ("0.0.0.0:8888", "tcp", "0.0.0.0", 8888, ""),
        ("127.0.0.1:8888", "tcp", "127.0.0.1", 8888, ""),
        (":8888", "tcp", "", 8888, ""),
        ("[::]:8888", "tcp", "::", 8888, ""),
        ("[fe80::1%eth0]:8888", "tcp", "fe80::1%eth0", 8888, ""),
        ("tcp://127.0.0.1:8888", "tcp", "127.0.0.1", 8888, ""),
        ("tcp://[::1]:0", "tcp", "::1", 0, ""),
        ("db1.example:8888", "tcp", "db1.example", 8888, ""),
        ("fd://", "fd", "", 3, ""),
        ("fd://3", "fd", "", 3, ""),
        ("fd://5", "fd", "", 5, ""),
        ("unix:///run/flannel/server.sock", "unix", "", 0, "/run/flannel/server.sock"),
    ],
)
def test_every_kind_of_address_is_understood(text: str, kind: str, host: str, number: int, path: str) -> None:
    assert parse_listen(text) == Listen(text, kind, host, number, path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no port"),
        ("8888", "has no port"),
        ("0.0.0.0", "has no port"),
        ("0.0.0.0:", "has no port"),
        ("0.0.0.0:http", "has no port"),
        ("0.0.0.0:65536", "has no port from 0 to 65535"),
        ("0.0.0.0:-1", "has no port"),
        ("0.0.0.0:٣", "has no port"),
        ("::1:8888", "stands in brackets"),
        ("[::1:8888", "stands in brackets"),
        ("[nonsense]:8888", "is no IPv6 address"),
        ("http://0.0.0.0:8888", "'http' is no kind of listener"),
        ("foo://1", "'foo' is no kind of listener"),
        ("tcp://0.0.0.0:8888/", "has no port"),
        ("tcp://a/b:8888", "is no address to listen on"),
        ("fd://x", "'x' is no number of a descriptor"),
        ("fd://-1", "is no number of a descriptor"),
        ("fd://2", "out of range: activated sockets begin at 3"),
        ("unix://run/server.sock", "names no socket"),
        ("unix://", "names no socket"),
        ("unix:///run/", "names no socket"),
        ("unix:///" + "a" * 107, "at most 107 bytes"),
        ("unix:///run/a\nb", "is no address to listen on"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_listen(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert repr(text[:20])[:-1] in str(caught.value)


@given(st.text() | st.from_regex(r"(tcp|fd|unix)://.{0,30}|\[.{0,8}\]:[0-9]{0,6}"))
def test_any_text_is_an_address_or_one_line(text: str) -> None:
    try:
        said = parse_listen(text).kind
    except ValueError as error:
        said = str(error)
    assert said in ("tcp", "fd", "unix") or (said.isprintable() and 20 < len(said) < 400)
