"""Flag over environment over file over default, and one clear line for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.options import Exit, Options, help_text, read_options
from flannel_multi.options.flags import FLAGS, Fate

FILE = "/etc/flannel/flanneld.toml"


def told(*arguments: str, env: dict[str, str] | None = None, files: dict[str, bytes] | None = None) -> Options | Exit:
    return read_options(list(arguments), env or {}, (files or {}).get)


def good(*arguments: str, env: dict[str, str] | None = None, files: dict[str, bytes] | None = None) -> Options:
    options = told(*arguments, env=env, files=files)
    assert isinstance(options, Options), options
    return options


def refused(*arguments: str, env: dict[str, str] | None = None, files: dict[str, bytes] | None = None) -> Exit:
    answer = told(*arguments, env=env, files=files)
    assert isinstance(answer, Exit)
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    return answer


def test_without_a_word_it_is_one_unnamed_network_on_the_default_paths() -> None:
    options = good()
    (only,) = options.networks
    assert (options.multi, only.name) == (False, "")
    assert only.env_file == "/run/flannel/subnet.env"
    assert only.lock_file == "/run/flannel/networks/_.lock"
    assert only.state_file == "/var/lib/flannel/_.json"


@pytest.mark.parametrize("words", [["-networks=a, b"], ["--networks", "a,b,"], ["-networks", "x", "-networks", "a,b"]])
def test_networks_are_named_in_gos_manner(words: list[str]) -> None:
    assert [network.name for network in good(*words).networks] == ["a", "b"]


def test_the_run_dir_moves_every_file_that_is_not_named() -> None:
    (blue,) = good("--networks=blue", "--run-dir=/r", "--state-dir=/s").networks
    assert (blue.env_file, blue.lock_file, blue.state_file) == (
        "/r/networks/blue.env", "/r/networks/blue.lock", "/s/blue.json")  # fmt: skip
    assert good("--networks=blue", "--run-dir=/r", "--subnet-dir=/e").networks[0].env_file == "/e/blue.env"


def test_flag_beats_environment_beats_file_beats_default() -> None:
    files = {FILE: b'etcd-prefix = "/file"\nlog-format = "json"\nv = 3'}
    env = {"FLANNELD_ETCD_PREFIX": "/env", "FLANNELD_V": "2"}
    options = good("-v=1", env=env, files=files)
    assert (options.verbosity, options.store.prefix, options.log_format) == (1, "/env", "json")


def test_an_empty_flag_blocks_the_environment_and_an_empty_variable_is_unset() -> None:
    assert good("--networks=", env={"FLANNELD_NETWORKS": "a"}).multi is False
    assert good(env={"FLANNELD_NETWORKS": ""}).multi is False


def test_tables_of_the_file_are_the_list_unless_a_flag_names_it() -> None:
    files = {FILE: b'[networks.red]\niface = ["eth1", "eth2"]\n[networks.blue]\n'}
    assert [network.name for network in good(files=files).networks] == ["red", "blue"]
    (red,) = good("--networks=red", files=files).networks
    assert red.iface == ("eth1", "eth2")


BAD = {
    "unknown flag": (["--netwroks=a"], "did you mean --networks?"),
    "positional": (["foo"], "foo"),
    "after a bool": (["--ip-masq", "true"], "true"),
    "after --": (["--", "x"], "x"),
    "syntax": (["---x"], "---x"),
    "no value": (["--public-ip"], "--public-ip"),
    "bad int": (["-v=abc"], "abc"),
    "bad bool": (["--ip-masq=maybe"], "maybe"),
    "bad ip": (["--public-ip=fe80::1"], "fe80::1"),
    "margin": (["--subnet-lease-renew-margin=1440"], "1439"),
    "not built": (["--ip-masq"], "not built yet"),
    "not built text": (["--listen=:8888"], "not built yet"),
    "kubernetes": (["--kube-subnet-mgr"], "Kubernetes"),
    "ipv6": (["--public-ipv6=::1"], "IPv4"),
    "twice": (["--networks=a,a"], "twice"),
    "reserved": (["--networks=config"], "reserved"),
    "name": (["--networks=../x"], "../x"),
    "endpoint": (["--etcd-endpoints=foo:2379"], "foo:2379"),
    "secret in a URL": (["--etcd-endpoints=http://u:p@h:1"], "--etcd-username"),
    "half a pair": (["--etcd-keyfile=/k"], "--etcd-certfile"),
    "version and unknown": (["--version", "--nosuch"], "--nosuch"),
    "regex": (["--iface-regex=["], "["),
}


@pytest.mark.parametrize(("words", "named"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_exit_2_and_one_line_that_names_it(words: list[str], named: str) -> None:
    answer = refused(*words)
    assert answer.status == 2
    assert named in answer.stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"networks = 3", "networks"),
        (b'etcd-prefx = "/a"', "did you mean etcd-prefix?"),
        (b"[networks.blue]\nlisten = 1", "listen"),
        (b"[networks.blue]\nmtu = 1400", "not built yet"),
        (b"v = 'x", "TOML"),
        (b"\xff", "TOML"),
        (b"v = []", "v"),
        (b"liveness-timeout = -1", "liveness-timeout"),
    ],
)
def test_a_bad_file_is_exit_78_and_one_line_that_names_it(text: bytes, named: str) -> None:
    answer = refused(files={FILE: text})
    assert answer.status == 78
    assert named in answer.stderr
    assert FILE in answer.stderr


def test_a_named_file_must_exist_and_the_default_one_need_not() -> None:
    assert refused("--config=/nope.toml").status == 78


@pytest.mark.parametrize("words", [["--ip-masq=false"], ["--healthz-port=0"], ["--iptables-forward-rules"]])
def test_a_flag_not_built_passes_with_its_default(words: list[str]) -> None:
    good(*words)


def test_glog_flags_and_unknown_variables_are_one_warning() -> None:
    assert len(good("--logtostderr=false").warnings) == 1
    (line,) = good(env={"FLANNELD_NETWROKS": "a"}).warnings
    assert "did you mean FLANNELD_NETWORKS?" in line


def test_help_and_version_are_on_standard_output_and_help_wins() -> None:
    assert told("--version") == Exit(0, stdout="0.1.0\n")
    answer = told("--version", "-h")
    assert answer == Exit(0, stdout=help_text())
    assert all(f"--{name}" in help_text() for name, flag in FLAGS.items() if flag.fate is Fate.BUILT)


def test_the_password_shows_in_no_representation() -> None:
    options = good("--etcd-password-file=/p", files={"/p": b"s3cret\nrest"})
    assert options.store.password == "s3cret"
    assert "s3cret" not in repr(options)


@given(
    st.lists(st.text(max_size=12) | st.sampled_from([f"--{name}" for name in FLAGS]), max_size=6),
    st.dictionaries(st.sampled_from(["FLANNELD_V", "FLANNELD_IFACE", "FLANNELD_NETWORKS"]), st.text(max_size=8)),
    st.binary(max_size=40),
)
def test_whatever_is_said_gives_options_or_an_exit(words: list[str], env: dict[str, str], text: bytes) -> None:
    assert isinstance(told(*words, env=env, files={FILE: text}), Options | Exit)
