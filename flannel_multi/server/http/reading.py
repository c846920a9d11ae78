"""Bytes in, requests out: h11 reads one request, and every bound on it is kept here. No socket, no clock.

An h11 connection lives only while its request comes in. A client that waits in a long poll then costs no parser, and
the state that h11 would keep of our answers is not needed: nothing but whole answers with their length is sent.
"""

from __future__ import annotations

from typing import NamedTuple

import h11

from flannel_multi.server.http.limits import Limits

LONGEST_REASON = 120  # characters of a fault's text that may quote the client


class Fault(Exception):
    """The client broke the rules of HTTP or a bound. It is told so, and the connection ends."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Whole(NamedTuple):
    """A request that is complete. `rest` came after it, and belongs to the next one. `modern`: HTTP/1.1, in which an
    interim answer may be sent."""

    method: str
    path: str
    query: str
    body: bytes
    keep_alive: bool
    modern: bool
    rest: bytes


class RequestReader:
    """Reads one request."""

    __slots__ = ("_body", "_fed", "_http", "_keep_alive", "_limits", "_request", "_welcomed")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._request: h11.Request | None = None
        self._body: bytes | bytearray = b""
        self._fed = 0
        self._keep_alive = True
        self._welcomed = False

    @property
    def in_body(self) -> bool:
        """The head is complete, the body is not."""
        return self._request is not None

    def wants_continue(self) -> bool:
        """The client waits to be told that its body is welcome. True once."""
        if not self.in_body or self._welcomed or self._body:
            return False
        self._welcomed = True
        return self._http.they_are_waiting_for_100_continue

    def feed(self, data: bytes) -> Whole | None:
        """The request, once `data` completes it. Raises Fault; of no use after that, or after a request."""
        try:
            self._http.receive_data(data)
            self._fed += len(data)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Request):
                    self._request = event
                    if not self._check_head(event):
                        return self._whole()  # not asking h11 for the end of nothing saves a tenth of the time
                elif isinstance(event, h11.Data):
                    self._add(bytes(event.data))
                else:  # the end of the message: nothing else can follow
                    return self._whole()
        except h11.RemoteProtocolError as error:
            raise self._fault(error) from None
        except ValueError:  # h11 before 0.16 of a length of 5,000 digits
            raise Fault(400, "bad request: bad Content-Length") from None
        return None

    def _check_head(self, request: h11.Request) -> bool:
        """True when a body follows. Raises Fault."""
        if self._fed > self._limits.head_bytes and self._fed - self._left() > self._limits.head_bytes:
            raise self._long_head(line_ended=len(request.target) < self._limits.head_bytes)
        if not request.http_version.startswith(b"1."):
            raise Fault(505, "HTTP/1.1 is spoken here")
        self._keep_alive = request.http_version >= b"1.1"
        framings = set()
        for name, value in request.headers:
            if name == b"content-length":
                framings.add(name)
                if int(value) > self._limits.body_bytes:
                    raise self._too_large()
            elif name == b"transfer-encoding":
                framings.add(name)
            elif name == b"connection" and b"close" in value.lower():
                self._keep_alive = False
        if len(framings) > 1:  # two lengths: a proxy before us may have believed the other one
            raise Fault(400, "bad request: both Content-Length and Transfer-Encoding")
        return bool(framings)

    def _add(self, data: bytes) -> None:
        if len(self._body) + len(data) > self._limits.body_bytes:
            raise self._too_large()
        if not self._body:
            self._body = data
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data

    def _too_large(self) -> Fault:
        return Fault(413, f"the body has more than {self._limits.body_bytes} bytes")

    def _whole(self) -> Whole:
        request = self._request
        assert request is not None  # h11 gives a head first
        target = request.target.decode("ascii")  # h11 lets visible ASCII pass alone
        if target[:7].lower() == "http://" or target[:8].lower() == "https://":  # as a proxy is asked
            target = "/" + target.split("://", 1)[1].partition("/")[2]
        path, _, query = target.partition("?")
        return Whole(
            request.method.decode("ascii"), path, query, bytes(self._body), self._keep_alive,
            request.http_version >= b"1.1", self._http.trailing_data[0],
        )  # fmt: skip

    def _left(self) -> int:
        return len(self._http.trailing_data[0])

    def _long_head(self, *, line_ended: bool) -> Fault:
        if line_ended:
            return Fault(431, f"the head of the request has more than {self._limits.head_bytes} bytes")
        return Fault(414, f"the request line has more than {self._limits.head_bytes} bytes")

    def _fault(self, error: h11.RemoteProtocolError) -> Fault:
        status = error.error_status_hint
        if status == 431 and not self.in_body:
            return self._long_head(line_ended=b"\n" in self._http.trailing_data[0])
        text = str(error)[:LONGEST_REASON].encode("ascii", "backslashreplace").decode()
        return Fault(501 if status == 501 else 400, f"bad request: {text}")
