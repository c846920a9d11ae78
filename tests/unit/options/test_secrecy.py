"""What `ps` may show of a command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.options import Options, read_options, redacted


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--etcd-password=x", "-v=1"], ["--etcd-password=***", "-v=1"]),
        (["-etcd-password", "x", "-v=1"], ["-etcd-password", "***", "-v=1"]),
        (["--etcd-password", "--etcd-password", "x"], ["--etcd-password", "***", "***"]),
        (["--etcd-password-file=/p", "--etcd-prefix=/etcd-password=x"], None),
        (["--etcd-password"], None),
        ([], None),
    ],
)
def test_a_password_is_hidden_and_nothing_else(words: list[str], shown: list[str] | None) -> None:
    assert redacted(words) == (words if shown is None else shown)


WORDS = st.sampled_from(["--etcd-password", "-etcd-password", "--etcd-password=s3cret", "s3cret", "-v=1", "--iface=a"])


@given(st.lists(WORDS, max_size=6))
def test_whatever_password_the_daemon_takes_is_hidden(words: list[str]) -> None:
    if isinstance(read_options(words, {}, lambda path: None), Options):
        assert not any("s3cret" in word for word in redacted(words))
        assert len(redacted(words)) == len(words)
