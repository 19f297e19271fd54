"""A real nginx with the configuration of ``deploy/``, and stand-ins for the replicas behind it."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.support.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
# As in docs/deployment.md, nginx's user is in the server's group, so that it may open the socket.
IN_THE_GROUP = f"nobody {grp.getgrgid(os.getegid()).gr_name}"
MAIN = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass
class Replica:
    """A stand-in for a server: it answers ``status``, or, with ``dies``, breaks off after it has read the request.

    With ``leaves`` it closes its listener before it answers, like a server that drains.
    """

    name: str
    status: int = 200
    dies: bool = False
    leaves: bool = False
    # A stream sends its second piece when this is set.
    proceed: threading.Event = field(default_factory=threading.Event)
    client_left: threading.Event = field(default_factory=threading.Event)
    seen: list[str] = field(default_factory=list)
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    replica: Replica
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.replica.seen.append(self.headers["X-Request-Id"])
        if self.replica.leaves:
            self.server.shutdown()
            self.server.server_close()
        if self.replica.dies:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif self.replica.status != 200:
            self._send(self.replica.status, b'{"error": "no"}')
        elif self.path == "/stream":
            self._stream()
        else:
            self._send(200, self.replica.name.encode())

    do_GET = do_HEAD = do_OPTIONS = do_POST

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Request-Id", self.headers["X-Request-Id"])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: 1\n\n")
        self.connection.settimeout(30)
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        if self.replica.proceed.wait(30) and not self.replica.client_left.is_set():
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.recv(1)
        if not self.replica.proceed.is_set():
            self.replica.client_left.set()
            self.replica.proceed.set()

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: the tests look at ``seen`` instead."""


MakeReplica = Callable[..., Replica]
MakeProxy = Callable[..., httpx.Client]
StartNginx = Callable[..., None]


@pytest.fixture
def make_replica() -> Iterator[MakeReplica]:
    servers: list[ThreadingHTTPServer] = []

    def make(name: str, port: int = 0, **behaviour: object) -> Replica:
        replica = Replica(name, **behaviour)  # type: ignore[arg-type]
        handler = type("ReplicaHandler", (Handler,), {"replica": replica})
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        replica.address = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return replica

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory, openssl: str) -> Path:
    """A key and a self-signed certificate for ``localhost``."""
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem -out cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [openssl, *command.split(), *subject],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def start_nginx(tmp_path: Path, nginx: str) -> Iterator[StartNginx]:
    """``start_nginx(site, port)`` starts nginx with this configuration, and returns when it listens on the port."""
    started: list[subprocess.Popen[bytes]] = []

    def start(site: str, port: int, user: str = IN_THE_GROUP) -> None:
        folder = tmp_path / f"nginx-{port}"
        folder.mkdir()
        (folder / "site.conf").write_text(site)
        main = MAIN.format(folder=folder)
        # Only root can choose the user. Otherwise nginx runs as the same user as the server.
        (folder / "nginx.conf").write_text(f"user {user};{main}" if os.geteuid() == 0 else main)
        process = subprocess.Popen([nginx, "-p", folder, "-c", folder / "nginx.conf"])
        started.append(process)
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.01)

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


@pytest.fixture
def make_proxy(tmp_path: Path, certificate: Path, start_nginx: StartNginx) -> Iterator[MakeProxy]:
    """``make_proxy(address, ...)`` starts nginx in front of these servers, and returns a client of it.

    ``operator`` is the address that may read what is for operators.
    """
    clients: list[httpx.Client] = []

    def make(*addresses: str, user: str = IN_THE_GROUP, operator: str = "127.0.0.1") -> httpx.Client:
        port = free_port()
        ports = {free_port(): address for address in addresses}
        site = (ROOT / "deploy" / "nginx.conf").read_text()
        for ours, theirs in {
            "upstream glm_9101 { server unix:/run/glm-api/api.sock max_fails=0; }": "".join(
                f"upstream glm_{local} {{ server {address} max_fails=0; }}" for local, address in ports.items()
            ),
            "    server 127.0.0.1:9101 max_fails=0;": "".join(
                f"server 127.0.0.1:{local} max_fails=0;" for local in ports
            ),
            "    listen 127.0.0.1:9101;": "".join(f"listen 127.0.0.1:{local};" for local in ports),
            "# server { listen 10.0.0.1:9101; location = /metrics { proxy_pass http://127.0.0.1:9101; }": "".join(
                f"server {{ listen 127.0.0.1:{free_port()};"
                f" location = /metrics {{ proxy_pass http://127.0.0.1:{local}; }} location / {{ return 404; }} }}\n"
                for local in ports
            )
            + "#",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/ssl/certs/glm.example.org.pem": str(certificate / "cert.pem"),
            "/etc/ssl/private/glm.example.org.key": str(certificate / "key.pem"),
            "/var/log/nginx/glm.log": str(tmp_path / "glm.log"),
            "        allow 127.0.0.1;": f"        allow {operator};",
        }.items():
            assert site.count(ours) == 1, ours
            site = site.replace(ours, theirs)
        start_nginx(site, port, user)
        context = ssl.create_default_context(cafile=certificate / "cert.pem")
        clients.append(httpx.Client(base_url=f"https://localhost:{port}", verify=context, timeout=60))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
