"""The log of the real server: one line a request, in the same format as gunicorn's own lines, and nothing private."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.support.processes import PATIENCE, until
from tests.support.server import Serve, Server, chat

CHAT = "/v1/chat/completions"


def log_of(server: Server) -> str:
    server.stop()
    return server.log.read_text()


def test_json_is_one_object_a_line_with_the_fields_of_each_request(serve: Serve) -> None:
    server = serve(log_format="json")
    server.http.post(CHAT, json=chat("Hello!"), headers={"x-request-id": "abc-1"})
    server.http.get("/nothing%0A{}")
    lines = [json.loads(line) for line in log_of(server).splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert {"gunicorn.error", "glm_api.request"} <= {line["logger"] for line in lines}
    [line] = [line for line in lines if line.get("request_id") == "abc-1"]
    assert line["message"] == f"POST {CHAT} 200"
    assert line["status"] == 200
    assert line["completion_tokens"] > 0
    assert line["total_ms"] >= line["first_token_ms"] > 0
    assert "answer" not in line


def test_no_client_can_add_a_line(serve: Serve) -> None:
    server = serve()
    server.http.get("/x%0D%0A2026-01-01T00:00:00+0000%20INFO%20glm_api:%20forged%1B[2K")
    log = log_of(server)
    assert "forged" in log
    assert not [line for line in log.splitlines() if line.startswith("2026-01-01T00:00:00")]
    assert "\x1b" not in log


def test_clients_that_leave_are_logged_as_499(serve: Serve) -> None:
    server = serve(log_format="json")
    long = chat("Tell me a story.", temperature=1.0, n=4)
    with server.http.stream("POST", CHAT, json={**long, "stream": True}) as response:
        next(response.iter_raw())
    with pytest.raises(httpx.ReadTimeout):
        server.http.post(CHAT, json=long, timeout=0.05)
    until(lambda: server.log.read_text().count('"status": 499') == 2)
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if '"status": 499' in line]
    assert {line["route"] for line in lines} == {CHAT}
    assert {line.get("stream", False) for line in lines} == {True, False}


class Unread:
    """A pipe for standard error that is full from the start."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"filling\n" * 512)
        os.set_blocking(self.writer, True)

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            os.close(fd)

    def lines(self, server: Server) -> list[str]:
        """All that is written until the server has ended, which it is told to."""
        server.process.send_signal(signal.SIGTERM)
        os.close(self.writer)
        with open(self.reader, "rb", closefd=False) as file:
            text = file.read().decode()
        self.writer = os.open(os.devnull, os.O_WRONLY)
        assert server.process.wait(PATIENCE) == 0
        return [line for line in text.splitlines() if line != "filling"]


@pytest.fixture
def unread() -> Iterator[Unread]:
    pipe = Unread()
    yield pipe
    pipe.close()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_standard_error_that_nobody_reads_stops_nothing(serve: Serve, unread: Unread, log_format: str) -> None:
    server = serve(stderr=unread.writer, log_format=log_format, log_prompts="1")
    # 64 KiB fit into a pipe, and a megabyte waits: this is more. Each line fits into PIPE_BUF, so that the kernel does
    # not mix it with one of the master's.
    body = b"x" * 3_400
    count = 450
    for number in range(count):
        headers = {"Content-Type": "application/json", "x-request-id": f"request-{number}"}
        assert server.http.post("/tokenize", content=body, headers=headers).status_code == 400
        assert server.health() == 200
    assert server.http.post(CHAT, json=chat("Hello!")).status_code == 200
    exposition = server.http.get("/metrics").text
    dropped = int(float(re.findall(r"^glm_log_lines_dropped_total (\S+)", exposition, re.MULTILINE)[0]))
    lines = unread.lines(server)
    written = [int(number) for line in lines for number in re.findall(r"request-(\d+)", line)]
    # The chat is the one that has no such id.
    assert written == list(range(count + 1 - dropped))
    assert 0 < dropped <= count
    [told] = [line for line in lines if "dropped" in line]
    assert f"{dropped} log lines were dropped" in told
    if log_format == "json":
        assert all(isinstance(json.loads(line), dict) for line in lines)


def test_the_master_works_while_nobody_reads_standard_error(serve: Serve, unread: Unread) -> None:
    server = serve(stderr=unread.writer)
    [worker] = server.workers()
    server.process.send_signal(signal.SIGHUP)
    until(lambda: worker not in server.workers() and server.health() == 200)
    assert server.stop() == 0


def test_the_last_line_is_written_at_the_end(serve: Serve) -> None:
    server = serve()
    assert log_of(server).splitlines()[-1].endswith("Shutting down: Master")
