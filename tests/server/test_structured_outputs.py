"""The demo model, which is far too small to know JSON, answers with JSON and calls that fit, at any temperature."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.support.schemas import KINDS, random_parameters
from tests.support.server import Server, chat


@pytest.mark.parametrize(("number", "kind"), list(enumerate(KINDS)))
def test_json_of_each_kind_fits_or_is_cut(demo: Server, number: int, kind: str) -> None:
    format = {"type": "json_schema", "json_schema": {"name": "f", "schema": KINDS[kind]}}
    asked = chat("Reply in JSON: who are you?", max_tokens=150, temperature=number % 3, response_format=format)
    answer = demo.http.post("/v1/chat/completions", json={**asked, "seed": 1})
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    if choice["finish_reason"] == "stop":
        jsonschema.validate(json.loads(choice["message"]["content"]), KINDS[kind])
    else:
        assert choice["finish_reason"] == "length"


@pytest.mark.parametrize("seed", range(9))
def test_calls_fit_or_are_cut(demo: Server, seed: int) -> None:
    functions = {f"f{number}": random_parameters(seed * 10 + number) for number in range(2)}
    tools = [{"type": "function", "function": {"name": name, "parameters": functions[name]}} for name in functions]
    choices: list[Any] = ["required", {"type": "function", "function": {"name": "f1"}}, "auto"]
    for tool_choice in choices:
        asked = chat("What is the weather in Paris?", max_tokens=150, temperature=seed % 3, tools=tools)
        answer = demo.http.post("/v1/chat/completions", json={**asked, "tool_choice": tool_choice, "seed": seed})
        assert answer.status_code == 200, answer.text
        (choice,) = answer.json()["choices"]
        message, calls = choice["message"], choice["message"].get("tool_calls", [])
        if tool_choice != "auto":
            assert not message["content"]
        if choice["finish_reason"] == "length":
            continue
        assert choice["finish_reason"] == ("tool_calls" if calls else "stop")
        assert calls or tool_choice == "auto"
        for call in calls:
            jsonschema.validate(json.loads(call["function"]["arguments"]), functions[call["function"]["name"]])


@pytest.mark.parametrize(
    ("demand", "answers"),
    [({"choice": ["yes", "no"]}, ("yes", "no")), ({"regex": "[ab]{2}"}, ("aa", "ab", "ba", "bb"))],
)
def test_a_chat_and_a_completion_are_what_was_asked_for(
    demo: Server, demand: dict[str, Any], answers: tuple[str, ...]
) -> None:
    structured = {"structured_outputs": demand}
    chosen = demo.http.post("/v1/chat/completions", json=chat("Hello", **structured)).json()["choices"][0]
    assert chosen["message"]["content"] in answers
    raw = demo.http.post("/v1/completions", json={"prompt": "Hello", **structured}).json()["choices"][0]
    assert raw["text"] in answers


def test_what_cannot_be_enforced_is_refused_before_the_first_byte(demo: Server) -> None:
    multiples = {"allOf": [{"type": "integer", "multipleOf": prime} for prime in (7, 11, 13, 17, 19, 23)]}
    for schema, reason in (({"not": {}}, "not"), (multiples, "too long")):
        format = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
        for stream in (False, True):
            asked = chat("Hello", response_format=format, stream=stream)
            answer = demo.http.post("/v1/chat/completions", json=asked)
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "response_format.json_schema.schema"
            assert reason in answer.json()["error"]["message"]
    assert set(demo.children()) == {"pipeline", "tokenizer"}
