"""One line format for parent and workers, written without ever waiting.

A full pipe or a stopped reader must not stop a network: what cannot be written at once is dropped and counted, and
the next line that can be written says how many were. A process that floods is cut to RATE lines a second.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import time

RATE = 50.0  # lines a second, in the long run
BURST = 200.0  # lines at once
LONGEST = 4096  # bytes of a line: a pipe takes that much whole or not at all (PIPE_BUF), so no line is torn
_BREAKS = (0x2028, 0x2029)  # line and paragraph separator
_TURNS = (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))  # make a terminal show another order
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))} | {
    code: f"\\u{code:04x}" for code in (*_BREAKS, *_TURNS)
}


class _Sink:
    """Standard error without waiting. No flag of the shared descriptor is changed: other processes own it too."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._fd = 2
        try:
            mode = os.fstat(2).st_mode
        except OSError:
            return
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(2))
        elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            try:
                self._fd = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:
                self._fd = 2  # a descriptor of another user: write to it as it is

    def write(self, line: bytes) -> bool:
        """False when the line could not be written at once."""
        try:
            if self._socket is not None:
                self._socket.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            else:
                os.write(self._fd, line)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        elif self._fd != 2:
            os.close(self._fd)


class _Logger:
    def __init__(self) -> None:
        self.fmt = "text"
        self.verbosity = 0
        self.network = ""
        self.role = "supervisor"
        self.incarnation = 0
        self.pid = os.getpid()
        self.sink: _Sink | None = None
        self._buckets: dict[str, tuple[float, float]] = {}
        self._dropped = 0

    def say(self, level: str, text: str, about: str) -> None:
        if not self._admit(about):
            self._dropped += 1
            return
        if self.sink is None:
            self.sink = _Sink()
        if self._dropped:
            note = self._whole(
                "W", f"({self._dropped} lines dropped: too many at once, or standard error was full)", ""
            )
            if not self.sink.write(note):
                self._dropped += 1
                return
            self._dropped = 0
        if not self.sink.write(self._whole(level, text, about)):
            self._dropped += 1

    def _admit(self, about: str) -> bool:
        """A bucket for each network: one that floods takes no line from another."""
        now_s = time.monotonic()
        tokens, filled_at_s = self._buckets.get(about, (BURST, now_s))
        tokens = min(BURST, tokens + (now_s - filled_at_s) * RATE)
        admitted = tokens >= 1.0
        self._buckets[about] = (tokens - 1.0 if admitted else tokens), now_s
        return admitted

    def _whole(self, level: str, text: str, about: str) -> bytes:
        """The line, its text cut until it fits LONGEST."""
        line = self._line(level, text[:LONGEST], about)
        while len(line) > LONGEST:
            text = text[: min(len(text), LONGEST) * 3 // 4].rstrip(".")
            line = self._line(level, text + "...", about)
        return line

    def _line(self, level: str, text: str, about: str) -> bytes:
        now_s = time.time()
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_s))}.{int(now_s * 1000) % 1000:03d}Z"
        if self.fmt == "json":
            entry = {"ts": stamp, "level": level, "network": about or self.network, "pid": self.pid,
                     "incarnation": self.incarnation, "text": text}  # fmt: skip
            return json.dumps(entry).encode() + b"\n"
        who = f"{self.network}[{self.pid}/{self.incarnation}]" if self.network else f"{self.role}[{self.pid}]"
        said = f"{about}: {text}" if about else text
        return f"{stamp} {level} {who} {said.translate(_ESCAPES)}\n".encode("utf-8", "backslashreplace")


_logger = _Logger()


def configure(*, fmt: str, verbosity: int, network: str = "", incarnation: int = 0, role: str = "supervisor") -> None:
    """Says who speaks from now on; `role` counts for a process of no network. Call it again after a fork: the pid and
    the descriptor are the child's own."""
    global _logger
    before, _logger = _logger, _Logger()
    if before.sink is not None:
        before.sink.close()
    _logger.fmt, _logger.verbosity = fmt, verbosity
    _logger.network, _logger.incarnation, _logger.role = network, incarnation, role


def for_network(network: str, incarnation: int) -> None:
    """In a worker, right after the fork: the same format and verbosity, its own name, pid and descriptor."""
    configure(fmt=_logger.fmt, verbosity=_logger.verbosity, network=network or "_", incarnation=incarnation)


def error(text: str, about: str = "") -> None:
    """`about`: the network that the supervisor speaks of; a worker speaks of its own."""
    _logger.say("E", text, about)


def warning(text: str, about: str = "") -> None:
    _logger.say("W", text, about)


def info(text: str, about: str = "") -> None:
    _logger.say("I", text, about)


def debug(text: str, about: str = "", *, level: int = 1) -> None:
    """Shown from `-v=level` on."""
    if _logger.verbosity >= level:
        _logger.say("D", text, about)
