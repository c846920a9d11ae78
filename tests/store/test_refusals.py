"""etcd that answers no: each gets one line that names the endpoint, what happened, and what to do."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from flannel_multi.model.errors import FlannelError, StoreRefused, StoreUnavailable
from flannel_multi.store.etcd.store import EtcdStore
from flannel_multi.store.protocol import Revision
from tests.lab.etcd import Etcd
from tests.lab.tls import make_certificates
from tests.store.rig import CONFIG, PREFIX, attrs, config, key, opened, options, run, value, watched

SECRET = "pw2"


async def _every_call_says(store: EtcdStore, etcd: Etcd, pattern: str) -> str:
    """Asks by snapshot, acquire and watch; each is refused with one line that names the endpoint."""
    lines = []
    with pytest.raises(StoreRefused) as caught:
        await store.snapshot("blue")
    lines.append(caught.value.message)
    with pytest.raises(StoreRefused) as caught:
        await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
    lines.append(caught.value.message)
    async with watched(store, "blue", Revision("1", 1)) as watch:
        error = await watch.end()
        assert isinstance(error, StoreRefused), error
        lines.append(error.message)
    for line in lines:
        assert re.search(pattern, line), line
        assert etcd.url in line
        assert "\n" not in line
        assert SECRET not in line
    return lines[0]


def test_a_config_file_without_the_gateway_is_diagnosed_with_its_fix() -> None:
    async def story(etcd: Etcd) -> None:
        async with opened(etcd) as store:
            await _every_call_says(store, etcd, "enable-grpc-gateway: true")

    with Etcd(gateway=False) as etcd:
        run(story(etcd))


def test_a_server_certificate_without_client_usage_is_diagnosed_with_its_fix(tmp_path: Path) -> None:
    tls = make_certificates(tmp_path, server_is_client_too=False)

    async def story(etcd: Etcd) -> None:
        files = {"cafile": str(tls.ca), "certfile": str(tls.client_cert), "keyfile": str(tls.client_key)}
        async with opened(etcd, **files) as store:
            await _every_call_says(store, etcd, "clientAuth extended key usage")

    with Etcd(tls=tls, client_certs=True) as etcd:
        run(story(etcd))


def test_tls_with_client_certificates_works_and_each_mistake_is_named(tmp_path: Path) -> None:
    tls = make_certificates(tmp_path)
    ca, cert, client_key = str(tls.ca), str(tls.client_cert), str(tls.client_key)

    async def fails(etcd: Etcd, pattern: str, **more: object) -> None:
        async with opened(etcd, **more) as store:
            with pytest.raises((StoreRefused, StoreUnavailable), match=pattern):
                await store.snapshot("blue")

    async def story(etcd: Etcd) -> None:
        async with opened(etcd, cafile=ca, certfile=cert, keyfile=client_key) as store:
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
            start = await store.snapshot("blue")
            async with watched(store, "blue", start.revision) as watch:
                await asyncio.to_thread(etcd.put, key("blue", "10.1.250.0/24"), value("192.0.2.5"))
                await watch.until(lambda: watch.subnets() == {"10.1.250.0/24"})
            assert await store.renew("blue", lease) == lease
        await fails(etcd, "set --etcd-certfile and --etcd-keyfile", cafile=ca)
        await fails(
            etcd, "certificate is not accepted.*--etcd-cafile",
            cafile=str(tls.other_ca), certfile=cert, keyfile=client_key,
        )  # fmt: skip
        await fails(etcd, r"--etcd-cafile .*nowhere: No such file", cafile=str(tmp_path / "nowhere"))
        await fails(etcd, "--etcd-certfile .* does not belong", cafile=ca, certfile=cert, keyfile=str(tls.server_key))
        await fails(etcd, "--etcd-cafile .*no valid PEM", cafile=str(tmp_path / "client.ext"))
        plain = etcd.url.replace("https", "http")
        await fails(etcd, "https://", endpoints=(plain,))

    with Etcd(tls=tls, client_certs=True) as etcd:
        run(story(etcd))


def test_a_client_certificate_with_a_common_name_is_named_when_authentication_is_on(tmp_path: Path) -> None:
    tls = make_certificates(tmp_path)
    login = {"username": "fl", "password": SECRET, "cafile": str(tls.ca)}

    async def story(etcd: Etcd) -> None:
        etcd.enable_auth()
        async with opened(etcd, certfile=str(tls.client_cert), keyfile=str(tls.client_key), **login) as store:
            await _every_call_says(store, etcd, "use a client certificate without a common name")
        async with opened(etcd, certfile=str(tls.nameless_cert), keyfile=str(tls.nameless_key), **login) as store:
            assert await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
        bare = {"certfile": str(tls.nameless_cert), "keyfile": str(tls.nameless_key), "cafile": str(tls.ca)}
        async with opened(etcd, **bare) as store:
            await _every_call_says(store, etcd, "set --etcd-username")

    with Etcd(tls=tls, client_certs=True) as etcd:
        run(story(etcd))


def test_tls_to_a_plain_port_is_named(etcd: Etcd) -> None:
    async def story() -> None:
        async with opened(etcd, endpoints=(etcd.url.replace("http", "https"),)) as store:
            with pytest.raises((StoreRefused, StoreUnavailable), match=r"does not speak TLS there.* write http://"):
                await store.snapshot("blue")

    run(story())


def test_renewed_certificates_are_read_without_a_restart(tmp_path: Path) -> None:
    first = make_certificates(tmp_path / "first")
    files = tmp_path / "ca.pem"
    files.write_bytes(first.other_ca.read_bytes())

    async def story(etcd: Etcd) -> None:
        async with opened(etcd, cafile=str(files)) as store:
            with pytest.raises(StoreRefused):
                await store.snapshot("blue")
            files.write_bytes(first.ca.read_bytes())
            assert (await store.snapshot("blue")).config is None

    with Etcd(tls=first) as etcd:
        run(story(etcd))


def test_password_authentication_outlives_expiring_tokens_and_a_changed_auth_store() -> None:
    async def story(etcd: Etcd) -> None:
        login = {"username": "fl", "password": SECRET}
        async with opened(etcd, **login) as store:
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)  # no authentication yet
            etcd.enable_auth()
            assert await store.renew("blue", lease) == lease
            start = await store.snapshot("blue")
            async with watched(store, "blue", start.revision) as watch:
                await asyncio.sleep(2.5)  # the token has a life of two seconds
                assert await store.renew("blue", lease) == lease
                etcd.ctl("user", "add", "somebody:else")  # every token is of an old revision now
                assert await store.renew("blue", lease) == lease
                await asyncio.to_thread(etcd.put, key("blue", "10.1.250.0/24"), value("192.0.2.5"))
                await watch.until(lambda: watch.subnets() == {"10.1.250.0/24"})
            await asyncio.sleep(2.5)
            async with watched(store, "blue", start.revision) as watch:  # a watch is the first to need a new token
                await watch.until(lambda: watch.subnets() == {"10.1.250.0/24"})

    with Etcd(jwt_ttl_s=2) as etcd:
        run(story(etcd))


def test_tokens_lost_with_a_restart_of_etcd_are_asked_for_again() -> None:
    async def story(etcd: Etcd) -> None:
        etcd.enable_auth()
        async with opened(etcd, username="fl", password=SECRET) as store:
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
            etcd.restart()
            assert await store.renew("blue", lease) == lease

    with Etcd() as etcd:
        run(story(etcd))


def test_wrong_credentials_and_missing_permissions_are_named_without_the_password() -> None:
    async def story(etcd: Etcd) -> None:
        etcd.enable_auth()
        async with opened(etcd, username="fl", password=SECRET + "x") as store:
            line = await _every_call_says(store, etcd, "user 'fl': etcd does not accept the user name or password")
            assert "--etcd-password-file" in line
        async with opened(etcd) as store:
            await _every_call_says(store, etcd, "has authentication on: set --etcd-username")
        async with opened(etcd, username="fl", password=SECRET, prefix="/other") as store:
            line = await _every_call_says(store, etcd, r"user 'fl' may not use /other/blue/")
            assert "role grant-permission" in line

    with Etcd() as etcd:
        run(story(etcd))


def test_no_secret_stands_in_a_store_s_repr(etcd: Etcd) -> None:
    given = options(etcd, username="fl", password="hidden-word")
    assert "hidden-word" not in repr(given) + repr(EtcdStore(given)) + str(vars(EtcdStore(given)))


def test_a_store_without_space_is_named_and_still_read_and_renewed() -> None:
    async def story(etcd: Etcd) -> None:
        etcd.put(f"{PREFIX}/blue/config", CONFIG)
        async with opened(etcd) as store:
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
            with pytest.raises(AssertionError, match="space exceeded"):
                etcd.put_each((f"/big{number}", b"x" * 400_000) for number in range(20))
            with pytest.raises(StoreRefused, match=r"NOSPACE.*compact.*defrag.*alarm disarm"):
                await store.acquire("blue", config(), attrs("192.0.2.2"), prefer=None)
            assert (await store.snapshot("blue")).config == CONFIG
            assert await store.renew("blue", lease) == lease

    with Etcd(quota_bytes=2_000_000) as etcd:
        run(story(etcd))


def test_an_endpoint_that_is_not_etcd_is_named() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>")
        writer.close()

    async def story(etcd: Etcd) -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, opened(etcd, endpoints=(f"http://127.0.0.1:{port}",)) as store:
            with pytest.raises(StoreRefused, match="not etcd's JSON: is this the client port"):
                await store.snapshot("blue")

    etcd = Etcd()
    try:
        run(story(etcd))
    finally:
        etcd.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:port", "ftp://x", "http://[::1", "http://a..b:2379"])
def test_an_endpoint_that_cannot_be_reached_at_all_is_an_error_in_words(etcd: Etcd, url: str) -> None:
    async def story() -> None:
        async with opened(etcd, endpoints=(url,)) as store:
            with pytest.raises(FlannelError) as caught:
                await store.snapshot("blue")
            assert isinstance(caught.value, StoreRefused | StoreUnavailable)
            assert "\n" not in caught.value.message

    run(story())


def test_the_next_endpoint_is_asked_when_the_first_is_not_there(etcd: Etcd) -> None:
    async def story() -> None:
        async with opened(etcd, endpoints=("http://127.0.0.1:1", "http://localhost:1", etcd.url)) as store:
            assert (await store.snapshot("nobody")).config is None

    run(story())
