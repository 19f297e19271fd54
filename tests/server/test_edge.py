"""Requests that do not reach the application, the socket, the Host header, and signals during the start."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from pathlib import Path

import httpx
import pytest

from tests.support.processes import PATIENCE, until
from tests.support.server import Serve, Server, chat

COMPLETIONS = "/v1/chat/completions"
EVIL = {"Host": "evil.example:8000"}


def connect(server: Server) -> socket.socket:
    url = httpx.URL(server.url)
    assert url.port
    return socket.create_connection((url.host, url.port), timeout=PATIENCE)


def exchange(server: Server, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send exactly this, and read until the server closes: the status, the headers and the body."""
    with connect(server) as client:
        client.sendall(data)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


GET = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (b"hello sk-secret\r\n\r\n", 400, "HTTP/1.1"),
        (b"GET /sk-secret\xff HTTP/1.1\r\n\r\n", 400, "HTTP/1.1"),
        (b"GET /sk-secret HTTP/3.0\r\n\r\n", 400, "HTTP/1.1"),
        (b"sk-secret / HTTP/1.1\r\n\r\n", 400, "method"),
        (b"\x16\x03\x01 sk-secret\r\n\r\n", 400, "TLS"),
        (b"GET /sk-secret?" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n", 414, "4094 bytes"),
        (GET + b"a: sk-secret\r\n" * 101 + b"\r\n", 431, "100"),
        (GET + b"a: sk-secret" + b"x" * 9000 + b"\r\n\r\n", 431, "8190 bytes"),
        (GET + b"sk secret: a\r\n\r\n", 400, "name"),
        (GET + b"sk-secret\r\n\r\n", 400, "NAME: VALUE"),
        (GET + b"a: sk-\x01secret\r\n\r\n", 400, "control characters"),
        (GET + b"a: sk-\r\n secret\r\n\r\n", 400, "one line"),
        (GET + b"Host: sk-secret\r\n\r\n", 400, "Host"),
        (POST + b"Content-Length: sk-secret\r\n\r\n", 400, "Content-Length"),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "Content-Length"),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "Content-Length"),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400, "Transfer-Encoding"),
        (POST + b"Transfer-Encoding: sk-secret\r\n\r\n", 501, "Transfer-Encoding"),
        (POST + b"Expect: sk-secret\r\n\r\n", 417, "Expect"),
    ],
    ids=lambda value: ascii(value[:60]) if isinstance(value, bytes) else None,
)
def test_what_is_no_http_is_refused_in_the_envelope(demo: Server, data: bytes, status: int, word: str) -> None:
    got, headers, body = exchange(demo, data)
    assert got == status
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert word in error["message"]
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == len(body)
    assert headers["connection"] == "close"
    assert b"secret" not in body
    assert "secret" not in demo.log.read_text()


def test_a_client_that_is_still_sending_gets_the_error(serve: Serve) -> None:
    server = serve(ready=False)
    until(lambda: server.health() > 0)
    with connect(server) as client:
        client.sendall(b"GET /" + b"x" * 5000)
        until(lambda: "414" in server.log.read_text())
        for _ in range(32):
            client.sendall(b"x" * 1024)
        client.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: client.recv(65536), b"")).startswith(b"HTTP/1.1 414 ")


def test_a_refused_head_request_gets_no_body(demo: Server) -> None:
    status, headers, body = exchange(demo, b"HEAD / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n")
    assert (status, body) == (400, b"")
    assert int(headers["content-length"]) > 0


def test_another_host_is_refused_except_for_probes(demo: Server) -> None:
    for method, path in (("GET", "/"), ("GET", "/v1/models"), ("POST", COMPLETIONS), ("GET", "//v1//models")):
        response = demo.http.request(method, demo.url + path, headers=EVIL)
        assert response.status_code == 403, path
        assert response.json()["error"]["code"] == "host_not_allowed"
        assert "GLM_ALLOWED_HOSTS=evil.example " in response.json()["error"]["message"]
        assert "location" not in response.headers
    for path in ("/health", "/livez"):
        assert demo.http.get(path, headers=EVIL).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "glm.localhost:80"])
def test_requests_to_the_names_of_this_machine_are_answered(demo: Server, host: str) -> None:
    assert demo.http.get("/v1/models", headers={"Host": host}).status_code == 200


def test_doubled_slashes_are_answered_without_a_redirect(demo: Server) -> None:
    assert demo.http.get(f"{demo.url}//v1//models").json()["data"]
    response = demo.http.post(f"{demo.url}//v1//chat///completions", json=chat("hello", max_tokens=1))
    assert response.status_code == 200
    assert response.json()["choices"]


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions/", "//chat//completions//"])
def test_other_spellings_of_a_path_are_answered_without_a_redirect(demo: Server, path: str) -> None:
    response = demo.http.post(demo.url + path, json=chat("hello", max_tokens=1))
    assert (response.status_code, response.history) == (200, [])
    assert response.json()["choices"]


def test_a_ping_is_answered(demo: Server) -> None:
    for response in (demo.http.get("/ping"), demo.http.post("/ping"), demo.http.get("/v1/health")):
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("setting", ["api_keys", "api_keys_file"])
def test_a_setting_for_keys_that_holds_none_ends_the_boot(serve: Serve, tmp_path: Path, setting: str) -> None:
    file = tmp_path / "keys"
    file.write_text("# none yet\n")
    server = serve(ready=False, **{setting: str(file) if setting.endswith("file") else ","})
    assert server.process.wait(PATIENCE) != 0
    log = server.log.read_text()
    assert f"GLM_{setting.upper()} " in log
    assert "Traceback" not in log


def test_the_unix_socket_is_for_its_user_and_group_alone(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    server = serve(bind=f"unix:{path}")
    found = path.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
    # No browser can open it, and nginx passes on whatever name it is asked by.
    assert server.http.get("/v1/models", headers=EVIL).status_code == 200


@pytest.mark.parametrize(
    ("number", "delay"),
    [(signal.SIGTERM, delay) for delay in (0, 0.05, 0.1, 0.2, 0.4)] + [(signal.SIGINT, 0), (signal.SIGQUIT, 0)],
)
def test_a_signal_while_a_worker_starts_is_not_lost(serve: Serve, number: int, delay: float) -> None:
    # A lost one shows as a server that goes on until the grace is over.
    server = serve(ready=False, graceful_timeout=str(10 * PATIENCE))
    until(lambda: "Booting worker" in server.log.read_text())
    # Not to wait for anything: the moment is what differs.
    time.sleep(delay)
    workers = server.workers()
    assert server.stop(number) == 0
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
