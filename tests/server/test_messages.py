"""What clients send in a conversation, and what they get back, from the demo model on each engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.server import Server, chat

QUESTION = {"role": "user", "content": "What is the weather in Paris?"}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "Get the weather.", "parameters": CITY}}


def calls_of(completion: dict[str, Any]) -> list[tuple[str, object]]:
    calls = completion["choices"][0]["message"].get("tool_calls", [])
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


def prompt(server: Server, *messages: dict[str, Any], **parameters: Any) -> str:
    answer = server.http.post("/apply-template", json={"messages": messages, **parameters})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["prompt"])


def test_a_call_without_arguments_is_one_with_an_empty_object(demo: Server) -> None:
    def called(**arguments: Any) -> str:
        call = {"id": "c1", "type": "function", "function": {"name": "now", **arguments}}
        result = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
        return prompt(demo, QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}, result)

    expected = called(arguments="{}")
    assert "tool_call()" in expected
    assert [called(arguments=""), called(arguments="null"), called(arguments=None), called()] == [expected] * 4
    now = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
    answer = demo.http.post("/v1/chat/completions", json=chat("What time?", tools=[now], tool_choice="required"))
    calls = answer.json()["choices"][0]["message"]["tool_calls"]
    assert calls[0]["function"] == {"name": "now", "arguments": "{}"}


def test_words_of_two_text_parts_do_not_run_together(demo: Server) -> None:
    parts = [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": "of France?"}]
    whole = "What is the capital\nof France?"
    for role in ("system", "user", "assistant"):
        said = prompt(demo, {"role": role, "content": parts}, QUESTION)
        assert whole in said
        assert said == prompt(demo, {"role": role, "content": whole}, QUESTION)


def test_an_empty_last_assistant_message_changes_nothing(demo: Server) -> None:
    question, empty = chat("What is the weather in Paris?", tools=[tool("get_weather")]), {"role": "assistant"}
    with_empty = {**question, "messages": [*question["messages"], {**empty, "content": ""}]}
    first, second = (demo.http.post("/v1/chat/completions", json=body).json() for body in (question, with_empty))
    assert second["choices"][0]["finish_reason"] == "tool_calls"
    assert calls_of(second) == calls_of(first) == [("get_weather", {"city": "Paris"})]
    assert second["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"]


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_only_an_allowed_tool_is_called(demo: Server, mode: str) -> None:
    named = [{"type": "function", "function": {"name": "get_weather"}}]
    chosen = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}
    asked = chat("What is the weather in Paris?", tools=[tool("look_up"), tool("get_weather")], tool_choice=chosen)
    completion = demo.http.post("/v1/chat/completions", json=asked).json()
    assert calls_of(completion)[0] == ("get_weather", {"city": "Paris"})
    shown = prompt(demo, QUESTION, tools=asked["tools"], tool_choice=chosen)
    assert "look_up" not in shown


NAMES = ["weather.get", "mcp://weather/get", "查天气", "Get weather", "get_weather", "weather_get"]


def test_calls_carry_the_names_of_the_client(demo: Server) -> None:
    tools = [tool(name) for name in NAMES]
    for name in NAMES:
        chosen = {"type": "function", "function": {"name": name}}
        asked = chat("What is the weather in Paris?", tools=tools, tool_choice=chosen)
        completion = demo.http.post("/v1/chat/completions", json=asked).json()
        assert calls_of(completion) == [(name, {"city": "Paris"})]
        streamed = demo.http.post("/v1/chat/completions", json={**asked, "stream": True}).text
        chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        told = [call["function"].get("name") for delta in deltas for call in delta.get("tool_calls", [])]
        assert [said for said in told if said] == [name]
        # The history of the next turn has it too.
        message = completion["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "rain"}
        said = {**asked, "messages": [*asked["messages"], message, result], "tool_choice": "auto"}
        assert demo.http.post("/v1/chat/completions", json=said).status_code == 200
    flat = [{"type": "function", **entry["function"]} for entry in tools]
    asked = {"input": "What is the weather in Paris?", "tools": flat, "temperature": 0}
    chosen = {"type": "function", "name": "查天气"}
    (called,) = demo.http.post("/v1/responses", json={**asked, "tool_choice": chosen}).json()["output"]
    assert (called["type"], called["name"]) == ("function_call", "查天气")
    legacy = {"functions": [entry["function"] for entry in tools], "function_call": {"name": "weather.get"}}
    answer = demo.http.post("/v1/chat/completions", json=chat("What is the weather in Paris?", **legacy)).json()
    assert answer["choices"][0]["message"]["function_call"]["name"] == "weather.get"


def test_the_model_is_told_names_that_it_can_say(demo: Server) -> None:
    shown = prompt(demo, QUESTION, tools=[tool("weather.get"), tool("get_weather")])
    assert '"name": "weather_get"' in shown
    assert '"name": "get_weather"' in shown
    assert "weather.get: Get the weather." in shown


def assistant_id(server: Server) -> int:
    """The id that begins a further message of the model in one answer."""
    ids = server.http.post("/apply-template", json={"messages": [QUESTION]}).json()["tokens"]
    return int(ids[-1])


def test_an_answer_makes_two_calls_unless_it_must_not(demo: Server) -> None:
    # The demo model makes one call at a time, so it is made to go on behind each.
    asked = chat(
        "What is the weather in Paris?",
        tools=[tool("get_weather")],
        tool_choice="required",
        logit_bias={str(assistant_id(demo)): 100},
        max_tokens=60,
    )
    completion = demo.http.post("/v1/chat/completions", json=asked).json()
    calls = completion["choices"][0]["message"]["tool_calls"]
    assert len(calls) >= 2
    assert len({call["id"] for call in calls}) == len(calls)
    alone = demo.http.post("/v1/chat/completions", json={**asked, "parallel_tool_calls": False}).json()
    assert calls_of(alone) == [("get_weather", {"city": "Paris"})]
    assert alone["choices"][0]["finish_reason"] == "tool_calls"
