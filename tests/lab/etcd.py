"""Real etcd processes for tests, the demo and benchmarks.

    with Etcd() as etcd:                                  # one member on 127.0.0.1
        etcd.put("/coreos.com/network/blue/config", b"{}")

Everything a `with` started ends with it: processes, data folders. Nothing is left on the host.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.lab.netns import inside
from tests.lab.tls import Certificates, make_jwt_keys

READY_S = 30.0  # a laptop under load starts a cluster of three in 3 s
STOP_S = 10.0
_PORTS = range(20000, 32000)  # below the ephemeral range: no outgoing connection takes one in between
_BATCH = 100  # operations a transaction; etcd's own limit is 128


class Member:
    """One etcd process and its data folder. Ports and folder stay the same over restarts."""

    def __init__(self, cluster: Etcd, number: int) -> None:
        self.name = f"m{number}"
        self._cluster = cluster
        self.folder = cluster.folder / self.name
        self.data = self.folder / "data"
        self.folder.mkdir()
        self.ports = _free_ports(cluster.netns, cluster.host)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self._cluster.scheme}://{self._cluster.host}:{self.ports[0]}"

    @property
    def peer_url(self) -> str:
        return f"http://{self._cluster.host}:{self.ports[1]}"

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid

    @property
    def log(self) -> str:
        """What this member has written so far."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def launch(self, *, force_new: bool = False) -> None:
        """Starts the process without waiting for it to be ready."""
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        command = [*self._cluster.command(self), *(["--force-new-cluster"] if force_new else [])]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def start(self) -> None:
        """Starts the process and waits until it serves."""
        self.launch()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Until /health says so: then there is a leader, and the client port is open."""
        ends_s = time.monotonic() + timeout_s
        while time.monotonic() < ends_s:
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"etcd {self.name} ended: {self.log[-2000:]}")
            if inside(self._cluster.netns, self._healthy):
                return
            threading.Event().wait(0.02)
        raise AssertionError(f"etcd {self.name} is not ready after {timeout_s:.0f} s: {self.log[-2000:]}")

    def stop(self) -> None:
        """SIGTERM, and waits for the end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and waits for the end."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers, from when this returns (the last thread stops a little
        after the signal)."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stops (if it runs) and starts again on the same data and ports."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(number)
        self.process.send_signal(signal.SIGCONT)  # one that is paused would not end
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection(self._cluster.host, self.ports[2], timeout=2)
        try:
            connection.request("GET", "/health")
            with connection.getresponse() as answer:
                return b"true" in answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Etcd:
    """An etcd of `members` processes, on address `host` (in network namespace `netns` if given).

    `tls`: serve https with these certificates; `client_certs`: and demand a client's. `gateway=False`: started by a
    --config-file that does not switch the JSON gateway on. `jwt_ttl_s`: auth tokens are JWTs of that life.
    `quota_bytes`: --quota-backend-bytes. `extra`: further flags. `folder`: where data goes (default: a temporary one).
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        members: int = 1,
        host: str = "127.0.0.1",
        netns: str = "",
        tls: Certificates | None = None,
        client_certs: bool = False,
        gateway: bool = True,
        jwt_ttl_s: int = 0,
        quota_bytes: int = 0,
        extra: Iterable[str] = (),
        binary: str = "etcd",
    ) -> None:
        self.host, self.netns, self.tls = host, netns, tls
        self._client_certs = client_certs
        self._gateway = gateway
        self._quota_bytes = quota_bytes
        self._extra = tuple(extra)
        self._binary = binary
        self._token_cluster = f"lab-{os.getpid()}-{random.randrange(1 << 32):08x}"
        self._credentials: tuple[str, str] | None = None
        self._token = ""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="etcd-", dir=folder))
        self._jwt = make_jwt_keys(self.folder / "jwt") if jwt_ttl_s else None
        self._jwt_ttl_s = jwt_ttl_s
        self.members = [Member(self, number) for number in range(members)]

    # -- life ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts every member that does not run, and waits until all serve."""
        idle = [m for m in self.members if m.process is None or m.process.poll() is not None]
        for member in idle:
            member.launch()
        for member in idle:
            member.wait_ready()

    def stop(self) -> None:
        for member in self.members:
            member.stop()

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def pause(self) -> None:
        for member in self.members:
            member.pause()

    def resume(self) -> None:
        for member in self.members:
            member.resume()

    def restart(self) -> None:
        """Stops what runs and starts all again, on the same data and ports."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends every process and removes the data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- where and how -------------------------------------------------------------------------------------------

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def url(self) -> str:
        """The first member's client URL."""
        return self.members[0].url

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(member.url for member in self.members)

    def command(self, member: Member) -> list[str]:
        """The command line that runs `member`."""
        metrics = member.ports[2]
        settings: dict[str, str] = {
            "name": member.name,
            "data-dir": str(member.data),
            "listen-client-urls": member.url,
            "advertise-client-urls": member.url,
            "listen-peer-urls": member.peer_url,
            "initial-advertise-peer-urls": member.peer_url,
            "listen-metrics-urls": f"http://{self.host}:{metrics}",
            "initial-cluster": self.initial_cluster,
            "initial-cluster-token": self._token_cluster,
        }
        if self._quota_bytes:
            settings["quota-backend-bytes"] = str(self._quota_bytes)
        if self._jwt is not None:
            private, public = self._jwt
            settings["auth-token"] = f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl={self._jwt_ttl_s}s"
        where = ["ip", "netns", "exec", self.netns] if self.netns else []
        if not self._gateway:
            settings["enable-grpc-gateway"] = (
                "false"  # what a file that is silent means to etcd 3.4, and to 3.5 no more
            )
            return [*where, self._binary, "--config-file", str(self._config_file(member, settings))]
        if self.tls:
            settings |= {"cert-file": str(self.tls.server_cert), "key-file": str(self.tls.server_key)}
            if self._client_certs:
                settings |= {"client-cert-auth": "true", "trusted-ca-file": str(self.tls.ca)}
        return [*where, self._binary, *(f"--{name}={value}" for name, value in settings.items()), *self._extra]

    @property
    def initial_cluster(self) -> str:
        return ",".join(f"{member.name}={member.peer_url}" for member in self.members)

    def _config_file(self, member: Member, settings: dict[str, str]) -> Path:
        """etcd's YAML, of which JSON is a part."""
        document: dict[str, Any] = dict(settings)
        document["enable-grpc-gateway"] = False  # as etcd 3.4 takes a file that is silent; 3.5 takes it the other way
        if self.tls:
            document["client-transport-security"] = {
                "cert-file": str(self.tls.server_cert),
                "key-file": str(self.tls.server_key),
                "client-cert-auth": self._client_certs,
                "trusted-ca-file": str(self.tls.ca),
            }
        path = member.folder / "etcd.conf.json"
        path.write_text(json.dumps(document))
        return path

    # -- what tests put and ask ----------------------------------------------------------------------------------

    def call(self, path: str, request: dict[str, Any], *, member: int = 0) -> dict[str, Any]:
        """One call of the JSON gateway, such as `/v3/kv/range`. Raises AssertionError on an error answer."""
        return inside(self.netns, lambda: self._call(path, request, member))

    def _call(self, path: str, request: dict[str, Any], member: int) -> dict[str, Any]:
        where = urlsplit(self.members[member].url)
        assert where.hostname is not None
        if self.tls:
            context = ssl.create_default_context(cafile=str(self.tls.ca))
            context.load_cert_chain(
                self.tls.nameless_cert, self.tls.nameless_key
            )  # a name and a token do not go together
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                where.hostname, where.port, timeout=10, context=context
            )
        else:
            connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
        try:
            headers = {"Content-Type": "application/json"}
            if self._credentials is not None and path != "/v3/auth/authenticate":
                headers["Authorization"] = self._fresh_token(member)
            connection.request("POST", path, json.dumps(request), headers)
            with connection.getresponse() as answer:
                body = answer.read()
                assert answer.status == 200, f"{path}: {answer.status} {body!r}"
            reply: dict[str, Any] = json.loads(body)
            return reply
        finally:
            connection.close()

    def _fresh_token(self, member: int) -> str:
        assert self._credentials is not None
        user, password = self._credentials
        return str(self._call("/v3/auth/authenticate", {"name": user, "password": password}, member)["token"])

    def put(self, key: str | bytes, value: str | bytes, *, lease: int = 0) -> int:
        """Writes a key (on etcd lease `lease` if given); returns the revision."""
        reply = self.call("/v3/kv/put", {"key": b64(key), "value": b64(value), "lease": str(lease)})
        return int(reply["header"]["revision"])

    def put_each(self, items: Iterable[tuple[str | bytes, str | bytes]]) -> None:
        """Writes keys one by one."""
        for key, value in items:
            self.put(key, value)

    def put_many(self, items: Iterable[tuple[str | bytes, str | bytes]], *, lease: int = 0) -> None:
        """Writes many keys, a hundred a transaction."""
        pending: list[dict[str, Any]] = []
        for key, value in items:
            pending.append({"requestPut": {"key": b64(key), "value": b64(value), "lease": str(lease)}})
            if len(pending) == _BATCH:
                self.call("/v3/kv/txn", {"success": pending})
                pending = []
        if pending:
            self.call("/v3/kv/txn", {"success": pending})

    def get(self, key: str | bytes) -> bytes | None:
        """The value of `key`, or None."""
        kv = self.kv(key)
        return None if kv is None else base64.b64decode(kv.get("value", ""))

    def kv(self, key: str | bytes) -> dict[str, Any] | None:
        """The key as the gateway shows it (`lease`, `mod_revision`, …, strings), or None."""
        kvs = self.call("/v3/kv/range", {"key": b64(key)}).get("kvs", [])
        return kvs[0] if kvs else None

    def keys(self, prefix: str | bytes = b"") -> list[bytes]:
        """All keys that start with `prefix`, in order."""
        raw = prefix.encode() if isinstance(prefix, str) else prefix
        request = {"key": b64(raw or b"\0"), "range_end": b64(_prefix_end(raw)), "keys_only": True}
        return [base64.b64decode(kv["key"]) for kv in self.call("/v3/kv/range", request).get("kvs", [])]

    def delete(self, key: str | bytes) -> None:
        self.call("/v3/kv/deleterange", {"key": b64(key)})

    def delete_prefix(self, prefix: str) -> None:
        self.call("/v3/kv/deleterange", {"key": b64(prefix), "range_end": b64(_prefix_end(prefix.encode()))})

    @property
    def revision(self) -> int:
        return int(self.call("/v3/kv/range", {"key": b64("x")})["header"]["revision"])

    def grant(self, ttl_s: int) -> int:
        """A new etcd lease."""
        return int(self.call("/v3/lease/grant", {"TTL": str(ttl_s)})["ID"])

    def revoke(self, lease: int) -> None:
        self.call("/v3/lease/revoke", {"ID": str(lease)})

    def leases(self) -> list[int]:
        """Every etcd lease that lives."""
        return [int(lease["ID"]) for lease in self.call("/v3/lease/leases", {}).get("leases", [])]

    def ttl(self, lease: int) -> int:
        """Seconds that etcd lease `lease` still has; -1 when there is none."""
        return int(self.call("/v3/lease/timetolive", {"ID": str(lease)})["TTL"])

    def compact(self, revision: int | None = None) -> None:
        """Forgets history up to `revision` (default: the present one)."""
        self.call("/v3/kv/compaction", {"revision": str(revision or self.revision), "physical": True})

    def leader(self) -> int:
        """The index of the member that leads."""
        for index in range(len(self.members)):
            status = self.call("/v3/maintenance/status", {}, member=index)
            if status["header"]["member_id"] == status["leader"]:
                return index
        raise AssertionError("no member leads")

    def ctl(self, *arguments: str, one: bool = False, timeout_s: float = 30.0) -> str:
        """What `etcdctl` prints, run with everything it needs to reach us (`one`: the first member alone).

        Raises AssertionError."""
        command = ["ip", "netns", "exec", self.netns] if self.netns else []
        command += ["etcdctl", f"--endpoints={self.url if one else ','.join(self.urls)}"]
        if self.tls:
            tls = self.tls
            command += [f"--cacert={tls.ca}", f"--cert={tls.client_cert}", f"--key={tls.client_key}"]
        if self._credentials is not None:
            command.append("--user={}:{}".format(*self._credentials))
        done = subprocess.run(
            [*command, *arguments],
            env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"etcdctl {arguments[0]}: {done.stderr}"
        return done.stdout

    def enable_auth(self, user: str = "fl", password: str = "pw2", *, prefix: str = "/coreos.com/network") -> None:
        """Switches password authentication on: user root, and `user` that may read and write under `prefix`/."""
        self.ctl("user", "add", "root:rootpw")
        self.ctl("user", "grant-role", "root", "root")
        self.ctl("user", "add", f"{user}:{password}")
        self.ctl("role", "add", "flannel")
        self.ctl("role", "grant-permission", "flannel", "readwrite", "--prefix=true", f"{prefix}/")
        self.ctl("user", "grant-role", user, "flannel")
        self.ctl("auth", "enable")
        self._credentials = ("root", "rootpw")

    def save(self, path: Path) -> None:
        """Saves a snapshot of the first member."""
        self.ctl("snapshot", "save", str(path), one=True)

    def restore(self, path: Path, *, same_cluster: bool = True) -> None:
        """Stops all, replaces the data of every member by the snapshot, starts again on the same ports.

        A restore writes new member and cluster ids made from the cluster's token; `same_cluster` keeps the token.
        """
        self.stop()
        if not same_cluster:
            self._token_cluster += "-restored"
        for member in self.members:
            shutil.rmtree(member.data, ignore_errors=True)
            self.ctl(
                "snapshot", "restore", str(path), f"--name={member.name}", f"--data-dir={member.data}",
                f"--initial-cluster={self.initial_cluster}", f"--initial-cluster-token={self._token_cluster}",
                f"--initial-advertise-peer-urls={member.peer_url}",
            )  # fmt: skip
        self.start()


def b64(data: str | bytes) -> str:
    """Base64 text, as the gateway wants keys and values."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def _prefix_end(prefix: bytes) -> bytes:
    """The first key after all that start with `prefix`."""
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes([prefix[at] + 1])
    return b"\0"


_taken: set[int] = set()


def _free_ports(netns: str, host: str, count: int = 3) -> list[int]:
    """Ports that nobody listens on now and that no other member of this process was given."""

    def find() -> list[int]:
        found: list[int] = []
        while len(found) < count:
            port = random.SystemRandom().choice(_PORTS)
            if port in _taken:
                continue
            with socket.socket() as probe:
                try:
                    probe.bind((host, port))
                except OSError:
                    continue
            _taken.add(port)
            found.append(port)
        return found

    return inside(netns, find)
