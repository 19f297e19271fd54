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


def test_an_answer_for_which_no_allowed_token_is_left_is_cut(demo: Server) -> None:
    asked = chat("Hello", allowed_token_ids=[5, 6], response_format={"type": "json_object"})
    answer = demo.http.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "")
    assert "An answer ended early: no token may follow." in demo.log.read_text()


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


WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.parametrize("tool_choice", ["auto", "required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_call_that_is_cut_shows_none_of_its_syntax(demo: Server, tool_choice: Any) -> None:
    tools = [{"type": "function", "function": {"name": n, "parameters": WEATHER}} for n in ("get_weather", "get_time")]
    lengths = []
    for most in range(1, 14):
        asked = chat("What is the weather in Paris?", max_tokens=most, tools=tools, tool_choice=tool_choice)
        (choice,) = demo.http.post("/v1/chat/completions", json=asked).json()["choices"]
        message = choice["message"]
        assert not message["content"]
        calls = [call["function"] for call in message.get("tool_calls", [])]
        assert [call["name"] for call in calls] in ([], ["get_weather"])
        lengths.append(sum(len(call["arguments"]) for call in calls))
        if choice["finish_reason"] != "length":
            assert choice["finish_reason"] == "tool_calls"
            assert json.loads(calls[0]["arguments"]) == {"city": "Paris"}
            assert most > 3
            break
        deltas = [choice["delta"] for choice in streamed(demo, asked)]
        assert not any(delta.get("content") for delta in deltas)
        parts = [call["function"] for delta in deltas for call in delta.get("tool_calls", [])]
        assert "".join(part["arguments"] for part in parts) == "".join(call["arguments"] for call in calls)
        assert [part["name"] for part in parts if "name" in part] == [call["name"] for call in calls]
    assert lengths == sorted(lengths)
    assert lengths[-1] == len('{"city": "Paris"}')


def streamed(server: Server, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of all chunks of a chat completion."""
    answer = server.http.post("/v1/chat/completions", json={**asked, "stream": True})
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return [choice for event in events for choice in json.loads(event)["choices"]]


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
