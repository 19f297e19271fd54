"""The client understands what llama.cpp's server says, and can be stopped at any moment."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from glm_api.pipeline.worker.llama_cpp.client import LlamaClient, LlamaError, Stopped
from tests.support.processes import PATIENCE

EVENTS = 'data: {"a":1}\n\n: ping\n\ndata: {"b":"天"}\n\ndata: [DONE]\n\n'


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, "application/json", b'{"path":"%s"}' % self.path.encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        assert isinstance(server, Server)
        match self.path:
            case "/echo":
                self._answer(200, "application/json; charset=utf-8", json.dumps(body).encode())
            case "/stream":
                self._answer(200, "text/event-stream", EVENTS.encode())
            case "/failing":
                self._answer(200, "text/event-stream", b'data: {"a":1}\n\nerror: {"code":500,"message":"x"}\n\n')
            case "/refused":
                error = {"code": 400, "message": "too long", "type": "exceed_context_size_error"}
                self._answer(400, "application/json", json.dumps({"error": error}).encode())
            case "/broken":
                self._answer(500, "text/plain", b"Internal Server Error")
            case "/endless":
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b'data: {"a":1}\n\n')
                server.waited_in_vain = not server.left.wait(PATIENCE)
                self.close_connection = True

    def _answer(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "client"


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.left = threading.Event()
        self.waited_in_vain = False
        super().__init__(path, Handler)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(str(tmp_path / "s")) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.left.set()
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture
def client(server: Server) -> LlamaClient:
    path = server.server_address
    assert isinstance(path, str)
    return LlamaClient(path)


def test_questions_are_answered(client: LlamaClient) -> None:
    assert client.get("/props") == {"path": "/props"}
    assert client.post("/echo", {"天": [1, None]}) == {"天": [1, None]}


def test_events_come_one_by_one(client: LlamaClient) -> None:
    found = list(client.stream({}).events("/stream"))
    assert list(map(json.loads, found)) == [{"a": 1}, {"b": "天"}]


def test_an_answer_that_is_no_stream_comes_as_one_event(client: LlamaClient) -> None:
    assert list(map(json.loads, client.stream({"x": 1}).events("/echo"))) == [{"x": 1}]


@pytest.mark.parametrize(
    ("endpoint", "status", "type", "message"),
    [("/refused", 400, "exceed_context_size_error", "too long"), ("/broken", 500, "", "")],
)
def test_a_refusal_says_why(client: LlamaClient, endpoint: str, status: int, type: str, message: str) -> None:
    for ask in (lambda: client.post(endpoint, {}), lambda: list(client.stream({}).events(endpoint))):
        with pytest.raises(LlamaError) as refused:
            ask()
        assert (refused.value.status, refused.value.type, refused.value.message) == (status, type, message)


def test_a_failure_in_a_stream_comes_behind_its_events(client: LlamaClient) -> None:
    events = client.stream({}).events("/failing")
    assert json.loads(next(events)) == {"a": 1}
    with pytest.raises(LlamaError) as failed:
        next(events)
    assert failed.value.status == 500


def test_a_stream_is_stopped_while_it_waits(client: LlamaClient, server: Server) -> None:
    stream = client.stream({})
    events = stream.events("/endless")
    assert json.loads(next(events)) == {"a": 1}
    threading.Timer(0.01, stream.close).start()
    # Whoever stopped it knows.
    with contextlib.suppress(Stopped):
        assert list(events) == []
    assert not server.waited_in_vain, "the stream ended with its server's patience"


def test_a_stream_that_was_stopped_before_is_not_asked_for(client: LlamaClient) -> None:
    stream = client.stream({})
    stream.close()
    with pytest.raises(Stopped):
        next(stream.events("/stream"))


def test_a_server_that_is_gone_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(LlamaClient(str(tmp_path / "none")).stream({}).events("/stream"))
