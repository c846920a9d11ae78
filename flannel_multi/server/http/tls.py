"""The server's side of TLS: a context from the operator's files, who a client is, and failures in words."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

from flannel_multi import log
from flannel_multi.model.subnet import parse_ip
from flannel_multi.options.values import TlsOptions
from flannel_multi.server.exchange import Identity
from flannel_multi.store.tls import file_fault, no_passphrase

_REASONS = (
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "it showed no certificate, which --remote-cafile asks of every client"),
    ("ALERT_UNKNOWN_CA", "it does not know the CA of our certificate"),
    ("ALERT_CERTIFICATE_EXPIRED", "it says that our certificate has expired"),
    ("ALERT_BAD_CERTIFICATE", "it does not accept our certificate (is its name in it?)"),
    ("ALERT_CERTIFICATE_UNKNOWN", "it does not accept our certificate"),
    ("UNSUPPORTED_PROTOCOL", "it speaks no TLS that is new enough (1.2)"),
    ("NO_SHARED_CIPHER", "no common TLS settings"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
    ("HTTP_REQUEST", "it does not speak TLS"),
)


class ServerTls:
    """A TLS context made from files, and again when one of them has changed. Connections keep the one they have."""

    def __init__(self, options: TlsOptions) -> None:
        """Raises ValueError, naming the file that does not serve."""
        self._options = options
        self._stamp = self._look()
        self._context = _make(options)

    def context(self) -> ssl.SSLContext:
        """The newest that could be made. Files that do not serve leave the old one, and one line in the log."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = _make(self._options)
            except ValueError as error:
                log.error(f"{error}; the certificate of before stays in use until the files change again")
            else:
                log.info("TLS files have changed: new connections use them")
        return self._context

    def _look(self) -> tuple[tuple[int, ...], ...]:
        options = self._options
        return tuple(_stamp(path) for path in (options.cafile, options.certfile, options.keyfile) if path)


def server_tls(options: TlsOptions) -> ServerTls | None:
    """None: plain HTTP, also when there is nothing but a CA (spec §6.9). Raises ValueError."""
    if not (options.certfile or options.keyfile):
        return None
    if not (options.certfile and options.keyfile):
        given, other = ("--remote-certfile", "--remote-keyfile")[:: 1 if options.certfile else -1]
        raise ValueError(f"{given} {options.certfile or options.keyfile}: a server needs {other} too")
    return ServerTls(options)


def identity_of(certificate: Mapping[str, Any]) -> Identity:
    """Who a verified certificate (as `SSLSocket.getpeercert` gives it) names."""
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    addresses = set()
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "DNS":
            names.append(value)
        elif kind == "IP Address":
            try:
                addresses.add(parse_ip(value))
            except ValueError:  # IPv6: no lease names one
                continue
    return Identity(tuple(dict.fromkeys(names)), frozenset(addresses))


def explain_handshake(error: Exception) -> str:
    """Why a client's handshake failed, in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message or error.reason}; see --remote-cafile"
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) or not isinstance(error, ssl.SSLError):
        return "it closed the connection in the middle of it"
    reason = (error.reason or "").upper()
    for mark, text in _REASONS:
        if mark in reason:
            return text
    return reason.lower().replace("_", " ") or type(error).__name__


def _make(options: TlsOptions) -> ssl.SSLContext:
    """TLS 1.2 or newer. Every client is looked at anew: no tickets, by which one could come back without its
    certificate being checked, and no renegotiation, which costs us more than a client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(options.certfile, options.keyfile, password=no_passphrase)
    except (OSError, ValueError) as error:
        files = f"--remote-certfile {options.certfile}, --remote-keyfile {options.keyfile}"
        raise ValueError(f"{files}: {file_fault(error)}") from None
    if options.cafile:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(options.cafile)
        except (OSError, ValueError) as error:
            raise ValueError(f"--remote-cafile {options.cafile}: {file_fault(error)}") from None
    return context


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116  three of these for every connection
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
