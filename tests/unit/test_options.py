"""Flag over environment over file over default, and one clear line for everything else."""

from __future__ import annotations

import pytest

from flannel_multi.options import Exit, Options, read_options

FILE = "/etc/flannel/flanneld.toml"
Files = dict[str, bytes]


def told(*arguments: str, env: dict[str, str] | None = None, files: Files | None = None) -> Options | Exit:
    return read_options(list(arguments), env or {}, (files or {}).get)


def good(*arguments: str, env: dict[str, str] | None = None, files: Files | None = None) -> Options:
    options = told(*arguments, env=env, files=files)
    assert isinstance(options, Options), options
    return options


def refused(*arguments: str, env: dict[str, str] | None = None, files: Files | None = None) -> Exit:
    answer = told(*arguments, env=env, files=files)
    assert isinstance(answer, Exit), answer
    assert answer.stdout == ""
    assert answer.stderr.endswith("\n")
    assert answer.stderr[:-1].isprintable()
    return answer


# -- what a plain start means -----------------------------------------------------------------------------------------


def test_without_a_word_it_is_one_unnamed_network_on_the_default_paths() -> None:
    options = good()
    (only,) = options.networks
    assert (options.multi, only.name) == (False, "")
    assert only.env_file == "/run/flannel/subnet.env"
    assert only.lock_file == "/run/flannel/networks/_.lock"
    assert only.state_file == "/var/lib/flannel/_.json"
    assert options.store.endpoints == ("http://127.0.0.1:4001", "http://127.0.0.1:2379")
    assert options.store.prefix == "/coreos.com/network"
    assert options.config_file == ""
    assert options.warnings == ()


def test_the_default_times_are_those_of_the_manual() -> None:
    options = good()
    (only,) = options.networks
    assert (only.restart_settled_s, only.restart_floor_s, only.restart_cap_s) == (5.0, 0.5, 60.0)
    assert (only.liveness_timeout_s, options.stop_timeout_s) == (10.0, 10.0)
    assert (only.renew_margin_s, only.restore_grace_s) == (3600, 600.0)


# -- Go's manner ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["-networks=a, b"],
        ["--networks", "a,b,"],
        ["-networks", "x", "-networks", "a,b"],
        ["--networks=,a,,b"],
        ["--networks=a,b", "--"],
    ],
)
def test_networks_are_named_in_gos_manner(words: list[str]) -> None:
    assert [network.name for network in good(*words).networks] == ["a", "b"]


@pytest.mark.parametrize("words", [["-v=2"], ["--v=2"], ["-v", "2"], ["--v", "2"], ["--v=7", "-v=2"]])
def test_one_or_two_dashes_and_equals_or_the_next_argument_are_the_same(words: list[str]) -> None:
    assert good(*words).verbosity == 2


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_every_false_of_go_is_a_false(text: str) -> None:
    good(f"--ip-masq={text}")


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_every_true_of_go_is_a_true(text: str) -> None:
    good(f"--iptables-forward-rules={text}")


def test_a_repeated_list_flag_is_a_list_and_another_flag_takes_the_last() -> None:
    options = good("--iface=eth1", "--iface", "eth2,eth3", "--etcd-prefix=/a", "--etcd-prefix=/b")
    assert options.networks[0].iface == ("eth1", "eth2", "eth3")
    assert options.store.prefix == "/b"


def test_an_empty_flag_blocks_the_environment_and_an_empty_variable_is_unset() -> None:
    assert good("--networks=", env={"FLANNELD_NETWORKS": "a"}).multi is False
    assert good("--networks=,", env={"FLANNELD_NETWORKS": "a"}).multi is False
    assert good("--iface=", env={"FLANNELD_IFACE": "eth1"}).networks[0].iface == ()
    assert good(env={"FLANNELD_NETWORKS": ""}).multi is False


@pytest.mark.parametrize(
    ("text", "duration_s"), [("5", 5.0), ("0.5", 0.5), ("500ms", 0.5), ("10s", 10.0), ("2m", 120.0), ("1h", 3600.0)]
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, duration_s: float) -> None:
    assert good(f"--liveness-timeout={text}").networks[0].liveness_timeout_s == duration_s


