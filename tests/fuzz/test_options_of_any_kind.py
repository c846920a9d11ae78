"""Whatever stands on the command line, in the environment and in the file: options, or one line and a status."""

from __future__ import annotations

import tomllib

from hypothesis import example, given
from hypothesis import strategies as st

from flannel_multi.options import Exit, Options, read_options
from flannel_multi.options.flags import FLAGS, environment_name

VALUES = st.text(max_size=12) | st.sampled_from(
    ["true", "false", "0", "1", "10s", "/a", "a,b", "192.0.2.1", "http://h"]
)
FLAG = st.sampled_from([f"--{name}" for name in FLAGS])
WORDS = st.lists(
    st.text(max_size=12) | FLAG | st.builds(lambda flag, value: f"{flag}={value}", FLAG, VALUES), max_size=6
)
VARIABLES = st.dictionaries(
    st.sampled_from([environment_name(name) for name in FLAGS]) | st.text(max_size=8).map("FLANNELD_".__add__), VALUES,
    max_size=4,
)  # fmt: skip
SCALARS = st.text(max_size=8) | st.integers() | st.floats() | st.booleans() | st.lists(st.text(max_size=4), max_size=3)


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in value) + '"'
        case list():
            return "[" + ",".join(map(_toml, value)) + "]"
        case _:
            return repr(value)


TABLE = st.dictionaries(st.sampled_from(sorted(FLAGS)), SCALARS, max_size=4).map(
    lambda table: "".join(f"{name} = {_toml(value)}\n" for name, value in table.items())
)
FILES = st.binary(max_size=60) | st.builds(
    lambda top, name, table: f"{top}[networks.{name}]\n{table}".encode(),
    TABLE, st.sampled_from(["blue", "all", "'a b'"]), TABLE,
)  # fmt: skip


def judge(words: list[str], env: dict[str, str], file: bytes) -> Options | Exit:
    answer = read_options(words, env, {"/etc/flannel/flanneld.toml": file, "/p": b"secret\n"}.get)
    if isinstance(answer, Options):
        assert answer.networks
        assert all(line.isprintable() for line in answer.warnings)
        return answer
    assert answer.status in (0, 2, 78)
    if answer.status:
        assert answer.stdout == ""
        assert answer.stderr.startswith("flanneld: ")
        assert answer.stderr.endswith("\n")
        assert answer.stderr[:-1].isprintable()
    else:
        assert answer.stderr == ""
    return answer


@given(WORDS, VARIABLES, FILES)
@example(["--etcd-password-file=/p"], {}, b"")
def test_anything_said_gives_options_or_one_line_and_a_status(
    words: list[str], env: dict[str, str], file: bytes
) -> None:
    judge(words, env, file)


@given(st.binary(max_size=60))
def test_a_file_that_is_no_toml_is_exit_78_and_one_that_is_may_be_too(file: bytes) -> None:
    try:
        tomllib.loads(file.decode())
    except (ValueError, RecursionError):
        answer = judge([], {}, file)
        assert isinstance(answer, Exit)
        assert answer.status == 78
    else:
        judge([], {}, file)
