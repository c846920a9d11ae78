"""Certificates for tests, made with the `openssl` program: a CA, a server's, a client's, and another CA."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import NamedTuple

_DAYS = "2"


class Certificates(NamedTuple):
    """Paths of PEM files. `client_*` and `nameless_*` (a client without common name) are signed by `ca`; `other_ca`
    has signed nothing here."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    nameless_cert: Path
    nameless_key: Path
    other_ca: Path


def make_certificates(
    folder: Path, *, addresses: tuple[str, ...] = ("127.0.0.1",), server_is_client_too: bool = True
) -> Certificates:
    """A fresh set in `folder`. etcd's JSON gateway uses the server's certificate as a client when client certificates
    are asked for: without `server_is_client_too` it lacks the clientAuth usage and the gateway answers 503."""
    folder.mkdir(parents=True, exist_ok=True)
    for ca in ("ca", "other-ca"):
        _openssl("req", "-x509", *_key(folder, ca), "-days", _DAYS, "-subj", f"/CN={ca}", "-out", folder / f"{ca}.pem",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    names = ",".join(["DNS:localhost", *(f"IP:{address}" for address in addresses)])
    usage = "serverAuth,clientAuth" if server_is_client_too else "serverAuth"
    _sign(folder, "server", f"subjectAltName={names}\nextendedKeyUsage={usage}\n")
    _sign(folder, "client", "extendedKeyUsage=clientAuth\n")
    _sign(folder, "nameless", "extendedKeyUsage=clientAuth\n", subject="/")
    return Certificates(
        folder / "ca.pem", folder / "server.pem", folder / "server.key",
        folder / "client.pem", folder / "client.key",
        folder / "nameless.pem", folder / "nameless.key", folder / "other-ca.pem",
    )  # fmt: skip


class KeyPair(NamedTuple):
    """Paths of PEM files."""

    cert: Path
    key: Path


def make_server(
    folder: Path, name: str, *, names: tuple[str, ...] = ("localhost",), addresses: tuple[str, ...] = ("127.0.0.1",),
    ca: str = "ca", valid_days: tuple[float, float] = (-1, 2),
) -> KeyPair:  # fmt: skip
    """One more server's certificate, signed by `ca` (or `other-ca`) of `make_certificates` in the same folder. It is
    valid from and until `valid_days` from now."""
    return _sign_for(folder, name, f"/CN={name}", names, addresses, "serverAuth", ca, valid_days)


def make_client(
    folder: Path, name: str, *, common_name: str = "", names: tuple[str, ...] = (), addresses: tuple[str, ...] = (),
    ca: str = "ca", valid_days: tuple[float, float] = (-1, 2),
) -> KeyPair:  # fmt: skip
    """One more client's, as `make_server`. `common_name` "" is `name`."""
    subject = f"/CN={common_name or name}"
    return _sign_for(folder, name, subject, names, addresses, "clientAuth", ca, valid_days)


def _sign_for(
    folder: Path, name: str, subject: str, names: tuple[str, ...], addresses: tuple[str, ...], usage: str, ca: str,
    valid_days: tuple[float, float],
) -> KeyPair:  # fmt: skip
    """`openssl x509` of 3.0 knows no dates, `openssl ca` does, and wants a database for it."""
    home = folder / f"{name}.issue"
    home.mkdir()
    (home / "index").touch()
    (home / "serial").write_text(f"{time.time_ns():016x}\n")
    alternatives = ",".join([*(f"DNS:{one}" for one in names), *(f"IP:{one}" for one in addresses)])
    (home / "ca.conf").write_text(
        f"[ca]\ndefault_ca=this\n[this]\ndatabase={home}/index\nserial={home}/serial\nnew_certs_dir={home}\n"
        "default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=optional\n[ext]\n"
        f"extendedKeyUsage={usage}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        + (f"subjectAltName={alternatives}\n" if alternatives else "")
    )
    _openssl("req", *_key(folder, name), "-subj", subject, "-out", home / "request")
    since, until = (time.strftime("%y%m%d%H%M%SZ", time.gmtime(time.time() + days * 86400)) for days in valid_days)
    _openssl(
        "ca", "-batch", "-notext", "-config", home / "ca.conf", "-cert", folder / f"{ca}.pem",
        "-keyfile", folder / f"{ca}.key", "-in", home / "request", "-out", folder / f"{name}.pem", "-extensions", "ext",
        "-startdate", since, "-enddate", until,
    )  # fmt: skip
    return KeyPair(folder / f"{name}.pem", folder / f"{name}.key")


def make_jwt_keys(folder: Path) -> tuple[Path, Path]:
    """(private, public) RSA keys in PEM, for etcd's `--auth-token=jwt`."""
    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / "jwt.key", folder / "jwt.pub"
    _openssl("genrsa", "-traditional", "-out", private, "2048")
    _openssl("rsa", "-in", private, "-pubout", "-out", public)
    return private, public


def _sign(folder: Path, name: str, extensions: str, *, subject: str = "") -> None:
    identifiers = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"  # without them a strict reader refuses
    (folder / f"{name}.ext").write_text(extensions + identifiers)
    request = folder / f"{name}.csr"
    _openssl("req", *_key(folder, name), "-subj", subject or f"/CN={name}", "-out", request)
    _openssl(
        "x509", "-req", "-in", request, "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial",
        "-days", _DAYS, "-extfile", folder / f"{name}.ext", "-out", folder / f"{name}.pem",
    )  # fmt: skip


def _key(folder: Path, name: str) -> tuple[str | Path, ...]:
    return (
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", folder / f"{name}.key",
    )  # fmt: skip


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"openssl {arguments[0]} failed: {done.stderr}")