@pytest.mark.parametrize("text", ["", "0", "-1", "1d", "s", "1e3", "nan", "inf", "1.5.2", "１", "99999999h", "5 s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    assert refused(f"--stop-timeout={text}").status == 2


# -- who wins ---------------------------------------------------------------------------------------------------------


def test_flag_beats_environment_beats_file_beats_default() -> None:
    files = {FILE: b'etcd-prefix = "/file"\nlog-format = "json"\nv = 3'}
    env = {"FLANNELD_ETCD_PREFIX": "/env", "FLANNELD_V": "2"}
    options = good("-v=1", env=env, files=files)
    assert (options.verbosity, options.store.prefix, options.log_format) == (1, "/env", "json")
    assert options.config_file == FILE


def test_a_network_has_its_table_over_the_top_of_the_file_and_a_flag_over_both() -> None:
    files = {FILE: b'iface = "eth0"\n[networks.red]\niface = ["eth1", "eth2"]\n[networks.blue]\n'}
    red, blue = good(files=files).networks
    assert (red.iface, blue.iface) == (("eth1", "eth2"), ("eth0",))
    red, blue = good("--iface=eth9", files=files).networks
    assert (red.iface, blue.iface) == (("eth9",), ("eth9",))
    red, blue = good(env={"FLANNELD_IFACE": "eth7,eth8"}, files=files).networks
    assert red.iface == blue.iface == ("eth7", "eth8")


def test_tables_of_the_file_are_the_list_in_order() -> None:
    files = {FILE: b"[networks.red]\n[networks.blue]\n[networks.a]\n"}
    options = good(files=files)
    assert options.multi
    assert [network.name for network in options.networks] == ["red", "blue", "a"]


@pytest.mark.parametrize(
    ("words", "env"), [(["--networks=blue,red"], {}), ([], {"FLANNELD_NETWORKS": "blue,red"})], ids=["flag", "variable"]
)
def test_when_flag_or_environment_names_the_list_the_tables_only_carry_settings(
    words: list[str], env: dict[str, str]
) -> None:
    files = {FILE: b'[networks.red]\npublic-ip = "192.0.2.7"\n[networks.green]\n'}
    blue, red = good(*words, env=env, files=files).networks
    assert (blue.name, blue.public_ip) == ("blue", "")
    assert (red.name, red.public_ip) == ("red", "192.0.2.7")


def test_the_named_file_is_read_and_an_empty_name_reads_none() -> None:
    files = {FILE: b"v = 1", "/my.toml": b"v = 2"}
    assert good("--config=/my.toml", files=files).verbosity == 2
    assert good(env={"FLANNELD_CONFIG": "/my.toml"}, files=files).verbosity == 2
    assert good("--config=", files=files).verbosity == 0


def test_a_regular_expression_in_the_environment_may_hold_commas() -> None:
    assert good(env={"FLANNELD_IFACE_REGEX": "^eth[0-9]{1,2}$"}).networks[0].iface_regex == ("^eth[0-9]{1,2}$",)


# -- where files go ---------------------------------------------------------------------------------------------------


def test_the_run_dir_moves_every_file_that_is_not_named() -> None:
    (blue,) = good("--networks=blue", "--run-dir=/r/", "--state-dir=/s").networks
    assert (blue.env_file, blue.lock_file, blue.state_file) == (
        "/r/networks/blue.env",
        "/r/networks/blue.lock",
        "/s/blue.json",
    )
    (only,) = good("--run-dir=/r", "--state-dir=/s").networks
    assert (only.env_file, only.lock_file, only.state_file) == ("/r/subnet.env", "/r/networks/_.lock", "/s/_.json")


def test_subnet_file_and_subnet_dir_win_for_the_env_files_and_move_nothing_else() -> None:
    (blue,) = good("--networks=blue", "--run-dir=/r", "--subnet-dir=/e/").networks
    assert (blue.env_file, blue.lock_file) == ("/e/blue.env", "/r/networks/blue.lock")
    (only,) = good("--run-dir=/r", "--subnet-file=rel.env").networks
    assert (only.env_file, only.lock_file) == ("rel.env", "/r/networks/_.lock")


def test_subnet_file_of_the_daemon_is_not_for_named_networks_but_that_of_a_table_is() -> None:
    files = {FILE: b'[networks.blue]\nsubnet-file = "/x/b.env"\n[networks.red]\n'}
    options = good("--subnet-file=/one.env", files=files)
    assert [network.env_file for network in options.networks] == ["/x/b.env", "/run/flannel/networks/red.env"]
    assert len(options.warnings) == 1
    assert "--subnet-dir" in options.warnings[0]


def test_the_longest_network_name_is_good_and_no_path_of_two_networks_is_the_same() -> None:
    names = ["x" * 63, "x" * 62, "A.b-c_1", "0"]
    networks = good("--networks=" + ",".join(names)).networks
    assert [network.name for network in networks] == names
    paths = [path for network in networks for path in (network.env_file, network.lock_file, network.state_file)]
    assert len(set(paths)) == 12


# -- one line for what is wrong ---------------------------------------------------------------------------------------

BAD = {
    "unknown flag": (["--netwroks=a"], "did you mean --networks?"),
    "unknown flag of old": (["--etcd_prefix=/a"], "did you mean --etcd-prefix?"),
    "unknown flag like none": (["--zzz"], "--zzz"),
    "letter case": (["-V"], "unknown flag --V"),
    "line break": (["--a\nb"], "--a\\nb"),
    "no text": (["--a\udcffb"], "--a\\udcffb"),
    "key of a table": (["--mtu=1400"], "[networks.NAME]"),
    "positional": (["foo"], "foo"),
    "one dash": (["-"], "'-'"),
    "empty": ([""], "''"),
    "after a bool": (["--ip-masq", "true"], "true"),
    "after --": (["--", "x"], "x"),
    "syntax": (["---x"], "---x"),
    "only equals": (["--=x"], "--=x"),
    "no value": (["--public-ip"], "--public-ip"),
    "bad int": (["-v=abc"], "abc"),
    "empty int": (["-v="], "--v"),
    "huge int": (["-v=" + "9" * 5000], "no integer"),
    "bad bool": (["--ip-masq=maybe"], "maybe"),
    "bad glog bool": (["--alsologtostderr=maybe"], "maybe"),
    "bad bool of help": (["--help=maybe"], "maybe"),
    "bad ip": (["--public-ip=fe80::1"], "fe80::1"),
    "bad target": (["--iface-can-reach=host"], "host"),
    "IPv6 interface": (["--iface=::1"], "IPv4"),
    "interface name too long": (["--iface=abcdefghijklmnop"], "abcdefghijklmnop"),
    "margin 0": (["--subnet-lease-renew-margin=0"], "1439"),
    "margin 1440": (["--subnet-lease-renew-margin=1440"], "1439"),
    "log format": (["--log-format=jsno"], "did you mean json?"),
    "no run dir": (["--run-dir="], "--run-dir"),
    "no subnet file": (["--subnet-file="], "--subnet-file"),
    "not built": (["--ip-masq"], "not built yet"),
    "not built text": (["--healthz-ip=127.0.0.1"], "not built yet"),
    "not built int": (["--healthz-port=8080"], "not built yet"),
    "not built default true": (["--iptables-forward-rules=false"], "not built yet"),
    "kubernetes": (["--kube-subnet-mgr"], "Kubernetes"),
    "kubernetes only": (["--net-config-path=/x"], "Kubernetes"),
    "ipv6": (["--public-ipv6=::1"], "IPv4"),
    "twice": (["--networks=a,a"], "twice"),
    "reserved config": (["--networks=config"], "reserved"),
    "reserved subnets": (["--networks=subnets"], "reserved"),
    "reserved all": (["--networks=all"], "reserved"),
    "reserved _": (["--networks=_"], "reserved"),
    "name": (["--networks=../x"], "../x"),
    "long name": (["--networks=" + "x" * 64], "63"),
    "endpoint": (["--etcd-endpoints=foo:2379"], "foo:2379"),
    "endpoint port": (["--etcd-endpoints=http://h:99999"], "99999"),
    "endpoint path": (["--etcd-endpoints=http://h:2379/x"], "/x"),
    "endpoint that is no ASCII": (["--etcd-endpoints=http://h\u00f6st:2379"], "no URL"),
    "endpoint bracket": (["--etcd-endpoints=http://[::1"], "http://[::1"),
    "no endpoint": (["--etcd-endpoints=,"], "no endpoint"),
    "secret in a URL": (["--etcd-endpoints=http://u:p@h:1"], "--etcd-username"),
    "half a pair": (["--etcd-keyfile=/k"], "--etcd-certfile"),
    "other half": (["--etcd-certfile=/k"], "--etcd-keyfile"),
    "version and unknown": (["--version", "--nosuch"], "--nosuch"),
    "regex": (["--iface-regex=["], "["),
    "floor above cap": (["--restart-floor=70s"], "60s"),
    "password file": (["--etcd-password-file=/nope"], "/nope"),
    "two passwords": (["--etcd-password=a", "--etcd-password-file=/p"], "not both"),
}


@pytest.mark.parametrize(("words", "named"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_exit_2_and_one_line_that_names_it(words: list[str], named: str) -> None:
    answer = refused(*words)
    assert answer.status == 2
    assert named in answer.stderr
    assert len(answer.stderr) < 300


BAD_VARIABLES = {
    "FLANNELD_V": "abc",
    "FLANNELD_IP_MASQ": "garbage",
    "FLANNELD_HEALTHZ_IP": "127.0.0.1",
    "FLANNELD_KUBE_SUBNET_MGR": "true",
    "FLANNELD_PUBLIC_IPV6": "::1",
    "FLANNELD_NETWORKS": "a,a",
    "FLANNELD_PUBLIC_IP": "bogus",
    "FLANNELD_RESTART_FLOOR": "90s",
    "FLANNELD_ETCD_CERTFILE": "/c",
}


@pytest.mark.parametrize(("variable", "value"), BAD_VARIABLES.items(), ids=BAD_VARIABLES.keys())
def test_a_bad_variable_is_exit_2_and_one_line_that_names_the_variable(variable: str, value: str) -> None:
    answer = refused(env={variable: value})
    assert answer.status == 2
    assert variable in answer.stderr


def test_a_variable_whose_flag_is_given_is_not_looked_at() -> None:
    assert good("-v=1", env={"FLANNELD_V": "abc"}).verbosity == 1


BAD_FILES = {
    "networks number": (b"networks = 3", "networks"),
    "networks list": (b"[[networks]]\nname = 'a'", "networks"),
    "network no table": (b"networks.blue = 3", "networks.blue"),
    "unknown key": (b'etcd-prefx = "/a"', "did you mean etcd-prefix?"),
    "unknown key of a table": (b"[networks.blue]\nifcae = 'a'", "did you mean iface?"),
    "unknown table": (b"[etcd]\nprefix = 'a'", "etcd"),
    "key of the top": (b"[networks.blue]\nlisten = 1", "at the top"),
    "key of a table": (b"mtu = 1400", "[networks.NAME]"),
    "config in itself": (b"config = '/a'", "config"),
    "not built": (b"[networks.blue]\nmtu = 1400", "not built yet"),
    "not built bool": (b"[networks.blue]\nip-masq = true", "not built yet"),
    "not built at the top": (b"healthz-ip = '127.0.0.1'", "not built yet"),
    "not built of another type": (b"[networks.blue]\nmemory-max = 100", "not built yet"),
    "kubernetes": (b"kube-subnet-mgr = true", "Kubernetes"),
    "ipv6": (b"public-ipv6 = '::1'", "IPv4"),
    "not closed": (b"v = 'x", "TOML"),
    "twice": (b"v = 1\nv = 2", "TOML"),
    "not UTF-8": (b"\xff", "TOML"),
    "deep": (b"v = " + b"[" * 5000, "TOML"),
    "many digits": (b"v = " + b"9" * 5000, "TOML"),
    "many hex digits": (b"v = 0x" + b"f" * 5000, "v"),
    "empty list": (b"v = []", "v"),
    "list of lists": (b"iface = [['a']]", "iface"),
    "fraction": (b"v = 1.0", "v"),
    "text for an int": (b"v = '1'", "v"),
    "bool for a string": (b"etcd-prefix = true", "etcd-prefix"),
    "number for a string": (b"etcd-prefix = 1", "etcd-prefix"),
    "string for a bool": (b"ip-masq = 'false'", "not built yet"),
    "date": (b"etcd-prefix = 2020-01-01", "etcd-prefix"),
    "negative duration": (b"liveness-timeout = -1", "liveness-timeout"),
    "infinite duration": (b"liveness-timeout = inf", "liveness-timeout"),
    "NUL": (b'etcd-cafile = "a\\u0000b"', "NUL"),
    "margin": (b"subnet-lease-renew-margin = 1440", "1439"),
    "second regex": (b"iface-regex = ['a', '[']", "["),
    "reserved name": (b"[networks.config]", "reserved"),
    "bad name": (b"[networks.' a']", "' a'"),
    "endpoint": (b"etcd-endpoints = 'foo'", "foo"),
    "half a pair": (b"etcd-keyfile = '/k'", "--etcd-certfile"),
    "floor above cap": (b"[networks.blue]\nrestart-floor = '2m'", "[networks.blue] restart-floor"),
    "password file": (b"etcd-password-file = '/nope'", "/nope"),
}


@pytest.mark.parametrize(("text", "named"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_exit_78_and_one_line_that_names_it(text: bytes, named: str) -> None:
    answer = refused(files={FILE: text})
    assert answer.status == 78
    assert named in answer.stderr
    assert FILE in answer.stderr


def test_a_named_file_must_exist_and_the_default_one_need_not() -> None:
    answer = refused("--config=/nope.toml")
    assert answer.status == 78
    assert "/nope.toml" in answer.stderr


def test_a_file_that_cannot_be_read_is_exit_78() -> None:
    def forbidden(path: str) -> bytes | None:
        raise PermissionError(13, "Permission denied", path)

    answer = read_options([], {}, forbidden)
    assert answer == Exit(78, stderr=f"flanneld: {FILE}: cannot be read: Permission denied\n")


@pytest.mark.parametrize(
    "words", [["--ip-masq=false"], ["--healthz-port=0"], ["--healthz-ip=0.0.0.0"], ["--iptables-forward-rules"]]
)
def test_a_flag_not_built_passes_with_its_default(words: list[str]) -> None:
    assert good(*words).warnings == ()


def test_a_key_not_built_passes_with_its_default_in_the_file_too() -> None:
    files = {FILE: b"ip-masq = false\n[networks.blue]\nip-masq = false\nmtu = 0\n"}
    assert good(files=files).warnings == ()


@pytest.mark.parametrize(
    ("words", "env", "text"),
    [
        (["--logtostderr=false"], {}, b""),
        (["--stderrthreshold=INFO"], {}, b""),
        (["-vmodule", "a=1", "-vmodule", "b=2"], {}, b""),
        ([], {"FLANNELD_LOG_DIR": "/l"}, b""),
        ([], {"FLANNELD_LOGTOSTDERR": "true"}, b""),
        ([], {}, b"log_backtrace_at = 'a:1'"),
    ],
)
def test_a_glog_flag_is_accepted_with_one_line(words: list[str], env: dict[str, str], text: bytes) -> None:
    (line,) = good(*words, env=env, files={FILE: text}).warnings
    assert "does nothing" in line


def test_an_unknown_variable_is_one_warning_that_names_the_nearest() -> None:
    (line,) = good(env={"FLANNELD_NETWROKS": "a", "FLANNEL_X": "1", "PATH": "/bin"}).warnings
    assert "FLANNELD_NETWROKS" in line
    assert "did you mean FLANNELD_NETWORKS?" in line


def test_help_and_version_are_not_set_from_the_environment() -> None:
    assert good(env={"FLANNELD_HELP": "true", "FLANNELD_VERSION": "true"}).warnings == ()


def test_a_password_without_a_user_is_one_warning() -> None:
    assert len(good("--etcd-password=x").warnings) == 1


# -- help and version -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--version"], ["-version"], ["--help=false", "--version=true"]])
def test_version_is_on_standard_output(words: list[str]) -> None:
    assert told(*words, env={"FLANNELD_V": "abc"}) == Exit(0, stdout="0.1.0\n")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version", "--help"], ["--help", "--ip-masq"]])
def test_help_is_on_standard_output_and_wins(words: list[str]) -> None:
    answer = told(*words)
    assert isinstance(answer, Exit)
    assert (answer.status, answer.stderr) == (0, "")
    assert answer.stdout.startswith("Usage: flanneld")


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_the_password_shows_in_no_representation() -> None:
    options = good("--etcd-username=root", "--etcd-password-file=/p", files={"/p": b"s3cret\r\nrest"})
    assert options.store.password == "s3cret"
    assert "s3cret" not in repr(options)


def test_the_higher_source_of_a_password_wins_be_it_a_file_or_a_value() -> None:
    files = {FILE: b"etcd-username = 'u'\netcd-password = 'file'", "/p": b"flag\n"}
    assert good("--etcd-password-file=/p", files=files).store.password == "flag"
    files = {FILE: b"etcd-username = 'u'\netcd-password-file = '/p'", "/p": b"file\n"}
    assert good(env={"FLANNELD_ETCD_PASSWORD": "env"}, files=files).store.password == "env"


@pytest.mark.parametrize("raw", [b"", b"\nsecond", b"\xff\n"])
def test_a_password_file_without_a_password_is_refused(raw: bytes) -> None:
    assert refused("--etcd-password-file=/p", files={"/p": raw}).status == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--etcd-password=s3cret", "--nosuch"],
        ["--etcd-password", "s3cret", "foo"],
        ["--etcd-endpoints=http://root:s3cret@h:1"],
        ["--etcd-endpoints=etcd://root:s3cret@h:1"],
        ["--etcd-pasword=s3cret"],
    ],
)
def test_no_message_shows_a_password(words: list[str]) -> None:
    assert "s3cret" not in refused(*words).stderr
