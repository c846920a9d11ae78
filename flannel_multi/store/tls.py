"""The TLS side of a store: a context from the operator's files, and TLS failures in words."""

from __future__ import annotations

import ssl
from pathlib import Path

from flannel_multi.model.errors import StoreRefused

_CLIENT_CERT = (
    "it wants a client certificate that its CA has signed; set --etcd-certfile and --etcd-keyfile "
    "(the CA is etcd's --trusted-ca-file)"
)
_REASONS = (
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS there; write http:// or give its TLS port"),
    ("CERTIFICATE_REQUIRED", _CLIENT_CERT),
    ("BAD_CERTIFICATE", _CLIENT_CERT),  # Go before 1.21 says this when there is none, too
    ("UNKNOWN_CA", "it does not know the CA of our client certificate; see etcd's --trusted-ca-file"),
    ("CERTIFICATE_EXPIRED", "our client certificate has expired"),
    ("UNSUPPORTED_CERTIFICATE", "our client certificate is not made for clients (extendedKeyUsage clientAuth)"),
    ("HANDSHAKE_FAILURE", "no common TLS settings, or it wants a client certificate"),
)


class TlsFiles:
    """A TLS context made from files when first asked for, and again when a file has changed (renewed certificates)."""

    def __init__(self, *, cafile: str, certfile: str, keyfile: str) -> None:
        self._cafile, self._certfile, self._keyfile = cafile, certfile, keyfile
        self._stamp: tuple[int, ...] = ()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, the server's name checked. Raises StoreRefused, naming the file that does not serve."""
        stamp = tuple(_changed_ns(path) for path in (self._cafile, self._certfile, self._keyfile) if path)
        if self._context is None or stamp != self._stamp:
            self._context = self._make()
            self._stamp = stamp
        return self._context

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._cafile:
            try:
                context.load_verify_locations(self._cafile)
            except (OSError, ValueError) as error:
                raise StoreRefused(f"--etcd-cafile {self._cafile}: {_file_fault(error)}") from None
        else:
            context.load_default_certs()
        if self._certfile:
            try:
                context.load_cert_chain(self._certfile, self._keyfile, password=_no_passphrase)
            except (OSError, ValueError) as error:
                files = f"--etcd-certfile {self._certfile}, --etcd-keyfile {self._keyfile}"
                raise StoreRefused(f"{files}: {_file_fault(error)}") from None
        return context


def explain_tls(error: ssl.SSLError) -> str:
    """One line on a failed TLS handshake: what happened and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = error.verify_message or error.reason
        return f"its TLS certificate is not accepted: {what}; see --etcd-cafile, and the names in the certificate"
    reason = (error.reason or "").upper()
    for mark, text in _REASONS:
        if mark in reason:
            return f"TLS failed: {text}"
    return f"TLS failed: {error.reason or type(error).__name__}"


def _no_passphrase() -> str:
    raise ValueError("the key is encrypted: a daemon cannot ask for its passphrase")


def _file_fault(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key does not belong to the certificate"
        return f"no valid PEM ({error.reason or 'unreadable'})"
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    return str(error)


def _changed_ns(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
