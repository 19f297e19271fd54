"""Tools: declared tools reach the model, and an invalid declaration is refused with its path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from glm_api.pipeline.conversation import Conversation, Tool, ToolChoice
from tests.support.client import CHAT, HELLO, refused
from tests.support.fake_pipeline import FakePipeline

PARAMETERS = {"type": "object", "properties": {"城市": {"type": "string"}}, "required": ["城市"]}


def tool(name: str = "get_weather", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def allowed(*names: str, mode: str = "auto") -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def conversation(client: FlaskClient, fake: FakePipeline, **parameters: Any) -> Conversation:
    response = client.post(CHAT, json={"messages": HELLO, **parameters})
    assert response.status_code == 200, response.text
    return fake.conversations[-1]


def refusal(client: FlaskClient, **parameters: Any) -> Any:
    return client.post(CHAT, json={"messages": HELLO, **parameters})


def test_declared_tools_reach_the_model(client: FlaskClient, fake: FakePipeline) -> None:
    tools = [tool("f", description="Does f", parameters=PARAMETERS, strict=True), tool("g")]
    got = conversation(client, fake, tools=tools)
    assert got.tools == (
        Tool("f", "Does f", json.dumps(PARAMETERS, ensure_ascii=False), True, "tools.0.function.parameters"),
        Tool("g", param="tools.1.function.parameters"),
    )
    assert got.tool_choice == ToolChoice("auto")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice("auto")),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ("any", ToolChoice("required")),
        ({"type": "function", "function": {"name": "g"}}, ToolChoice("required", "g")),
    ],
)
def test_the_tool_choice_reaches_the_model(
    client: FlaskClient, fake: FakePipeline, choice: Any, expected: ToolChoice
) -> None:
    got = conversation(client, fake, tools=[tool("f"), tool("g")], tool_choice=choice)
    assert got.tool_choice == expected


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("mode", ["auto", "required"])
def test_only_the_allowed_tools_are_shown(client: FlaskClient, fake: FakePipeline, mode: Any, parallel: bool) -> None:
    tools = [tool(name) for name in "fgh"]
    chosen = allowed("h", "f", "h", mode=mode)
    got = conversation(client, fake, tools=tools, tool_choice=chosen, parallel_tool_calls=parallel)
    assert [tool.name for tool in got.tools] == ["f", "h"]
    assert got.tool_choice == ToolChoice(mode, parallel=parallel)
    # An earlier call of another tool is no call of now.
    called = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "g"}}]}
    messages = [*HELLO, called, {"role": "tool", "tool_call_id": "c", "content": "1"}]
    assert len(conversation(client, fake, messages=messages, tools=tools, tool_choice=chosen).tools) == 2


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("parallel", [True, False])
def test_whether_calls_may_be_parallel_reaches_the_model(
    client: FlaskClient, fake: FakePipeline, choice: str, parallel: bool
) -> None:
    got = conversation(client, fake, tools=[tool("f")], tool_choice=choice, parallel_tool_calls=parallel)
    assert got.tool_choice.parallel is parallel
    assert conversation(client, fake, tools=[tool("f")], tool_choice=choice).tool_choice.parallel is True


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (None, ToolChoice(parallel=False)),
        ("none", ToolChoice("none")),
        ({"name": "f"}, ToolChoice("required", "f")),
    ],
)
def test_the_legacy_form_means_the_same(
    client: FlaskClient, fake: FakePipeline, call: Any, expected: ToolChoice
) -> None:
    got = conversation(client, fake, functions=[{"name": "f", "parameters": PARAMETERS}], function_call=call)
    parameters = json.dumps(PARAMETERS, ensure_ascii=False)
    assert got.tools == (Tool("f", None, parameters, param="functions.0.parameters"),)
    assert got.tool_choice == expected


@pytest.mark.parametrize("name", ["weather.get", "fs/read", "mcp:search", "查天气", "Get weather", "x" * 128])
def test_a_tool_may_have_any_printable_name(client: FlaskClient, fake: FakePipeline, name: str) -> None:
    called = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": name}}]}
    messages = [*HELLO, called, {"role": "tool", "tool_call_id": "c", "content": "1"}]
    chosen = {"type": "function", "function": {"name": name}}
    got = conversation(client, fake, messages=messages, tools=[tool(name)], tool_choice=chosen)
    assert (got.tools[0].name, got.tool_choice.name) == (name, name)
    assert got.messages[1].tool_calls[0].name == name
    legacy = [
        *HELLO,
        {"role": "assistant", "function_call": {"name": name}},
        {"role": "function", "name": name, "content": "1"},
    ]
    declared = {"functions": [{"name": name}], "function_call": {"name": name}}
    assert conversation(client, fake, messages=legacy, **declared).messages[1].tool_calls[0].name == name
    items = [{"type": "function_call", "call_id": "c", "name": name}, {"type": "function_call_output", "call_id": "c"}]
    body = {"input": items, "tools": [{"type": "function", "name": name}], "tool_choice": "required"}
    assert client.post("/v1/responses", json=body).status_code == 200


def too_deep() -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(20):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ("f", ""),
        ({}, ".type"),
        ({"type": "function"}, ".function"),
        ({"type": "web_search"}, ".type"),
        ({"type": "function", "function": {}}, ".function.name"),
        (tool(""), ".function.name"),
        (tool(" "), ".function.name"),
        (tool("f\n"), ".function.name"),
        (tool("f\u2060"), ".function.name"),
        (tool("x" * 129), ".function.name"),
        (tool(description=5), ".function.description"),
        (tool(description="x" * 20_000), ".function.description"),
        (tool(strict="yes"), ".function.strict"),
        (tool(parameters=[]), ".function.parameters"),
        (tool(parameters="{}"), ".function.parameters"),
        (tool(parameters={"type": "string"}), ".function.parameters"),
        (tool(parameters={"type": "object", "properties": {"a": {"type": "text"}}}), ".function.parameters"),
        (tool(parameters={"$ref": "https://example.org/schema"}), ".function.parameters"),
        (tool(parameters={"description": "x" * 70_000}), ".function.parameters"),
        (tool(parameters=too_deep()), ".function.parameters"),
    ],
)
def test_an_invalid_declaration_is_refused_with_its_path(client: FlaskClient, entry: Any, path: str) -> None:
    response = refusal(client, tools=[tool("fine"), entry])
    assert response.status_code == 400
    assert response.get_json()["error"]["param"] == f"tools.1{path}"


def test_two_tools_with_the_same_name_are_refused(client: FlaskClient) -> None:
    refused(refusal(client, tools=[tool("f"), tool("g"), tool("f")]), "tools.2.function.name")
    refused(refusal(client, functions=[{"name": "f"}, {"name": "f"}]), "functions.1.name")


def test_more_than_128_tools_are_refused(client: FlaskClient) -> None:
    tools = [tool(f"f{index}") for index in range(129)]
    refused(refusal(client, tools=tools), "tools")
    assert refusal(client, tools=tools[:128]).status_code == 200


def test_both_forms_in_one_request_are_refused(client: FlaskClient) -> None:
    refused(refusal(client, tools=[tool("f")], functions=[{"name": "f"}]), "functions")


@pytest.mark.parametrize("choice", ["auto", "none", {"name": "f"}])
@pytest.mark.parametrize("path", [CHAT, "/apply-template"])
def test_the_choice_of_one_form_beside_the_other_is_refused(client: FlaskClient, path: str, choice: Any) -> None:
    named = {"type": "function", "function": choice} if isinstance(choice, dict) else choice
    mixed = client.post(path, json={"messages": HELLO, "tools": [tool("f")], "function_call": choice})
    assert "only allowed when functions are specified" in refused(mixed, "function_call")
    mixed = client.post(path, json={"messages": HELLO, "functions": [{"name": "f"}], "tool_choice": named})
    assert "only allowed when tools are specified" in refused(mixed, "tool_choice")
    refused(refusal(client, tool_choice="auto", function_call="auto"), "tool_choice")


@pytest.mark.parametrize("parameters", [{"tool_choice": "auto"}, {"tool_choice": "none"}, {"function_call": "none"}])
def test_a_choice_that_asks_for_nothing_needs_no_tools(
    client: FlaskClient, fake: FakePipeline, parameters: dict[str, Any]
) -> None:
    empties: list[dict[str, Any]] = [{}, {"tools": []}, {"tools": None, "functions": None}, {"functions": []}]
    for empty in empties:
        assert conversation(client, fake, **parameters, **empty).tools == ()
    neutral = {"tools": [tool("f")], "functions": [], "function_call": None}
    assert conversation(client, fake, **neutral).tools == (Tool("f", param="tools.0.function.parameters"),)
    legacy = {"tools": [], "tool_choice": None, "functions": [{"name": "f"}]}
    assert conversation(client, fake, **legacy).tools == (Tool("f", param="functions.0.parameters"),)


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [tool("f")]}, "tool_choice"),
        ({"tool_choice": {"type": "function"}, "tools": [tool("f")]}, "tool_choice.function"),
        ({"tool_choice": {"type": "custom"}, "tools": [tool("f")]}, "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools"}, "tools": [tool("f")]}, "tool_choice.allowed_tools"),
        ({"tool_choice": allowed("f", "g"), "tools": [tool("f")]}, "tool_choice"),
        ({"tool_choice": allowed(), "tools": [tool("f")]}, "tool_choice.allowed_tools.tools"),
        ({"tool_choice": allowed("f")}, "tool_choice"),
        ({"tool_choice": allowed("f", mode="none"), "tools": [tool("f")]}, "tool_choice.allowed_tools.mode"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"function_call": {"name": "g"}, "functions": [{"name": "f"}]}, "function_call"),
        ({"function_call": "required", "functions": [{"name": "f"}]}, "function_call"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_an_impossible_choice_is_refused(client: FlaskClient, parameters: dict[str, Any], param: str) -> None:
    response = refusal(client, **parameters)
    assert response.status_code == 400
    assert response.get_json()["error"]["param"] == param
