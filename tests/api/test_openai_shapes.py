"""Requests that fit OpenAI's component schemas are understood, and the answers fit them too."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from flask.testing import FlaskClient

from glm_api.api import examples
from glm_api.backend.errors import EngineError, QueueFull
from tests.support import openai_shapes as shapes
from tests.support.client import CHAT, HELLO, chunks
from tests.support.fake_pipeline import FakePipeline, Script, call, reasoning, text

COMPLETIONS = "/v1/completions"
CHAT_BODY: dict[str, Any] = {"model": "x", "messages": HELLO}
TEXT_BODY: dict[str, Any] = {"model": "x", "prompt": "Hi"}
TOOL = {"tools": [examples.WEATHER]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
HISTORY = examples.REQUESTS["result"]["value"]["messages"]
CALLED: Script = [*text("Well. "), *call("get_weather", '{"city": ', '"Beijing"}')]

CHATS: list[tuple[dict[str, Any], Script]] = [
    ({}, text("Hel", "lo")),
    ({}, []),
    ({"logprobs": True, "top_logprobs": 2}, text("你", "好")),
    ({"logprobs": True}, []),
    ({"n": 2}, text("Hi")),
    (TOOL, CALLED),
    ({**TOOL, "tool_choice": "required"}, CALLED[1:]),
    ({**TOOL, "tool_choice": {"type": "function", "function": {"name": "get_weather"}}}, CALLED[1:]),
    ({**TOOL, "parallel_tool_calls": False, "logprobs": True}, CALLED),
    ({"functions": [examples.WEATHER["function"]], "function_call": "auto"}, CALLED[1:]),
    ({"functions": [examples.WEATHER["function"]], "function_call": {"name": "get_weather"}}, CALLED[1:]),
    ({**TOOL, "messages": HISTORY}, text("Sunny.")),
    ({"response_format": {"type": "json_object"}}, text("{}")),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}}, text('{"a":1}')),
    ({"reasoning_effort": "high"}, [*reasoning("Hm"), *text("Hi")]),
    ({"reasoning_effort": "high"}, [*reasoning("Hm")]),
    ({"temperature": 0, "top_p": 1, "seed": 1, "stop": ["a", "b"], "logit_bias": {"5": -100}}, text("Hi")),
    ({"presence_penalty": 1.5, "frequency_penalty": -2, "max_completion_tokens": 5, "user": "u"}, text("Hi")),
    (
        dict.fromkeys(
            "temperature top_p presence_penalty frequency_penalty logit_bias seed n max_tokens stop stream_options "
            "max_completion_tokens logprobs top_logprobs reasoning_effort verbosity modalities metadata store "
            "service_tier".split()
        ),
        text("Hi"),
    ),
    (
        {
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "Ann"},
                {"role": "assistant", "content": "Hello", "refusal": None},
                {"role": "user", "content": "And?"},
            ]
        },
        text("Hi"),
    ),
    ({"metadata": {"a": "b"}, "safety_identifier": "s", "prompt_cache_key": "k", "modalities": ["text"]}, text("Hi")),
]
TEXTS: list[dict[str, Any]] = [
    {},
    {"n": 2, "max_tokens": 5, "stop": "x", "seed": 1},
    {"logprobs": 2},
    {"logprobs": 0, "echo": True, "max_tokens": 0},
    {"logprobs": 1, "echo": True},
    {"prompt": [72, 105]},
    {"prompt": ["Hi", "Ho"]},
    {"prompt": [[72], [105]], "logprobs": 1},
    {"suffix": None, "best_of": 1, "user": "u"},
]


@pytest.mark.parametrize(("more", "script"), CHATS)
def test_a_chat_fits(client: FlaskClient, fake: FakePipeline, more: dict[str, Any], script: Script) -> None:
    fake.thinks()
    fake.scripts = [script]
    body = {**CHAT_BODY, **more}
    shapes.validate(body, shapes.CHAT_COMPLETION_REQUEST)
    response = client.post(CHAT, json=body)
    assert response.status_code == 200, response.text
    shapes.validate(response.get_json(), shapes.CHAT_COMPLETION)
    streamed = chunks(client.post(CHAT, json={**body, "stream": True}))
    counted = chunks(client.post(CHAT, json={**body, "stream": True, "stream_options": {"include_usage": True}}))
    for chunk in (*streamed, *counted):
        shapes.validate(chunk, shapes.CHAT_COMPLETION_CHUNK)


@pytest.mark.parametrize("more", TEXTS)
def test_a_completion_fits(client: FlaskClient, more: dict[str, Any]) -> None:
    body = {**TEXT_BODY, **more}
    shapes.validate(body, shapes.COMPLETION_REQUEST)
    response = client.post(COMPLETIONS, json=body)
    assert response.status_code == 200, response.text
    shapes.validate(response.get_json(), shapes.COMPLETION)
    streamed = chunks(client.post(COMPLETIONS, json={**body, "stream": True}))
    counted = chunks(client.post(COMPLETIONS, json={**body, "stream": True, "stream_options": {"include_usage": True}}))
    for chunk in (*streamed, *counted):
        shapes.validate(chunk, shapes.COMPLETION_CHUNK)


@pytest.mark.parametrize("example", examples.REQUESTS.values(), ids=examples.REQUESTS.keys())
def test_the_examples_in_the_document_are_requests_to_openai_too(example: dict[str, Any]) -> None:
    shapes.validate(example["value"], shapes.CHAT_COMPLETION_REQUEST)


def test_errors_fit(client: FlaskClient, fake: FakePipeline) -> None:
    answers = [client.post(CHAT, json={}), client.get("/v1/nothing"), client.get(CHAT), client.post(CHAT, data="x")]
    for refusal in (QueueFull("Full."), EngineError("It died.")):
        fake.refusal = refusal
        answers.append(client.post(CHAT, json=CHAT_BODY))
    assert [answer.status_code for answer in answers] == [400, 404, 405, 415, 429, 500]
    for answer in answers:
        shapes.validate(answer.get_json(), shapes.ERROR)


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        (shapes.CHAT_COMPLETION, {**examples.COMPLETION, "choices": [{"index": 0, "finish_reason": "stop"}]}),
        (shapes.CHAT_COMPLETION_CHUNK, {**examples.CHUNK, "choices": [{"index": 0, "finish_reason": "ended"}]}),
        (shapes.CHAT_COMPLETION_REQUEST, {"model": "x", "messages": [{"role": "user"}]}),
    ],
)
def test_the_shapes_refuse_what_does_not_fit(shape: shapes.Shape, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        shapes.validate(value, shape)
