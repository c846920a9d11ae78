"""TLS: who is let in, who a client is, certificates that change, and what those see who are not let in."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import time
from pathlib import Path

import pytest

from flannel_multi import log
from flannel_multi.model.subnet import parse_ip
from flannel_multi.options.values import TlsOptions
from flannel_multi.server.exchange import Identity, Request, Response
from flannel_multi.server.http.limits import Limits
from flannel_multi.server.http.tls import ServerTls, server_tls
from flannel_multi.store.sockets import connect_tls
from tests.lab.tls import Certificates, KeyPair, make_certificates, make_client, make_server
from tests.server.http.rig import LongPoll, get, run, serving, until


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture(autouse=True)
def talkative(fresh_log: None) -> None:
    log.configure(fmt="text", verbosity=1)


def options(pki: Certificates, *, mutual: bool = False, pair: KeyPair | None = None) -> TlsOptions:
    cert, key = pair or (pki.server_cert, pki.server_key)
    return TlsOptions(cafile=str(pki.ca) if mutual else "", certfile=str(cert), keyfile=str(key))


def caller(ca: Path, pair: KeyPair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    if pair:
        context.load_cert_chain(*pair)
    return context


async def ask_by_tls(port: int, context: ssl.SSLContext) -> bytes:
    """As the workers do: asyncio's own client would keep what it thinks of our certificate to itself."""
    wire = await connect_tls("127.0.0.1", port, context, "localhost")
    try:
        await wire.write(get())
        return await wire.read()
    finally:
        wire.abort()


async def whoami(request: Request) -> Response:
    return Response(200, repr(request.peer.identity).encode())


def test_a_server_with_a_certificate_asks_none_of_its_clients(pki: Certificates) -> None:
    async def story() -> None:
        async with serving(whoami, tls=ServerTls(options(pki))) as served, served.client(caller(pki.ca)) as client:
            assert (await client.get()).body == b"None"
            secure = client.writer.get_extra_info("ssl_object")
            assert secure.version() == "TLSv1.3"

    run(story)


def test_a_client_is_who_its_certificate_says(pki: Certificates, tmp_path: Path) -> None:
    folder = pki.ca.parent
    host = make_client(
        folder, "host1", common_name="host one", names=("h1.example", "h1"), addresses=("10.9.0.7", "fd00::7")
    )

    async def story() -> None:
        async with serving(whoami, tls=ServerTls(options(pki, mutual=True))) as served:
            async with served.client(caller(pki.ca, host)) as client:
                expected = Identity(("host one", "h1.example", "h1"), frozenset([parse_ip("10.9.0.7")]))
                assert (await client.get()).body == repr(expected).encode()
            async with served.client(caller(pki.ca, KeyPair(pki.nameless_cert, pki.nameless_key))) as client:
                assert (await client.get()).body == repr(Identity(())).encode()

    run(story)


CLIENTS = {
    "none": ("", {}, "it showed no certificate"),
    "of another CA": ("stranger", {"ca": "other-ca"}, "certificate is not accepted"),
    "expired": ("late", {"valid_days": (-3, -1)}, "certificate has expired"),
    "not yet valid": ("early", {"valid_days": (1, 3)}, "certificate is not yet valid"),
    "made for servers": ("server", {}, "certificate is not accepted"),
}


@pytest.mark.parametrize(("name", "how", "logged"), CLIENTS.values(), ids=CLIENTS.keys())
def test_a_client_without_a_good_certificate_is_not_let_in(
    name: str, how: dict[str, str], logged: str, pki: Certificates, capfd: pytest.CaptureFixture[str]
) -> None:
    pair = None
    if name == "server":
        pair = make_server(pki.ca.parent, "as-a-client")
    elif name:
        pair = make_client(pki.ca.parent, name, **how)  # type: ignore[arg-type]

    async def story() -> None:
        async with serving(tls=ServerTls(options(pki, mutual=True))) as served:
            with pytest.raises(ssl.SSLError, match=r"(?i)alert"):  # it learns why, and is not just cut off
                await ask_by_tls(served.port, caller(pki.ca, pair))
            good = KeyPair(pki.client_cert, pki.client_key)
            async with served.client(caller(pki.ca, good)) as client:
                assert (await client.get()).status == 200

    run(story)
    said = capfd.readouterr().err
    assert "TLS handshake failed" in said
    assert logged in said


