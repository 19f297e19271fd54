"""Failures in a real server, and which requests they may cost."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.processes import until
from tests.support.server import LONG_PROMPT, Serve, Server, SlowModel, chat, hold

COMPLETIONS = "/v1/chat/completions"


def text(response: httpx.Response) -> str:
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


@pytest.mark.parametrize("family", ["chatglm", "chatglm2", "chatglm3", "glm4"])
def test_every_family_is_served(family: str, serve: Serve, model_file: Callable[[str], Path]) -> None:
    server = serve(model=str(model_file(family)))
    body = chat("你好, hello", max_tokens=16)
    whole = server.http.post(COMPLETIONS, json=body)
    assert whole.status_code == 200
    streamed = server.sdk().chat.completions.create(**body, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == text(whole)
    assert whole.json()["usage"]["completion_tokens"] <= 16


@pytest.mark.parametrize("family", ["chatglm", "chatglm2", "chatglm3", "glm4"])
def test_odd_dialogues_are_answered_or_refused(family: str, serve: Serve, model_file: Callable[[str], Path]) -> None:
    server = serve(model=str(model_file(family)))
    for roles in (["system"], ["assistant", "user"], ["user", "user"], ["user", "assistant"]):
        messages = [{"role": role, "content": "x"} for role in roles]
        response = server.http.post(COMPLETIONS, json={"messages": messages, "max_tokens": 2})
        assert response.status_code in (200, 400)
        if response.status_code == 400:
            assert response.json()["error"]["param"]


def test_a_model_process_killed_while_idle_is_replaced(serve: Serve) -> None:
    server = serve()
    os.kill(server.children()["pipeline"], signal.SIGKILL)
    until(lambda: server.health() == 503)
    until(lambda: server.health() == 200)
    assert server.http.post(COMPLETIONS, json=chat("hello")).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_process_killed_while_working_costs_no_request(stream: bool, slow_reader: Server) -> None:
    server = slow_reader
    body = chat("hello", max_tokens=8)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(server.http.post, COMPLETIONS, json=chat(LONG_PROMPT, stream=stream, max_tokens=4))
        until(lambda: server.http.get("/queue").json()["running"])
        queued = [pool.submit(server.http.post, COMPLETIONS, json=body) for _ in range(3)]
        until(lambda: len(server.http.get("/queue").json()["waiting"]) == 3)
        os.kill(server.children()["pipeline"], signal.SIGKILL)
        answered = running.result()
        answers = {text(future.result()) for future in queued}
    assert answered.status_code == 200
    assert '"error"' not in answered.text
    if stream:
        assert answered.text.endswith("data: [DONE]\n\n")
    else:
        assert answered.json()["usage"]["completion_tokens"] > 0
    assert len(answers) == 1
    until(lambda: server.health() == 200)


def test_a_stream_goes_on_where_a_killed_model_process_has_stopped(serve: Serve) -> None:
    server = serve()
    question = chat("count from 1 to 60")
    expected = text(server.http.post(COMPLETIONS, json=question))
    with server.http.stream("POST", COMPLETIONS, json={**question, "stream": True}) as stream:
        lines = stream.iter_lines()
        first = next(lines)
        os.kill(server.children()["pipeline"], signal.SIGKILL)
        rest = list(lines)
    chunks = [json.loads(line.removeprefix("data: ")) for line in [first, *rest] if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == expected
    assert "data: [DONE]" in rest


@pytest.mark.parametrize("role", ["pipeline", "tokenizer"])
def test_a_process_that_is_stopped_is_replaced_and_health_tells_the_truth(role: str, slow_reader: Server) -> None:
    server = slow_reader
    stopped = server.children()[role]
    with ThreadPoolExecutor() as pool:
        running = pool.submit(server.http.post, COMPLETIONS, json=chat(LONG_PROMPT, max_tokens=1))
        until(lambda: server.http.get("/queue").json()["running"])
        os.kill(stopped, signal.SIGSTOP)
        until(lambda: server.health() == 503)
        until(lambda: server.health() == 200)
        assert server.children()[role] != stopped
        assert running.result().status_code == 200
    assert server.http.post(COMPLETIONS, json=chat("hello", max_tokens=2)).status_code == 200


def test_everything_else_is_answered_during_prefill(slow_reader: Server) -> None:
    server = slow_reader
    with server.http.stream("POST", COMPLETIONS, json=chat(LONG_PROMPT, stream=True, max_tokens=1)) as reading:
        lines = reading.iter_lines()  # its end would end the request
        next(lines)
        assert server.health() == 200
        assert server.http.get("/v1/models").status_code == 200
        assert server.http.post("/tokenize", json={"content": "hello"}).json()["tokens"]
        # All of that came while the prompt was being read: the pipeline says so.
        [running] = server.http.get("/queue").json()["running"]
        assert (running["processed_tokens"] or 0) < running["prompt_tokens"]


def test_a_client_that_leaves_during_prefill_frees_the_model(slow_reader: Server) -> None:
    server = slow_reader
    with server.http.stream("POST", COMPLETIONS, json=chat(LONG_PROMPT, stream=True)) as reading:
        next(reading.iter_lines())
    assert server.http.post(COMPLETIONS, json=chat("hello", max_tokens=2)).status_code == 200
    # It stopped early: what the slot holds of the long prompt is not all of it.
    assert max(slot["tokens"] for slot in server.http.get("/slots").json()) < len(LONG_PROMPT) // 2


def test_64_clients_at_once_are_answered_or_get_retry_after(serve: Serve) -> None:
    server = serve(queue_size="20")

    def ask(number: int) -> httpx.Response:
        return httpx.post(server.url + COMPLETIONS, json=chat("hello", max_tokens=100_000), timeout=120)

    with ThreadPoolExecutor(64) as pool:
        responses = list(pool.map(ask, range(64)))
    statuses = {response.status_code for response in responses}
    assert statuses <= {200, 429}
    assert 200 in statuses
    assert len({text(response) for response in responses if response.status_code == 200}) == 1
    for response in responses:
        if response.status_code == 429:
            assert int(response.headers["Retry-After"]) >= 1
            assert response.json()["error"]["code"] == "queue_full"
    assert server.health() == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"hello", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', 400),
        (rb'{"messages": [{"role": "user", "content": "\ud800"}]}', 400),
        (b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"messages": [{"role": "user", "content": "hi"}], "temperature": NaN}', 400),
        (b'{"messages": [{"role": "user", "content": "' + b"x" * 9_000_000 + b'"}]}', 413),
    ],
)
def test_an_invalid_body_is_refused_in_the_envelope(demo: Server, body: bytes, status: int) -> None:
    response = demo.http.post(COMPLETIONS, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status
    assert set(response.json()["error"]) >= {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("POST", "/v1/moderations", 404), ("GET", COMPLETIONS, 405), ("DELETE", "/health", 405)],
)
def test_every_error_is_in_the_envelope(demo: Server, method: str, path: str, status: int) -> None:
    response = demo.http.request(method, path)
    assert response.status_code == status
    assert set(response.json()["error"]) >= {"message", "type", "param", "code"}


def test_a_prompt_of_100_kilobytes_is_refused_and_harmless(demo: Server) -> None:
    for filler in ("word ", "你好", "a", "\n"):
        response = demo.http.post(COMPLETIONS, json=chat((filler * 100_000)[:100_000]))
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("path", "param"),
    [
        (COMPLETIONS, "messages"),
        ("/apply-template", "messages"),
        ("/v1/completions", "prompt"),
        ("/v1/responses", "input"),
    ],
)
def test_the_parameter_with_a_prompt_that_is_too_long_is_named(demo: Server, path: str, param: str) -> None:
    # A text that is refused by its length, and one that is counted.
    for text in ("word " * 100_000, "word " * 3000):
        held = [{"role": "user", "content": text}] if param == "messages" else text
        found = demo.http.post(path, json={param: held}).json()["error"]
        assert (found["code"], found["param"]) == ("context_length_exceeded", param)
        assert f"your {param} resulted in" in found["message"]
        assert f"Please reduce the length of the {param}." in found["message"]


def test_for_too_many_ids_the_parameter_is_prompt(demo: Server) -> None:
    found = demo.http.post("/v1/completions", json={"prompt": [400] * 9000}).json()["error"]
    assert (found["code"], found["param"]) == ("context_length_exceeded", "prompt")
    assert demo.health() == 200


def test_a_broken_model_is_logged_in_one_line_and_the_server_stays_up(serve: Serve, tmp_path: Path) -> None:
    broken = tmp_path / "model.bin"
    broken.write_bytes(b"GGUF" + bytes(100))
    server = serve(ready=False, model=str(broken))
    until(lambda: server.health() == 503 and "GGUF" in server.http.get("/health").json()["error"]["message"])
    assert server.http.get("/livez").status_code == 200
    assert server.http.post(COMPLETIONS, json=chat("hello")).status_code == 503
    log = server.log.read_text()
    assert "GGUF" in log
    assert "Traceback" not in log


def test_a_missing_model_ends_the_boot_with_one_line(serve: Serve, tmp_path: Path) -> None:
    server = serve(ready=False, model=str(tmp_path / "absent.bin"))
    assert server.process.wait(60) != 0
    log = server.log.read_text()
    assert "GLM_MODEL" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_no_process_survives_the_end_of_the_server(number: int, serve: Serve) -> None:
    server = serve()
    children = server.children()
    assert set(children) == {"pipeline", "tokenizer"}
    assert server.stop(number) == 0
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children.values()))


def test_after_sigterm_a_running_answer_finishes_and_new_requests_are_refused(serve: Serve) -> None:
    server = serve()
    with server.http.stream("POST", COMPLETIONS, json=chat("count from 1 to 60", stream=True)) as stream:
        lines = stream.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        answer = list(lines)
    assert "data: [DONE]" in answer
    assert not any('"error"' in line for line in answer)
    assert server.process.wait(60) == 0


def test_an_answer_that_outlasts_the_grace_period_ends_with_an_error(slow_model: SlowModel, serve: Serve) -> None:
    server = serve(graceful_timeout="1", **slow_model)
    with server.http.stream("POST", COMPLETIONS, json=chat(LONG_PROMPT, stream=True)) as stream:
        lines = stream.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        answer = "\n".join(lines)
    assert "shutting_down" in answer
    assert "data: [DONE]" in answer


def test_a_client_that_leaves_loses_its_place_in_the_queue(slow_reader: Server) -> None:
    server = slow_reader
    host, port = server.url.removeprefix("http://").split(":")
    body = b'{"messages": [{"role": "user", "content": "hello"}]}'
    with hold(server):
        with socket.create_connection((host, int(port))) as waiting:
            waiting.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            until(lambda: len(server.http.get("/queue").json()["waiting"]) == 1)
        until(lambda: server.http.get("/queue").json()["waiting"] == [])
        assert server.http.get("/queue").json()["running"]


def test_a_stream_that_waits_gets_pings_without_empty_lines(slow_model: SlowModel, serve: Serve) -> None:
    server = serve(**slow_model, ping_interval="0.1")
    with hold(server), server.http.stream("POST", COMPLETIONS, json=chat("hello", stream=True)) as waiting:
        lines = waiting.iter_lines()
        assert [next(lines), next(lines), next(lines)] == [": ping"] * 3
