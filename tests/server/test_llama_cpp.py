"""The real server on llama.cpp: several answers at a time, failures, thinking, tools, images, and files."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from config import DEMO_MODEL
from tests.server.test_images import data_uri, shows
from tests.support.gguf import models, templates
from tests.support.gguf.models import Kind
from tests.support.gguf.projector import write_projector
from tests.support.listener import Listener
from tests.support.processes import PATIENCE, until
from tests.support.server import Serve, Server, demo_on

CHAT = "/v1/chat/completions"
ANSWER = "The answer is 四2。"
THOUGHT = "Let me think."
# So many tokens that the answer goes on until the test has done what it does meanwhile.
ENDLESS: dict[str, Any] = {"max_tokens": 1200, "ignore_eos": True}
# Published files of GLM-4 have a template, by which they are recognized.
GLM_4 = replace(models.GLM_4, template=templates.GLM_4_0414)
KINDS = [GLM_4 if kind is models.GLM_4 else kind for kind in models.KINDS]
EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
THINKING = pytest.mark.parametrize(
    "kind", [models.GLM_Z1, models.GLM_4_5, models.GLM_4_7_FLASH], ids=lambda kind: kind.name
)
CALLING = pytest.mark.parametrize(
    "kind", [models.GLM_4_0414, models.GLM_4_5, models.GLM_4_7_FLASH], ids=lambda kind: kind.name
)

ServeKind = Callable[..., Server]


@pytest.fixture
def serve_kind(serve: Serve, tmp_path: Path) -> ServeKind:
    """``serve_kind(kind, **settings)``: a server with a tiny model of this kind, which answers four at a time."""

    def start(kind: Kind, **settings: Any) -> Server:
        model = models.write_model(tmp_path / f"{kind.name}.gguf", kind)
        return serve(**{"model": str(model), "cache_slots": "4", "engine": "llama-cpp", **settings})

    return start


def ask(text: str = "Hello", **more: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, **more}


class Reading:
    """Reads a streamed chat completion in a thread.

    ``begun`` is set at its first text. ``error`` is the error in its stream. `leave` closes the connection.
    """

    def __init__(self, server: Server, body: dict[str, Any]) -> None:
        self.text = ""
        self.status = 0
        self.lines: list[str] = []
        self.error: dict[str, Any] | None = None
        self.begun = threading.Event()
        self._leaves = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(server.url, {**body, "stream": True}), daemon=True)
        self._thread.start()

    def _read(self, url: str, body: dict[str, Any]) -> None:
        with httpx.stream("POST", url + CHAT, json=body, timeout=PATIENCE) as response:
            self.status = response.status_code
            for line in response.iter_lines():
                if self._leaves.is_set():
                    return
                self.lines.append(line)
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                self.error = event.get("error", self.error)
                for choice in event.get("choices", []):
                    piece = choice["delta"].get("content") or choice["delta"].get("reasoning_content") or ""
                    self.text += piece
                    if piece:
                        self.begun.set()

    def leave(self) -> None:
        self._leaves.set()
        self._thread.join(PATIENCE)

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> Reading:
        self._thread.join(PATIENCE)
        assert self.done
        return self


def begin(server: Server, *bodies: dict[str, Any]) -> list[Reading]:
    """Start to read these answers; return when each has begun."""
    readings = [Reading(server, body) for body in bodies]
    for reading in readings:
        assert reading.begun.wait(PATIENCE), reading.lines
    return readings


def queue(server: Server) -> tuple[int, int]:
    """How many requests run, and how many wait."""
    told = server.http.get("/queue").json()
    return len(told["running"]), len(told["waiting"])


def metric(server: Server, name: str) -> float:
    lines = server.http.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def restarts(server: Server) -> float:
    """How many pipeline processes have been replaced."""
    lines = server.http.get("/metrics").text.splitlines()
    of_pipeline = [line for line in lines if line.startswith("glm_pipeline_restarts_total{") and '"pipeline"' in line]
    return sum(float(line.split()[-1]) for line in of_pipeline)


def answer_of(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json()["choices"][0]["message"]
    return message


# --- failures and crowds ---


def kill_with_four_running_and_four_waiting(
    server: Server, running: list[dict[str, Any]]
) -> tuple[list[Reading], list[Reading]]:
    """Return how those that ran have ended, and those that waited."""
    begun = begin(server, *running)
    pid = server.children()["pipeline"]
    # It computes nothing more until all are there.
    os.kill(pid, signal.SIGSTOP)
    waiting = [Reading(server, ask()) for _ in range(4)]
    until(lambda: queue(server) == (4, 4))
    assert metric(server, "glm_num_requests_running") == 4
    assert metric(server, "glm_num_requests_waiting") == 4
    assert not any(reading.done for reading in begun)
    os.kill(pid, signal.SIGKILL)
    ended = [reading.join() for reading in begun], [reading.join() for reading in waiting]
    until(lambda: server.health() == 200)
    assert server.children()["pipeline"] != pid
    assert restarts(server) == 1
    assert queue(server) == (0, 0)
    return ended


def test_a_killed_process_costs_only_the_structured_answer_that_it_worked_on(serve_kind: ServeKind) -> None:
    server = serve_kind(GLM_4)
    schema = {
        "type": "object",
        "properties": {"n": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2000}},
        "required": ["n"],
        "additionalProperties": False,
    }
    format = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    structured = ask(max_tokens=1200, response_format=format)
    expected = answer_of(server.http.post(CHAT, json=ask(**ENDLESS)))["content"]
    (*free, failed), waited = kill_with_four_running_and_four_waiting(server, [ask(**ENDLESS)] * 3 + [structured])
    for reading in free:
        assert reading.error is None
        assert reading.text == expected
        assert "data: [DONE]" in reading.lines
    assert failed.error is not None
    assert failed.error["code"] == "engine_error"
    for reading in waited:
        assert (reading.error, reading.text) == (None, ANSWER)


def test_a_killed_process_with_a_template_costs_those_that_have_begun(serve_kind: ServeKind) -> None:
    server = serve_kind(models.GLM_4_5)
    running, waited = kill_with_four_running_and_four_waiting(server, [ask(**ENDLESS)] * 4)
    for reading in running:
        assert reading.error is not None
        assert "stopped while it worked" in reading.error["message"]
        assert reading.status == 200
    for reading in waited:
        assert reading.error is None
        assert reading.text.endswith(ANSWER)
        assert "data: [DONE]" in reading.lines


def test_the_place_of_a_client_that_leaves_goes_to_the_next(serve_kind: ServeKind) -> None:
    server = serve_kind(GLM_4)
    leaving, *others = begin(server, *[ask(**ENDLESS)] * 4)
    pid = server.children()["pipeline"]
    os.kill(pid, signal.SIGSTOP)
    next_one = Reading(server, ask())
    until(lambda: queue(server) == (4, 1))
    os.kill(pid, signal.SIGCONT)
    leaving.leave()
    assert next_one.join().text == ANSWER
    texts = {reading.join().text for reading in others}
    assert len(texts) == 1
    assert len(texts.pop()) > len(leaving.text)
    assert all("data: [DONE]" in reading.lines and reading.error is None for reading in others)
    until(lambda: queue(server) == (0, 0))
    assert restarts(server) == 0
    server.stop()
    log = server.log.read_text()
    logged = re.findall(rf"route={CHAT} status=(\d+)", log)
    assert sorted(logged) == ["200"] * 4 + ["499"]


def test_running_answers_end_after_sigterm_and_new_requests_are_refused(serve_kind: ServeKind) -> None:
    server = serve_kind(models.GLM_4_5)
    readings = begin(server, *[ask(**ENDLESS)] * 4)
    # A connection that is open already: the listener may be closed at once.
    assert server.health() == 200
    server.process.send_signal(signal.SIGTERM)
    until(lambda: "shutting down" in server.http.get("/health").text)
    refused = server.http.post(CHAT, json=ask())
    assert refused.status_code == 503
    for reading in readings:
        reading.join()
        assert reading.error is None
        assert "data: [DONE]" in reading.lines
    assert server.process.wait(PATIENCE) == 0


def test_a_reload_changes_the_name_and_loses_no_answer(serve_kind: ServeKind, tmp_path: Path) -> None:
    env_file = tmp_path / "glm.env"
    env_file.write_text("GLM_MODEL_NAME=before\n")
    server = serve_kind(models.GLM_4_5, env_file=str(env_file), graceful_timeout="120")
    [old_worker] = server.workers()
    readings = begin(server, *[ask(**ENDLESS)] * 4)
    env_file.write_text("GLM_MODEL_NAME=after\n")
    server.process.send_signal(signal.SIGHUP)
    for reading in readings:
        assert reading.join().error is None
        assert "data: [DONE]" in reading.lines
        assert '"model":"before"' in reading.lines[0]
    until(lambda: server.workers() not in ([], [old_worker]) and server.health() == 200)
    assert [model["id"] for model in server.http.get("/v1/models").json()["data"]] == ["after"]
    assert answer_of(server.http.post(CHAT, json=ask()))["content"] == ANSWER


@pytest.mark.parametrize("kind", [GLM_4, models.GLM_4_5], ids=lambda kind: kind.name)
def test_64_clients_are_all_answered_in_order_of_arrival(kind: Kind, serve_kind: ServeKind) -> None:
    server = serve_kind(kind, queue_size="100")
    pid = server.children()["pipeline"]
    # They would go on for longer than the others take to arrive, however busy the machine is.
    first = begin(server, *[ask(f"{number}", **ENDLESS | {"max_tokens": 3900, "n": 4}) for number in range(4)])
    readings = [Reading(server, ask(f"{number}")) for number in range(60)]
    until(lambda: queue(server) == (4, 60))
    told = server.http.get("/queue").json()
    assert [slot["is_processing"] for slot in server.http.get("/slots").json()] == [True] * 4
    assert [waiting["position"] for waiting in told["waiting"]] == list(range(1, 61))
    ids = [one["id"] for one in told["running"]] + [one["id"] for one in told["waiting"]]
    assert ids == sorted(ids)
    for reading in first:
        reading.leave()
    for reading in readings:
        assert reading.join().error is None
        assert reading.text.endswith(ANSWER)
    assert queue(server) == (0, 0)
    assert server.children()["pipeline"] == pid


# --- thinking, tools and structured answers ---


@THINKING
def test_thinking_is_told_apart_by_openais_client(kind: Kind, serve_kind: ServeKind) -> None:
    client = serve_kind(kind).sdk()
    body: dict[str, Any] = {"model": kind.name, **ask()}
    whole = client.chat.completions.create(**body)
    message = whole.choices[0].message
    assert message.content == ANSWER
    assert message.model_extra is not None
    assert message.model_extra["reasoning_content"].strip() == THOUGHT
    assert whole.usage is not None
    assert whole.usage.completion_tokens_details is not None
    thought_tokens = whole.usage.completion_tokens_details.reasoning_tokens
    assert thought_tokens is not None
    assert 0 < thought_tokens < whole.usage.completion_tokens

    chunks = list(client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == ANSWER
    thoughts = [(delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas]
    assert "".join(thoughts).strip() == THOUGHT
    assert chunks[-1].usage == whole.usage.model_copy(
        update={"prompt_tokens_details": chunks[-1].usage and chunks[-1].usage.prompt_tokens_details}
    )


@THINKING
def test_a_response_has_its_reasoning_as_an_item(kind: Kind, serve_kind: ServeKind) -> None:
    client = serve_kind(kind).sdk()
    whole = client.responses.create(model=kind.name, input="Hello", temperature=0)
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert whole.output_text == ANSWER
    assert whole.usage is not None
    assert 0 < whole.usage.output_tokens_details.reasoning_tokens < whole.usage.output_tokens
    events = list(client.responses.create(model=kind.name, input="Hello", temperature=0, stream=True))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == ANSWER
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    thought = "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
    assert (text, thought.strip()) == (ANSWER, THOUGHT)


@THINKING
def test_a_message_of_anthropics_api_has_its_thinking_as_a_block(kind: Kind, serve_kind: ServeKind) -> None:
    server = serve_kind(kind)
    body = ask(max_tokens=200, thinking={"type": "enabled", "budget_tokens": 1024})
    whole = server.http.post("/v1/messages", json=body).json()
    thinking, text = whole["content"]
    assert (thinking["type"], thinking["thinking"].strip(), text["text"]) == ("thinking", THOUGHT, ANSWER)
    usage = whole["usage"]
    assert 0 < usage["output_tokens_details"]["thinking_tokens"] < usage["output_tokens"]
    counted = server.http.post("/v1/messages/count_tokens", json=body).json()
    assert counted == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}

    lines = server.http.post("/v1/messages", json={**body, "stream": True}).text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == ANSWER
    assert "".join(delta.get("thinking", "") for delta in deltas).strip() == THOUGHT
    assert events[-2]["usage"]["output_tokens_details"] == usage["output_tokens_details"]


@CALLING
def test_calls_are_made_and_their_results_read_in_anthropics_api(kind: Kind, serve_kind: ServeKind) -> None:
    server = serve_kind(kind)
    function = WEATHER["function"]
    assert isinstance(function, dict)
    tool = {"name": function["name"], "input_schema": function["parameters"]}
    body = ask(max_tokens=200, tools=[tool])
    called = server.http.post("/v1/messages", json=body).json()
    [use] = [block for block in called["content"] if block["type"] == "tool_use"]
    assert (use["name"], use["input"], called["stop_reason"]) == ("get_weather", {"city": "Paris"}, "tool_use")
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": [{"type": "text", "text": "rain"}]}
    body["messages"] += [{"role": "assistant", "content": called["content"]}, {"role": "user", "content": [result]}]
    assert server.http.post("/v1/messages", json=body).json()["content"][-1]["text"] == "It rains there!"


@pytest.mark.parametrize(
    "silent",
    [
        {"thinking": {"type": "disabled"}},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning_effort": "none"},
    ],
    ids=lambda silent: next(iter(silent)),
)
def test_thinking_is_turned_off(silent: dict[str, Any], serve_kind: ServeKind) -> None:
    server = serve_kind(models.GLM_4_5)
    prompts = [server.http.post("/apply-template", json={**ask(), **more}).json()["prompt"] for more in ({}, silent)]
    assert ["</think>" in prompt for prompt in prompts] == [False, True]
    for stream in (False, True):
        assert server.http.post(CHAT, json=ask(stream=stream, **silent)).status_code == 200


@CALLING
def test_calls_are_made_and_their_results_read(kind: Kind, serve_kind: ServeKind) -> None:
    server = serve_kind(kind)
    client = server.sdk()
    body: dict[str, Any] = {"model": kind.name, **ask(tools=[WEATHER])}
    whole = client.chat.completions.create(**body).choices[0]
    assert whole.finish_reason == "tool_calls"
    [call] = whole.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})

    chunks = list(client.chat.completions.create(**body, stream=True))
    pieces = [
        call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or [] if call.function
    ]
    assert [piece.function.name for piece in pieces if piece.function and piece.function.name] == ["get_weather"]
    arguments = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
    assert json.loads(arguments) == {"city": "Paris"}
    assert {piece.index for piece in pieces} == {0}
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "tool_calls"

    body["messages"] += [whole.message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert client.chat.completions.create(**body).choices[0].message.content == "It rains there!"


@EACH
def test_a_schema_is_kept(kind: Kind, serve_kind: ServeKind) -> None:
    server = serve_kind(kind)
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "s": {"enum": ["yes", "no"]}},
        "required": ["n", "s"],
        "additionalProperties": False,
    }
    format = {"type": "json_schema", "json_schema": {"name": "found", "schema": schema, "strict": True}}
    body = ask(response_format=format, max_tokens=500)
    whole = server.http.post(CHAT, json=body)
    found = json.loads(answer_of(whole)["content"])
    assert isinstance(found["n"], int)
    assert found["s"] in ("yes", "no")
    [streamed] = begin(server, body)
    assert streamed.join().text.endswith(answer_of(whole)["content"])


@EACH
def test_texts_and_prompts_are_tokens(kind: Kind, serve_kind: ServeKind) -> None:
    server = serve_kind(kind)
    prompt = server.http.post("/apply-template", json=ask()).json()
    assert prompt["prompt"].endswith(("<|assistant|>", "<|assistant|>\n", "<think>", "<think>\n"))
    ids = server.http.post("/tokenize", json={"content": "Hello, 你好🎉"}).json()["tokens"]
    assert server.http.post("/detokenize", json={"tokens": ids}).json()["content"] == "Hello, 你好🎉"
    for raw in (prompt["tokens"], "Hello"):
        body = {"prompt": raw, "max_tokens": 8, "temperature": 0}
        whole = server.http.post("/v1/completions", json=body)
        assert whole.status_code == 200
        assert 0 < whole.json()["usage"]["completion_tokens"] <= 8
        lines = server.http.post("/v1/completions", json={**body, "stream": True}).text.splitlines()
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
        text = "".join(choice["text"] for event in events for choice in event["choices"])
        assert text == whole.json()["choices"][0]["text"]
        assert "data: [DONE]" in lines


# --- images ---


def test_images_are_shown_to_a_model_with_a_projector_and_never_fetched(
    serve_kind: ServeKind, tmp_path: Path, listener: Listener
) -> None:
    server = serve_kind(models.GLM_4_1V, mmproj=str(write_projector(tmp_path / "mmproj.gguf")))
    body = {**shows(data_uri("PNG")), "max_tokens": 100}
    assert answer_of(server.http.post(CHAT, json=body))["content"] == "A picture!"
    [streamed] = begin(server, body)
    assert streamed.join().text.endswith("A picture!")
    assert answer_of(server.http.post(CHAT, json=ask()))["content"] == ANSWER
    for url in (f"http://127.0.0.1:{listener.port}/cat.png", "file:///etc/passwd"):
        for stream in (False, True):
            refused = server.http.post(CHAT, json={**shows(url), "stream": stream})
            assert refused.status_code == 400
            assert refused.json()["error"]["type"] == "invalid_request_error"
    assert not listener.heard()
    assert restarts(server) == 0


def test_images_are_refused_without_a_projector(serve_kind: ServeKind) -> None:
    server = serve_kind(models.GLM_4_1V)
    for stream in (False, True):
        refused = server.http.post(CHAT, json={**shows(data_uri("PNG")), "stream": stream})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "messages.0.content"
    assert answer_of(server.http.post(CHAT, json=ask()))["content"] == ANSWER


# --- files ---


def cut(folder: Path) -> dict[str, str]:
    path = models.write_model(folder / "bad.gguf", models.GLM_4_5)
    os.truncate(path, path.stat().st_size - 1000)
    return {"model": str(path)}


def cut_header(folder: Path) -> dict[str, str]:
    path = models.write_model(folder / "bad.gguf", models.GLM_4_5)
    os.truncate(path, 1000)
    return {"model": str(path)}


def of_unknown_architecture(folder: Path) -> dict[str, str]:
    path = models.write_model(folder / "bad.gguf", models.GLM_4_5)
    # All keys have it too, so the names stay as long.
    path.write_bytes(path.read_bytes().replace(b"glm4moe", b"glm9moe"))
    return {"model": str(path)}


def with_a_projector_of_another_width(folder: Path) -> dict[str, str]:
    path = models.write_model(folder / "bad.gguf", models.GLM_4_1V)
    return {"model": str(path), "mmproj": str(write_projector(folder / "mmproj.gguf", hidden=96))}


def with_a_model_as_projector(folder: Path) -> dict[str, str]:
    path = models.write_model(folder / "bad.gguf", models.GLM_4_1V)
    return {"model": str(path), "mmproj": str(path)}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (cut, "ends too early: the download or copy is incomplete"),
        (cut_header, "ends too early: the download or copy is incomplete"),
        (of_unknown_architecture, "unknown model architecture: 'glm9moe'"),
        (with_a_projector_of_another_width, "mismatch between text model"),
        (with_a_model_as_projector, "bad.gguf"),
    ],
)
def test_a_file_that_cannot_be_served_is_told_in_one_line(
    make: Callable[[Path], dict[str, str]], said: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve(ready=False, **make(tmp_path))

    def tries() -> float:
        lines = server.http.get("/metrics").text.splitlines()
        return sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith("glm_pipeline_restarts_total{") and 'cause="load_failed"' in line
        )

    until(lambda: server.health() == 503 and tries() >= 3)
    told = server.http.get("/health").json()["error"]["message"]
    assert said in told
    assert "\n" not in told
    assert str(tmp_path) not in told
    assert server.http.get("/livez").status_code == 200
    assert server.http.post(CHAT, json=ask()).status_code == 503
    # Each process says it once, however often it tries.
    log = server.log.read_text()
    assert log.count(said) <= 2
    assert "Traceback" not in log
    assert server.stop() == 0


def test_a_bin_file_is_repacked_at_the_first_boot_only(serve: Serve, tmp_path: Path) -> None:
    answers, times = [], []
    for _ in range(2):
        server = serve(engine="llama-cpp", **demo_on("llama-cpp", tmp_path))
        [repacked] = tmp_path.glob("*.gguf")
        times.append(repacked.stat().st_mtime_ns)
        answers.append(answer_of(server.http.post(CHAT, json=ask("hello")))["content"])
        server.stop()
    assert times[0] == times[1]
    assert answers[0] == answers[1]
    original = serve(model=str(DEMO_MODEL))
    assert answer_of(original.http.post(CHAT, json=ask("hello")))["content"] == answers[0]


def test_a_bin_file_in_a_folder_that_cannot_be_written_is_repacked_to_the_cache(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "models"
    folder.mkdir()
    settings = demo_on("llama-cpp", folder)
    folder.chmod(0o500)
    if os.geteuid() == 0:
        # The modes of folders stop root only without this capability.
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec setpriv --bounding-set -dac_override {sys.executable} "$@"\n')
        python.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(python))
    server = serve(engine="llama-cpp", **settings)
    assert not list(folder.glob("*.gguf"))
    [repacked] = tmp_path.glob("cache/**/*.gguf")
    assert repacked.stat().st_size
    assert answer_of(server.http.post(CHAT, json=ask("hello")))["content"]


@pytest.mark.parametrize(("family", "said"), [("chatglm", "ChatGLM-6B"), ("glm4v", "GLM-4V")])
def test_a_bin_file_that_cannot_be_repacked_ends_the_boot_with_one_line(
    family: str, said: str, serve: Serve, model_file: Callable[[str], Path]
) -> None:
    server = serve(ready=False, model=str(model_file(family)), backend="llama-cpp")
    assert server.process.wait(PATIENCE) != 0
    [line] = [line for line in server.log.read_text().splitlines() if said in line]
    assert "GLM_MODEL" in line
    assert "GLM_BACKEND=chatglm-cpp" in line
    assert "Traceback" not in server.log.read_text()
