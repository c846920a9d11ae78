"""libbpf.so.1 through ctypes: objects, their programs and maps (bpf/bpf.h, bpf/libbpf.h).

Imported only in a worker that uses bpf. Since libbpf 1.0 a function returns -errno, and one that returns a pointer
gives NULL and leaves the cause in errno; both become OSError here, whose text says what was tried.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache

_ADVICE = {
    errno.EPERM: "run flanneld as root, or with CAP_BPF and CAP_NET_ADMIN",
    errno.EACCES: "run flanneld as root, or with CAP_BPF and CAP_NET_ADMIN",
    errno.EINVAL: "the kernel is too old for it (5.10 is needed)",
    errno.E2BIG: "the kernel is too old for it (5.10 is needed)",
    errno.EOPNOTSUPP: "the device's driver does not do that",
    errno.ENOSYS: "the kernel is built without CONFIG_BPF_SYSCALL",
}


class _RunOpts(ctypes.Structure):  # struct bpf_test_run_opts
    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_char_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


_POINTERS = {
    "bpf_object__open_file": (c_char_p, c_void_p),
    "bpf_object__find_map_by_name": (c_void_p, c_char_p),
    "bpf_object__find_program_by_name": (c_void_p, c_char_p),
    "bpf_map__initial_value": (c_void_p, c_void_p),
}
_NUMBERS = {
    "bpf_object__load": (c_void_p,),
    "bpf_map__set_pin_path": (c_void_p, c_char_p),
    "bpf_map__fd": (c_void_p,),
    "bpf_map__key_size": (c_void_p,),
    "bpf_map__value_size": (c_void_p,),
    "bpf_program__fd": (c_void_p,),
    "bpf_map_lookup_elem": (c_int, c_char_p, c_void_p),
    "bpf_map_update_elem": (c_int, c_char_p, c_char_p, c_uint64),
    "bpf_map_delete_elem": (c_int, c_char_p),
    "bpf_map_get_next_key": (c_int, c_char_p, c_void_p),
    "bpf_obj_get": (c_char_p,),
    "bpf_prog_get_fd_by_id": (c_uint32,),
    "bpf_prog_test_run_opts": (c_int, c_void_p),
    "bpf_obj_get_info_by_fd": (c_int, c_void_p, c_void_p),
    "libbpf_num_possible_cpus": (),
    "bpf_tc_hook_create": (c_void_p,),
    "bpf_tc_attach": (c_void_p, c_void_p),
    "bpf_xdp_attach": (c_int, c_int, c_uint32, c_void_p),
    "bpf_xdp_detach": (c_int, c_uint32, c_void_p),
    "bpf_xdp_query_id": (c_int, c_int, c_void_p),
}


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        text = "libbpf.so.1 is missing: install libbpf1 (Debian, Ubuntu) or libbpf (Fedora)"
        raise OSError(errno.ENOENT, text) from None
    for kinds, result in ((_POINTERS, c_void_p), (_NUMBERS, c_int)):
        for name, arguments in kinds.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result
    library.bpf_object__close.argtypes, library.bpf_object__close.restype = (c_void_p,), None
    library.libbpf_set_print(None)  # it would write to stderr past our log
    return library


def call(name: str, *arguments: object, what: str) -> int:
    """The function's answer. Raises OSError: `what` refused, by which errno, what to do."""
    answer: int = getattr(_library(), name)(*arguments)
    if answer < 0:
        raise refused(what, -answer)
    return answer


def refused(what: str, code: int) -> OSError:
    todo = _ADVICE.get(code, os.strerror(code))
    return OSError(code, f"{what} refused: {errno.errorcode.get(code, code)}; {todo}")


def _pointer(name: str, *arguments: object, what: str) -> int:
    answer: int | None = getattr(_library(), name)(*arguments)
    if not answer:
        raise refused(what, ctypes.get_errno())
    return answer


