"""The TLS side of a store: a context from the operator's files, and TLS failures in words."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, NamedTuple

from flannel_multi.model.errors import StoreRefused


class Words(NamedTuple):
    """What the operator calls the settings of one kind of store. `client_ca`: where the server says which clients'
    CA it trusts; `plain` and `secure`: how to make us speak without and with TLS."""

    cafile: str
    certfile: str
    keyfile: str
    client_ca: str
    plain: str
    secure: str


ETCD = Words(
    "--etcd-cafile", "--etcd-certfile", "--etcd-keyfile", "etcd's --trusted-ca-file", "write http://", "write https://"
)
REMOTE = Words(
    "--remote-cafile",
    "--remote-certfile",
    "--remote-keyfile",
    "the server's --remote-cafile",
    "leave out --remote-cafile, --remote-certfile and --remote-keyfile",
    "set --remote-cafile",
)
_CLIENT_CERT = (
    "it wants a client certificate that its CA has signed; set {certfile} and {keyfile} (the CA is {client_ca})"
)
_REASONS = (
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS there; {plain} or give its TLS port"),
    ("CERTIFICATE_REQUIRED", _CLIENT_CERT),
    ("BAD_CERTIFICATE", _CLIENT_CERT),  # Go before 1.21 says this when there is none, too
    ("UNKNOWN_CA", "it does not know the CA of our client certificate; see {client_ca}"),
    ("CERTIFICATE_EXPIRED", "our client certificate has expired"),
    ("UNSUPPORTED_CERTIFICATE", "our client certificate is not made for clients (extendedKeyUsage clientAuth)"),
    ("HANDSHAKE_FAILURE", "no common TLS settings, or it wants a client certificate"),
)
_WRONG_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_MOST_NAMES = 4


class TlsFiles:
    """A TLS context made from files when first asked for, and again when a file has changed (renewed certificates)."""

    def __init__(self, *, cafile: str, certfile: str, keyfile: str, words: Words = ETCD) -> None:
        self._cafile, self._certfile, self._keyfile = cafile, certfile, keyfile
        self._stamp: tuple[tuple[int, ...], ...] = ()
        self._context: ssl.SSLContext | None = None
        self.words = words

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, the server's name checked. Raises StoreRefused, naming the file that does not serve."""
        stamp = tuple(_stamp_of(path) for path in (self._cafile, self._certfile, self._keyfile) if path)
        if self._context is None or stamp != self._stamp:
            self._context = self._make()
            self._stamp = stamp
        return self._context

    def nameless_context(self) -> ssl.SSLContext:
        """As `context`, but for whichever name: to read a certificate's own names for an error, and for no request.
        Raises StoreRefused."""
        context = self._make()
        context.check_hostname = False
        return context

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._cafile:
            try:
                context.load_verify_locations(self._cafile)
            except (OSError, ValueError) as error:
                raise StoreRefused(f"{self.words.cafile} {self._cafile}: {file_fault(error)}") from None
        else:
            context.load_default_certs()
        if self._certfile:
            try:
                context.load_cert_chain(self._certfile, self._keyfile, password=no_passphrase)
            except (OSError, ValueError) as error:
                files = f"{self.words.certfile} {self._certfile}, {self.words.keyfile} {self._keyfile}"
                raise StoreRefused(f"{files}: {file_fault(error)}") from None
        return context


def explain_tls(error: ssl.SSLError, words: Words = ETCD) -> str:
    """One line on a failed TLS handshake: what happened and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = error.verify_message or error.reason
        return f"its TLS certificate is not accepted: {what}; see {words.cafile}, and the names in the certificate"
    reason = (error.reason or "").upper()
    for mark, text in _REASONS:
        if mark in reason:
            return f"TLS failed: {text.format_map(words._asdict())}"
    return f"TLS failed: {error.reason or type(error).__name__}"


def is_wrong_name(error: BaseException) -> bool:
    """True when the server's certificate is sound but for another name than the one asked for."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _WRONG_NAME


def explain_name(certificate: dict[str, Any] | None, asked: str) -> str:
    """What certificate (as `getpeercert` tells it) the server has, that is not for `asked`; "" when it names nobody."""
    if not certificate:
        return ""
    names = [str(name) for kind, name in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    if not names:
        return f"server certificate has no alternative name, so it is not for {asked}; issue it with subjectAltName"
    shown = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES))
    return f"server certificate is for {shown}, not {asked}; use one of its names, or issue it for this one"


def no_passphrase() -> str:
    """What OpenSSL asks when a key is encrypted. Raises ValueError."""
    raise ValueError("the key is encrypted: a daemon cannot ask for its passphrase")


def file_fault(error: Exception) -> str:
    """What is wrong with a PEM file, in words."""
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key does not belong to the certificate"
        return f"no valid PEM ({error.reason or 'unreadable'})"
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    return str(error)


def _stamp_of(path: str) -> tuple[int, ...]:
    """What differs when the file was rewritten or replaced."""
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ino, found.st_size
