"""Schemas that would harm the server, or others through it: one request with each, and the server works as before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.listener import Listener
from tests.support.server import Server, chat

HOSTILE: dict[str, dict[str, Any]] = {
    "pointer to nowhere": {"$ref": "#/nope"},
    "anchor that is none": {"$dynamicRef": "#nope"},
    "address of its own": {"allOf": [{"$id": "x:y", "$ref": "#/y"}]},
    "pattern that does not compile": {"properties": {"a": {"pattern": "a{99999999999999999999}"}}},
    "reference that is no string": {"$ref": 0, "$schema": "http://json-schema.org/draft-04/schema#"},
    "circle": {"$ref": "#"},
    "page": {"$ref": "#/h", "h": {"allOf": [{"$id": "http://127.0.0.1:{port}/x", "$ref": "#/y"}]}},
    "file": {"$ref": "#/h", "h": {"allOf": [{"$id": "file:///etc/passwd", "$ref": "#/y"}]}},
    "plain page": {"$ref": "http://127.0.0.1:{port}/x"},
}


@pytest.mark.parametrize("schema", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_schema_is_refused_and_nothing_else_happens(
    schema: dict[str, Any], demo: Server, listener: Listener
) -> None:
    children = demo.children()
    assert set(children) == {"pipeline", "tokenizer"}
    schema = listener.at_port(schema)
    named = {"name": "f", "schema": schema}
    function = {"name": "f", "parameters": schema}
    said = "Reply in JSON: who are you?"
    requests: list[tuple[str, str, dict[str, Any]]] = [
        (
            "/v1/chat/completions",
            "response_format.json_schema.schema",
            chat(said, response_format={"type": "json_schema", "json_schema": named}),
        ),
        (
            "/v1/chat/completions",
            "tools.0.function.parameters",
            chat(said, tools=[{"type": "function", "function": function}]),
        ),
        (
            "/v1/responses",
            "text.format.schema",
            {"input": said, "temperature": 0, "text": {"format": {"type": "json_schema", **named}}},
        ),
        ("/v1/responses", "tools.0.parameters", {"input": said, "tools": [{"type": "function", **function}]}),
    ]
    for path, param, body in requests:
        response = demo.http.post(path, json=body)
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] == param
        # Refused before the stream begins, too.
        assert demo.http.post(path, json={**body, "stream": True}).status_code == 400
    assert demo.health() == 200
    assert demo.http.post("/v1/chat/completions", json=chat("hello", max_tokens=4)).status_code == 200
    assert demo.children() == children
    assert not listener.heard()


def test_the_draft_that_a_schema_names_is_never_fetched(demo: Server, listener: Listener) -> None:
    schema = listener.at_port({"$schema": "http://127.0.0.1:{port}/x", "type": "object"})
    format = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    for more in ({"response_format": format}, {"tools": [tool]}):
        response = demo.http.post("/v1/chat/completions", json=chat("Reply in JSON: who are you?", **more))
        assert response.status_code == 200, response.text
    assert not listener.heard()


def test_a_schema_may_hold_numbers_of_any_size_and_nest_as_deep_as_is_told(demo: Server) -> None:
    children = demo.children()
    schema: dict[str, Any] = {"type": "object", "minProperties": 0}
    for _ in range(14):
        schema = {"type": "object", "properties": {"a": schema}}
    schema["maxProperties"] = 10**30
    schema["default"] = [10**30, -(10**30), 2**64, 1e300, -0.0, 1.5]
    format = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
    said = "Reply in JSON: who are you?"
    answer = demo.http.post("/v1/chat/completions", json=chat(said, response_format=format))
    assert answer.status_code == 200, answer.text
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    prompt = demo.http.post("/apply-template", json={**chat("hello"), "tools": [tool]}).json()["prompt"]
    assert str(10**30) in prompt
    assert demo.http.post("/v1/chat/completions", json=chat("hello", tools=[tool])).status_code == 200
    assert demo.children() == children