class Map:
    """A map of a loaded object; keys and values are bytes of the map's sizes. Lives as long as its object."""

    def __init__(self, name: str, handle: int) -> None:
        self.name = name
        self.key_size = call("bpf_map__key_size", handle, what=f"size of map {name}")
        self.value_size = call("bpf_map__value_size", handle, what=f"size of map {name}")
        self._fd = call("bpf_map__fd", handle, what=f"map {name}")

    def lookup(self, key: bytes) -> bytes | None:
        """The value; of a per-CPU map all of them, one after the other, each aligned to 8 bytes. Raises OSError."""
        return self._lookup(key, self.value_size)

    def lookup_on_cpus(self, key: bytes) -> list[bytes]:
        """The values of a per-CPU map, [] without the key. Raises OSError."""
        size, count = (self.value_size + 7) // 8 * 8, cpus()
        text = self._lookup(key, size * count)
        return [] if text is None else [text[at : at + self.value_size] for at in range(0, size * count, size)]

    def _lookup(self, key: bytes, size: int) -> bytes | None:
        value = ctypes.create_string_buffer(size)
        answer: int = _library().bpf_map_lookup_elem(self._fd, key, value)
        if answer == -errno.ENOENT:
            return None
        if answer < 0:
            raise refused(f"reading map {self.name}", -answer)
        return value.raw

    def update(self, key: bytes, value: bytes) -> None:
        """Raises OSError: E2BIG or ENOSPC when the map is full."""
        answer: int = _library().bpf_map_update_elem(self._fd, key, value, 0)
        if answer in (-errno.E2BIG, -errno.ENOSPC):
            raise OSError(-answer, f"map {self.name} is full")
        if answer < 0:
            raise refused(f"writing map {self.name}", -answer)

    def zero_on_cpus(self, key: bytes) -> None:
        """A per-CPU map's key with nothing counted yet. Raises OSError."""
        self.update(key, bytes((self.value_size + 7) // 8 * 8 * cpus()))

    def delete(self, key: bytes) -> None:
        """Nothing to do when the key is absent. Raises OSError."""
        answer: int = _library().bpf_map_delete_elem(self._fd, key)
        if answer not in (0, -errno.ENOENT):
            raise refused(f"writing map {self.name}", -answer)

    def keys(self) -> Iterator[bytes]:
        """While nobody else changes the map. Raises OSError."""
        place, following = None, ctypes.create_string_buffer(self.key_size)
        while (answer := int(_library().bpf_map_get_next_key(self._fd, place, following))) == 0:
            place = following.raw
            yield place
        if answer != -errno.ENOENT:
            raise refused(f"reading map {self.name}", -answer)


class Object:
    """An object file's programs and maps in the kernel, held by descriptors until `close`."""

    def __init__(self, path: str) -> None:
        """Reads the file. Raises OSError."""
        self._path = path
        self._handle = _pointer("bpf_object__open_file", path.encode(), None, what=f"opening {path}")

    def pin(self, name: str, path: str) -> None:
        """Before `load`: the map is the one pinned at `path`, or a new one that `load` pins there. Raises OSError."""
        call("bpf_map__set_pin_path", self._map(name), path.encode(), what=f"pinning map {name}")

    def load(self) -> None:
        """Raises OSError; EINVAL also when a pinned map is of another shape."""
        call("bpf_object__load", self._handle, what=f"loading {self._path}")

    def map(self, name: str) -> Map:
        return Map(name, self._map(name))

    def _map(self, name: str) -> int:
        return _pointer("bpf_object__find_map_by_name", self._handle, name.encode(), what=f"map {name}")

    def program(self, name: str) -> int:
        """Descriptor of a program, the object's own. Raises OSError."""
        what = f"program {name}"
        handle = _pointer("bpf_object__find_program_by_name", self._handle, name.encode(), what=what)
        return call("bpf_program__fd", handle, what=what)

    def texts(self, section: str) -> list[str]:
        """The strings, each ended by NUL, of a section of read-only data. Raises OSError."""
        size = c_size_t()
        at = _pointer("bpf_map__initial_value", self._map(section), byref(size), what=f"section {section}")
        return [text.decode() for text in ctypes.string_at(at, size.value).split(b"\0") if text]

    def close(self) -> None:
        if self._handle:
            _library().bpf_object__close(self._handle)
        self._handle = 0


def run(program: int, packet: bytes, *, what: str) -> tuple[int, bytes]:
    """The verdict of `program` on an Ethernet frame, and what became of it (BPF_PROG_TEST_RUN). Raises OSError."""
    out = ctypes.create_string_buffer(len(packet) + 256)
    opts = _RunOpts(sz=ctypes.sizeof(_RunOpts), data_in=packet, data_size_in=len(packet), data_size_out=len(out))
    opts.data_out = ctypes.addressof(out)
    call("bpf_prog_test_run_opts", program, byref(opts), what=what)
    return ctypes.c_int32(opts.retval).value, out.raw[: opts.data_size_out]


def lookup_pinned(path: str, key: bytes, value_size: int) -> bytes | None:
    """The value in the map that is pinned at `path`; None without the key, or without a map. Raises OSError."""
    try:
        fd = call("bpf_obj_get", path.encode(), what=f"opening {path}")
    except FileNotFoundError:
        return None
    try:
        value = ctypes.create_string_buffer(value_size)
        call("bpf_map_lookup_elem", fd, key, value, what=f"reading {path}")
    except FileNotFoundError:
        return None
    finally:
        os.close(fd)
    return value.raw


def program_name(number: int) -> str:
    """Name of the program with that id, "" when it is gone. Raises OSError."""
    try:
        fd = call("bpf_prog_get_fd_by_id", number, what=f"program {number}")
    except FileNotFoundError:
        return ""
    try:
        # struct bpf_prog_info: its name is at byte 64; the kernel fills in as much as is asked for.
        info, size = ctypes.create_string_buffer(80), c_uint32(80)
        call("bpf_obj_get_info_by_fd", fd, info, byref(size), what=f"program {number}")
        return info.raw[64:80].rstrip(b"\0").decode("utf-8", "backslashreplace")
    finally:
        os.close(fd)


@cache
def cpus() -> int:
    """How many values a per-CPU map has for a key. Raises OSError."""
    return call("libbpf_num_possible_cpus", what="counting processors")
