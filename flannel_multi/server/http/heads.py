"""Answers as bytes. Composed by hand, since a head of ours has five lines at most, always the same ones."""

from __future__ import annotations

import time
from functools import lru_cache
from http import HTTPStatus

from flannel_multi.server.exchange import TEXT, Response

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"  # RFC 2518 §10.1: passed over by every client, as all 1xx are
NOT_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"  # spec §6.9
INTERNAL_ERROR = Response(500, b"internal error", TEXT)

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def text_answer(status: int, text: str) -> Response:
    """Plain text, without an end of line (spec §6.1)."""
    return Response(status, text.encode(), TEXT)


def head(answer: Response, now_s: float, *, close: bool) -> bytes:
    """Status line and header of `answer`. `now_s` since the epoch. Raises ValueError when a header would break out."""
    lines = [f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, 'Unknown')}"]
    if answer.content_type:
        lines.append(f"Content-Type: {answer.content_type}")
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if close:
        lines.append("Connection: close")
    lines.append(f"Date: {http_date(int(now_s))}")
    lines.append(f"Content-Length: {len(answer.body)}\r\n\r\n")
    text = "\r\n".join(lines)
    if answer.headers and any(mark in name + value for name, value in answer.headers for mark in "\r\n\0"):
        raise ValueError("a header of an answer holds a line break")
    return text.encode("latin-1")


@lru_cache(maxsize=2)
def http_date(now_s: int) -> str:
    """RFC 9110 §5.6.7, whatever the locale."""
    at = time.gmtime(now_s)
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    return f"{day}, {at.tm_mday:02d} {month} {at.tm_year} {at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT"
