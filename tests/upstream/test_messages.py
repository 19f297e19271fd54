"""Anthropic's API of an upstream, passed on as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.client import HELLO
from tests.support.upstream.relayed import MakeClient, metric
from tests.support.upstream.scripted import Script, ScriptedUpstream, body

MESSAGES = "/v1/messages"
USAGE = {"input_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 1, "output_tokens": 4}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "big-glm",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "usage": {**USAGE, "output_tokens": 0}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
    {"type": "message_stop"},
]


def typed(*payloads: dict[str, Any]) -> bytes:
    return b"".join(f"event: {one['type']}\ndata: ".encode() + json.dumps(one).encode() + b"\n\n" for one in payloads)


def stream(*payloads: dict[str, Any]) -> Script:
    return Script([typed(*payloads)], headers={"Content-Type": "text/event-stream"})


def ask(client: FlaskClient, **more: Any) -> Any:
    return client.post(MESSAGES, json={"max_tokens": 5, "messages": HELLO, **more}, buffered=True)


def told(text: str) -> list[tuple[str, Any]]:
    """Return the names and the data of a stream's events."""
    blocks = [block.split("\n") for block in text.split("\n\n") if block]
    return [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in blocks]


def test_a_message_comes_back_as_it_is(client: FlaskClient, upstream: ScriptedUpstream) -> None:
    upstream.script = body(MESSAGE)
    assert ask(client, system="Be brief.").get_json() == MESSAGE
    [(path, _, asked)] = upstream.asked
    assert (path, asked) == (MESSAGES, {"max_tokens": 5, "messages": HELLO, "system": "Be brief.", "model": "big-glm"})
    assert metric(client, "glm_prompt_tokens_total") == 6


def test_a_stream_comes_back_as_it_is(client: FlaskClient, upstream: ScriptedUpstream) -> None:
    upstream.script = stream(*EVENTS)
    assert told(ask(client, stream=True).text) == [(event["type"], event) for event in EVENTS]
    # OpenAI's option is none of this API.
    assert "stream_options" not in upstream.asked[0][2]
    assert (metric(client, "glm_prompt_tokens_total"), metric(client, "glm_generation_tokens_total")) == (6, 4)


def test_tokens_are_counted(client: FlaskClient, upstream: ScriptedUpstream) -> None:
    upstream.script = body({"input_tokens": 7})
    got = client.post(f"{MESSAGES}/count_tokens", json={"messages": HELLO, "stream": True})
    assert got.get_json() == {"input_tokens": 7}
    assert upstream.asked[0][0] == f"{MESSAGES}/count_tokens"


def test_the_model_has_the_name_that_clients_know(make: MakeClient, upstream: ScriptedUpstream) -> None:
    client = make(upstream_models=(("glm", "big-glm"),))
    upstream.script = stream(*EVENTS)
    assert told(ask(client, stream=True).text)[0][1]["message"]["model"] == "glm"


@pytest.mark.parametrize("end", [b"", b'data: {"error": {"message": "No memory"}}\n\n'], ids=["cut", "error"])
def test_a_stream_that_breaks_ends_in_anthropics_error(
    client: FlaskClient, upstream: ScriptedUpstream, end: bytes
) -> None:
    upstream.script = Script([typed(*EVENTS[:3]), end])
    name, last = told(ask(client, stream=True).text)[-1]
    assert (name, last["type"], last["error"]["type"]) == ("error", "error", "api_error")


def test_an_error_in_a_stream_is_passed_on(client: FlaskClient, upstream: ScriptedUpstream) -> None:
    failure = {"type": "error", "error": {"type": "overloaded_error", "message": "Try http://10.0.0.1:80 later"}}
    upstream.script = stream(EVENTS[0], failure)
    [_, (name, last)] = told(ask(client, stream=True).text)
    assert (name, last["error"]["type"]) == ("error", "overloaded_error")
    assert "10.0.0.1" not in last["error"]["message"]


def test_an_upstream_without_this_api_is_told_in_anthropics_envelope(
    client: FlaskClient, upstream: ScriptedUpstream
) -> None:
    upstream.script = body({"detail": "Not Found"}, 404)
    answer = ask(client)
    found = answer.get_json()
    assert (answer.status_code, found["type"], found["error"]["type"]) == (404, "error", "not_found_error")
    assert found["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize("streamed", [False, True])
def test_openais_error_for_a_prompt_over_the_context_is_told_in_anthropics_envelope(
    client: FlaskClient, upstream: ScriptedUpstream, streamed: bool
) -> None:
    failure = {"error": {"message": "Too long.", "code": "context_length_exceeded", "param": None}}
    upstream.script = body(failure, 400)
    answer = ask(client, stream=streamed)
    assert (answer.status_code, answer.get_json()["error"]["message"]) == (400, "Too long.")
    upstream.script = Script([typed(EVENTS[0]), b"data: " + json.dumps(failure).encode() + b"\n\n"])
    assert told(ask(client, stream=True).text)[-1][1]["error"]["message"] == "Too long."