SERVERS = {
    "of another CA": ({"ca": "other-ca"}, "self-signed certificate|unable to get local issuer", "know the CA"),
    "expired": ({"valid_days": (-3, -1)}, "certificate has expired", "certificate has expired"),
    "not yet valid": ({"valid_days": (1, 3)}, "certificate is not yet valid", "does not accept our certificate"),
    "of another name": ({"names": ("db1",), "addresses": ()}, "not valid for 'localhost'", "does not accept our"),
}


@pytest.mark.parametrize(("how", "seen", "logged"), SERVERS.values(), ids=SERVERS.keys())
def test_a_client_that_does_not_like_our_certificate_is_explained_in_the_log(
    how: dict[str, str], seen: str, logged: str, pki: Certificates, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pair = make_server(pki.ca.parent, tmp_path.name, **how)  # type: ignore[arg-type]

    async def story() -> None:
        async with serving(tls=ServerTls(options(pki, pair=pair))) as served:
            with pytest.raises(ssl.SSLCertVerificationError, match=seen):
                await ask_by_tls(served.port, caller(pki.ca))
            await until(lambda: served.server.connections == 0)

    run(story)
    assert logged in capfd.readouterr().err


def test_new_files_are_used_for_new_connections_while_old_ones_live_on(pki: Certificates, tmp_path: Path) -> None:
    second = make_server(pki.ca.parent, "second", names=("second.example",))

    async def story() -> None:
        cert, key = _copied(KeyPair(pki.server_cert, pki.server_key), tmp_path)
        tls = ServerTls(TlsOptions(certfile=str(cert), keyfile=str(key)))
        async with serving(tls=tls) as served, served.client(caller(pki.ca)) as old:
            answered = 0
            swapped = asyncio.Event()

            async def traffic() -> None:
                nonlocal answered
                while not swapped.is_set():
                    assert (await old.get("/")).status == 200
                    context = ssl.create_default_context(cafile=str(pki.ca))
                    context.check_hostname = False
                    async with served.client(context) as new:
                        assert (await new.get("/")).status == 200
                    answered += 1

            busy = asyncio.create_task(traffic())
            await asyncio.sleep(0.1)
            _copied(second, tmp_path)  # key and certificate, one after the other: between them they do not fit
            await asyncio.sleep(0.1)
            swapped.set()
            await busy
            assert answered > 2
            async with served.client(caller(pki.ca), name="second.example") as new:
                assert (await new.get("/")).status == 200
            assert (await old.get("/")).status == 200

    run(story)


def test_broken_new_files_leave_the_old_certificate_and_one_line(
    pki: Certificates, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        cert, key = _copied(KeyPair(pki.server_cert, pki.server_key), tmp_path)
        tls = ServerTls(TlsOptions(certfile=str(cert), keyfile=str(key)))
        async with serving(tls=tls) as served:
            cert.write_text("no PEM")
            for _ in range(3):
                async with served.client(caller(pki.ca)) as client:
                    assert (await client.get("/")).status == 200
            cert.unlink()
            async with served.client(caller(pki.ca)) as client:
                assert (await client.get("/")).status == 200

    run(story)
    said = capfd.readouterr().err
    assert said.count("no valid PEM") == 1
    assert said.count("No such file or directory; the certificate of before stays in use") == 1


def test_plain_http_to_a_tls_port_is_told_so(pki: Certificates) -> None:
    async def story() -> None:
        async with serving(tls=ServerTls(options(pki))) as served, served.client() as client:
            await client.say(get("/v1/_/config"))
            assert await client.ended() == (
                b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
            )

    run(story)


def test_bytes_that_are_neither_end_the_connection(pki: Certificates, capfd: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        async with serving(tls=ServerTls(options(pki))) as served:
            for garbage in (b"\0" * 300, b"\x16\x03\x01\xff\xff" + b"a" * 300, b"\x80\x2e\x01\x00\x02" + b"b" * 60):
                async with served.client() as client:
                    await client.say(garbage)
                    client.writer.write_eof()
                    await client.ended()
            async with served.client(caller(pki.ca)) as client:
                assert (await client.get()).status == 200

    run(story)
    assert capfd.readouterr().err.count("TLS handshake failed") == 3


def test_a_handshake_that_does_not_come_is_cut_and_holds_nobody_up(pki: Certificates) -> None:
    async def story() -> None:
        limits = Limits(handshake_s=0.4)
        async with serving(tls=ServerTls(options(pki)), limits=limits) as served:
            slow = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(300)]
            for sock in slow[:150]:
                sock.send(b"\x16\x03\x01\x02\x00\x01\x00")
            started_s = time.monotonic()
            async with served.client(caller(pki.ca)) as client:
                assert (await client.get()).status == 200
                assert time.monotonic() - started_s < 0.4
                await until(lambda: served.server.connections == 1)
                assert (await client.get()).status == 200
            for sock in slow:
                sock.close()

    run(story)


def test_old_tls_is_refused(pki: Certificates, capfd: pytest.CaptureFixture[str]) -> None:
    context = caller(pki.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

    async def story() -> None:
        async with serving(tls=ServerTls(options(pki))) as served:
            with pytest.raises(ssl.SSLError):
                await ask_by_tls(served.port, context)
            await until(lambda: served.server.connections == 0)

    run(story)
    assert "no TLS that is new enough" in capfd.readouterr().err


def test_large_bodies_go_both_ways_over_tls(pki: Certificates) -> None:
    async def large(request: Request) -> Response:
        return Response(200, request.body * 8)

    async def story() -> None:
        async with serving(large, tls=ServerTls(options(pki))) as served, served.client(caller(pki.ca)) as client:
            body = bytes(range(256)) * 4096
            await client.say(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body + get("/2"))
            await asyncio.sleep(0.2)  # read nothing: the server's writes must wait
            assert (await client.reply()).body == body * 8
            assert (await client.reply()).status == 200

    run(story)


def test_a_tls_client_that_goes_away_cancels_the_handler_and_one_that_waits_does_not(pki: Certificates) -> None:
    async def story() -> None:
        poll = LongPoll()
        async with serving(poll, tls=ServerTls(options(pki))) as served, served.client(caller(pki.ca)) as waiting:
            await waiting.say(get("/wait"))
            for ahead in (b"", get("/more")):
                async with served.client(caller(pki.ca)) as client:
                    await client.say(get("/wait") + ahead)
                    await poll.until(lambda it: it.waiting == 2)
                    if ahead:
                        client.reset()
                await poll.until(lambda it: it.waiting == 1)
            assert poll.cancelled == 2
            await until(lambda: served.server.connections == 1)
            poll.answer.set_result(Response(200, b"late"))
            assert (await waiting.reply()).body == b"late"

    run(story)


def test_a_unix_socket_needs_no_tls(pki: Certificates, tmp_path: Path) -> None:
    async def who(request: Request) -> Response:
        return Response(200, repr(request.peer).encode())

    async def story() -> None:
        async with serving(who, tls=ServerTls(options(pki, mutual=True)), listen=f"unix://{tmp_path}/s.sock"):
            reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/s.sock")
            writer.write(get())
            assert b"local=True" in await asyncio.wait_for(reader.readuntil(b")"), 5.0)
            writer.close()
            await writer.wait_closed()

    run(story)


def test_files_that_do_not_serve_are_named_at_the_start(pki: Certificates, tmp_path: Path) -> None:
    cert, key, ca = str(pki.server_cert), str(pki.server_key), str(pki.ca)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    assert server_tls(TlsOptions()) is None
    assert server_tls(TlsOptions(cafile="/nonexistent")) is None  # as in flannel: nothing to verify
    for faulty, text in (
        (TlsOptions(certfile=cert), f"--remote-certfile {cert}: a server needs --remote-keyfile too"),
        (TlsOptions(keyfile=key), f"--remote-keyfile {key}: a server needs --remote-certfile too"),
        (TlsOptions("", "/nonexistent", key), f"--remote-certfile /nonexistent, --remote-keyfile {key}: No such file"),
        (TlsOptions("", cert, str(pki.client_key)), "the key does not belong to the certificate"),
        (TlsOptions("", cert, cert), "no valid PEM"),
        (TlsOptions("", cert, str(encrypted)), "encrypted.key: "),
        (TlsOptions("/nonexistent", cert, key), "--remote-cafile /nonexistent: No such file"),
        (TlsOptions(key, cert, key), f"--remote-cafile {key}: "),
    ):
        with pytest.raises(ValueError) as caught:
            server_tls(faulty)
        assert text in str(caught.value)
    assert server_tls(TlsOptions(ca, cert, key)) is not None


def _copied(pair: KeyPair, folder: Path) -> KeyPair:
    """Over the old files, in place, the certificate first."""
    return KeyPair(Path(shutil.copy(pair.cert, folder / "s.pem")), Path(shutil.copy(pair.key, folder / "s.key")))
