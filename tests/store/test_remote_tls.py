"""TLS to a flanneld server: it works, certificates are renewed under way, and each mistake is named with its cure."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flannel_multi.model.errors import StoreRefused, StoreUnavailable
from flannel_multi.options import TlsOptions
from tests.lab.server import Server
from tests.lab.tls import Certificates, make_certificates
from tests.store.remote_rig import admin, opened_remote
from tests.store.rig import CONFIG, attrs, config, run, watched


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "pem")


def _served(folder: Path, tls: Certificates, *, mutual: bool) -> Server:
    flags = [f"--remote-certfile={tls.server_cert}", f"--remote-keyfile={tls.server_key}", *admin(folder)]
    if mutual:
        flags.append(f"--remote-cafile={tls.ca}")
    return Server(f"sqlite://{folder}/store.db", folder, flags=flags)


@pytest.fixture
def open_server(tmp_path: Path, certificates: Certificates) -> Iterator[Server]:
    """TLS, and no client certificate asked for."""
    with _served(tmp_path, certificates, mutual=False) as server:
        yield server


@pytest.fixture
def mutual_server(tmp_path: Path, certificates: Certificates) -> Iterator[Server]:
    with _served(tmp_path, certificates, mutual=True) as server:
        yield server


def _https(server: Server) -> str:
    return f"https://{server.address}"


async def _says(url: str, tls: TlsOptions, pattern: str) -> None:
    async with opened_remote(url, tls=tls) as store:
        with pytest.raises((StoreRefused, StoreUnavailable), match=pattern) as caught:
            await store.snapshot("blue")
        assert "--etcd" not in caught.value.message
        assert url in caught.value.message
        assert "\n" not in caught.value.message


def test_a_server_certificate_is_checked_and_all_works_over_it(open_server: Server, certificates: Certificates) -> None:
    async def story() -> None:
        async with opened_remote(_https(open_server), tls=TlsOptions(cafile=str(certificates.ca))) as store:
            await store.write_config("blue", CONFIG)
            lease = await store.acquire("blue", config(), attrs("192.0.2.1"), prefer=None)
            start = await store.snapshot("blue")
            async with watched(store, "blue", start.revision) as watch:
                await store.put_lease("blue", lease.record.subnet, attrs("192.0.2.1", vni=3))
                await watch.until(lambda: bool(watch.changes))

    run(story())


def test_client_certificates_are_shown(mutual_server: Server, certificates: Certificates) -> None:
    tls = TlsOptions(str(certificates.ca), str(certificates.client_cert), str(certificates.client_key))

    async def story() -> None:
        async with opened_remote(_https(mutual_server), tls=tls) as store:
            with pytest.raises(StoreRefused, match="client may not change the config"):  # it is known by its name
                await store.write_config("blue", CONFIG)

    run(story())


def test_each_mistake_is_named_with_its_cure(open_server: Server, certificates: Certificates, tmp_path: Path) -> None:
    async def story() -> None:
        await _says(_https(open_server), TlsOptions(cafile=str(certificates.other_ca)), "not accepted.*--remote-cafile")
        await _says(open_server.url, TlsOptions(), "set --remote-cafile")
        lost = tmp_path / "nowhere"
        async with opened_remote(_https(open_server), tls=TlsOptions(cafile=str(lost))) as store:
            with pytest.raises(StoreRefused, match=f"--remote-cafile {lost}: No such file"):
                await store.snapshot("blue")

    run(story())


@pytest.mark.parametrize("mutual", [False, True])
def test_a_certificate_for_another_name_is_named_with_both(tmp_path: Path, mutual: bool) -> None:
    tls = make_certificates(tmp_path / "pem", addresses=("10.0.0.3",))
    files = TlsOptions(str(tls.ca), *((str(tls.client_cert), str(tls.client_key)) if mutual else ()))

    async def story(server: Server) -> None:
        pattern = r"server certificate is for localhost, 10\.0\.0\.3, not 127\.0\.0\.1; use one of its names"
        await _says(_https(server), files, pattern)

    with _served(tmp_path, tls, mutual=mutual) as server:
        run(story(server))


def test_what_a_server_thinks_of_client_certificates_is_named(
    mutual_server: Server, certificates: Certificates, tmp_path: Path
) -> None:
    stranger = make_certificates(tmp_path / "stranger")
    ca = str(certificates.ca)

    async def story() -> None:
        await _says(_https(mutual_server), TlsOptions(cafile=ca), "set --remote-certfile and --remote-keyfile")
        foreign = TlsOptions(ca, str(stranger.client_cert), str(stranger.client_key))
        await _says(_https(mutual_server), foreign, "does not know the CA of our client certificate|TLS failed")

    run(story())


def test_an_expired_server_certificate_is_named(tmp_path: Path, certificates: Certificates) -> None:
    folder = certificates.ca.parent
    expired = tmp_path / "expired.pem"
    command = (
        f"openssl x509 -req -in {folder}/server.csr -CA {folder}/ca.pem -CAkey {folder}/ca.key -CAcreateserial "
        f"-days -1 -extfile {folder}/server.ext -out {expired}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)

    async def story(server: Server) -> None:
        await _says(_https(server), TlsOptions(cafile=str(certificates.ca)), "certificate has expired")

    with _served(tmp_path, certificates._replace(server_cert=expired), mutual=False) as server:
        run(story(server))


def test_tls_to_a_plain_server_is_named(tmp_path: Path, certificates: Certificates) -> None:
    async def story(server: Server) -> None:
        pattern = r"does not speak TLS there.*leave out --remote-cafile"
        await _says(_https(server), TlsOptions(cafile=str(certificates.ca)), pattern)

    with Server(f"sqlite://{tmp_path}/store.db", tmp_path) as server:
        run(story(server))


def test_renewed_files_are_read_under_a_watch(
    mutual_server: Server, certificates: Certificates, tmp_path: Path
) -> None:
    files = {name: tmp_path / name for name in ("ca.pem", "client.pem", "client.key")}
    shutil.copy(certificates.other_ca, files["ca.pem"])
    shutil.copy(certificates.client_cert, files["client.pem"])
    shutil.copy(certificates.client_key, files["client.key"])
    tls = TlsOptions(*map(str, files.values()))

    async def story() -> None:
        async with opened_remote(_https(mutual_server), tls=tls) as store:
            with pytest.raises(StoreRefused, match="--remote-cafile"):
                await store.snapshot("blue")
            shutil.copy(certificates.ca, files["ca.pem"])
            start = await store.snapshot("blue")
            async with watched(store, "blue", start.revision) as watch:
                await asyncio.sleep(0.1)
                files["client.pem"].write_text("half written")
                await store.snapshot("blue")  # on the connection that stands
                shutil.copy(certificates.client_cert, files["client.pem"])
                assert watch.ended is None

    run(story())
