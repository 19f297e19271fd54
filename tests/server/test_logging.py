"""What the real server writes: one line a request, of one format with gunicorn's own lines, and nothing private."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.running import until
from tests.server.conftest import Serve, Server, chat

CHAT = "/v1/chat/completions"


def log_of(server: Server) -> str:
    server.stop()
    return server.log.read_text()


def test_json_is_one_object_a_line_with_the_facts_of_each_request(serve: Serve) -> None:
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


def test_nobody_can_write_a_line_of_their_own(serve: Serve) -> None:
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
