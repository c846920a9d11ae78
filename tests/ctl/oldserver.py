"""A stand-in for a flanneld 0.7 server: what a copy asks of one, in the forms of the observed exchanges (spec §6)."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass
class OldServer:
    """`configs` and `leases` (by subnet: attributes and Expiration) are by network, "_" for the unnamed one."""

    configs: dict[str, str] = field(default_factory=dict)
    leases: dict[str, dict[str, tuple[dict[str, Any], str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked.append(f"GET {self.path}")
                status, body = server.answer(self.path.partition("?")[0])
                self.send_response(status)
                self.send_header(
                    "Content-Type", "application/json; charset=utf-8" if status == 200 else "text/plain; charset=utf-8"
                )
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def refuse(self) -> None:
                server.asked.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(404)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", "19")
                self.end_headers()
                self.wfile.write(b"404 page not found\n")

            do_PUT = refuse  # noqa: N815
            do_POST = refuse  # noqa: N815
            do_DELETE = refuse  # noqa: N815

            def log_message(self, *ignored: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def answer(self, path: str) -> tuple[int, bytes]:
        match path.removeprefix("/v1/").split("/"):
            case [""]:
                return self._snapshot([name for name in sorted(self.configs) if name != "_"])
            case [network, "config"] if network in self.configs:
                return 200, self.configs[network].encode() + b"\n"
            case [network, "config"]:
                folder = "/coreos.com/network" + ("" if network == "_" else f"/{network}")
                return 500, f"100: Key not found ({folder}) [67]".encode()
            case [network, "leases"]:
                return self._snapshot([
                    {"Subnet": subnet, "Attrs": attrs, "Expiration": end}
                    for subnet, (attrs, end) in self.leases.get(network, {}).items()
                ])  # fmt: skip
        return 404, b"404 page not found\n"

    def _snapshot(self, items: list[Any]) -> tuple[int, bytes]:
        body = {"events": None, "snapshot": items, "cursor": "67"}
        return 200, json.dumps(body, separators=(",", ":")).encode() + b"\n"
