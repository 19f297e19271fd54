"""Many clients at once: those that leave together, and those that send slowly or not at all."""

from __future__ import annotations

import json
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.processes import PATIENCE, until
from tests.support.server import Serve, Server, SlowModel, chat, hold

COMPLETIONS = "/v1/chat/completions"
BODY = b'{"messages": [{"role": "user", "content": "hello"}]}'
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


@contextmanager
def crowd(server: Server, size: int, data: bytes) -> Iterator[list[socket.socket]]:
    """That many connections, each of which has sent ``data``; they leave together."""
    address = server.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        members = []
        for _ in range(size):
            member = stack.enter_context(socket.create_connection((address[0], int(address[1])), PATIENCE))
            member.sendall(data)
            members.append(member)
        yield members


def test_hundreds_of_clients_that_leave_together_are_all_noticed(slow_model: SlowModel, serve: Serve) -> None:
    server = serve(queue_size="1000", **slow_model)
    with hold(server):
        with crowd(server, 600, HEAD % len(BODY) + BODY):
            until(lambda: len(server.http.get("/queue").json()["waiting"]) == 600)
        until(lambda: server.http.get("/queue").json()["waiting"] == [])
        assert server.http.get("/queue").json()["running"]
    assert server.http.post(COMPLETIONS, json=chat("hello")).status_code == 200


def is_answered(server: Server) -> None:
    """Whoever asks now, on a connection of its own, is answered."""
    for _ in range(5):
        assert httpx.get(f"{server.url}/health", timeout=PATIENCE).status_code == 200
    assert httpx.post(server.url + COMPLETIONS, json=chat("hello"), timeout=PATIENCE).status_code == 200


def test_everybody_is_answered_while_1400_clients_hold_back_the_rest_of_a_body(serve: Serve) -> None:
    server = serve(body_timeout="86400")
    with crowd(server, 1400, HEAD % len(BODY) + BODY[:1]):
        is_answered(server)


def test_everybody_is_answered_while_clients_hold_back_the_rest_of_a_head(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--worker-connections=120 --keep-alive=86400")
    server = serve()
    with crowd(server, 200, HEAD[:20]):
        is_answered(server)


def test_a_head_that_does_not_end_has_a_deadline(demo: Server) -> None:
    with crowd(demo, 1, HEAD[:20]) as [client]:
        assert client.recv(100) == b""


def test_probes_are_answered_when_other_requests_hold_all_connections_but_the_reserve(
    slow_model: SlowModel, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--worker-connections=120")
    server = serve(**slow_model)
    with hold(server), crowd(server, 19, HEAD % len(BODY) + BODY):
        until(lambda: metric(server, "glm_num_requests_waiting") == 19)
        refused = server.http.post(COMPLETIONS, json=chat("hello"))
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "overloaded"
        assert int(refused.headers["Retry-After"]) > 0
        for probe in ("/health", "/livez", "/metrics"):
            assert server.http.get(probe).status_code == 200
    # The places are given back.
    until(lambda: server.http.post(COMPLETIONS, json=chat("hello")).status_code == 200)


def test_a_low_limit_of_open_files_means_fewer_connections(serve: Serve) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))
    try:
        server = serve(queue_size="10000")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    [worker] = server.workers()
    soft, _ = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    # As many as the operator allows at all, if that is less than what is needed.
    assert soft == min(limits[1], 256 + 2 * 11100)
    assert ("raise it to 22456" in server.log.read_text()) == (limits[1] < 22456)


def slow_answer(client: socket.socket) -> bytes:
    """Send a byte of the body again and again, until the server has answered and closed the connection; its answer."""
    answer = b""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if not select.select([client], [], [], 0.05)[0]:
                client.send(b" ")
                continue
            data = client.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            # It was closed before the server had read the last byte.
            data = b""
        if not data:
            return answer
        answer += data
    raise AssertionError("the server waits for ever")


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
def test_a_body_that_arrives_slowly_has_a_deadline(serve: Serve, framing: bytes) -> None:
    server = serve(body_timeout="1")
    head = HEAD.replace(b"Content-Length: %d", framing)
    with crowd(server, 1, head + b"FFFFF\r\n") as [client]:
        first, _, rest = slow_answer(client).partition(b"\r\n")
    headers, _, body = rest.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in headers.lower()
    assert json.loads(body)["error"]["code"] == "request_timeout"
    assert "Traceback" not in server.log.read_text()
    assert server.http.post(COMPLETIONS, json=chat("hello")).status_code == 200


def test_a_client_that_does_not_read_its_answer_is_disconnected(serve: Serve) -> None:
    server = serve(body_timeout="1")
    request = b"GET /assets/swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with crowd(server, 1, request * 50) as [client]:
        until(lambda: is_open_at_the_server(client))
        until(lambda: not is_open_at_the_server(client))
    assert "ERROR" not in server.log.read_text()


def is_open_at_the_server(client: socket.socket) -> bool:
    """Whether the server still has its end of this connection; a client that does not read is not told."""
    ends = [f"0100007F:{address[1]:04X}" for address in (client.getpeername(), client.getsockname())]
    return any(line.split()[1:3] == ends for line in Path("/proc/net/tcp").read_text().splitlines())


def metric(server: Server, name: str) -> float:
    """A number that the server tells Prometheus."""
    line = next(line for line in server.http.get("/metrics").text.splitlines() if line.startswith(f"{name} "))
    return float(line.split()[1])
