"""The OpenAPI document is complete and valid, and the server conforms to it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config import Settings
from glm_api import create_app
from tests.support.client import events
from tests.support.fake_pipeline import FakePipeline, reasoning, text

# Pages for people are not the API.
UNDESCRIBED = ("/", "/docs", "/docs/", "/openapi.json", "/assets/", "/favicon.")


@pytest.fixture(scope="module")
def document(shared_app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = shared_app.test_client().get("/openapi.json").get_json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    paths = document["paths"].items()
    return [
        (path, method, methods[method]) for path, methods in paths for method in ("get", "post") if method in methods
    ]


@pytest.mark.parametrize(
    "made_with",
    [
        Settings(),
        Settings(gguf=Path("model.gguf")),
        Settings(backend="openai", upstream_url="http://127.0.0.1:9/v1"),
    ],
    ids=lambda made_with: made_with.engine,
)
def test_the_document_is_valid_openapi(made_with: Settings) -> None:
    document = create_app(made_with, FakePipeline()).test_client().get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_a_value_that_is_always_null_has_one_type(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["AnswerMessage"]["properties"]["refusal"] == {"type": "null"}


def test_every_route_is_described(shared_app: Flask, document: dict[str, Any]) -> None:
    for rule in shared_app.url_map.iter_rules():
        if rule.rule in UNDESCRIBED or rule.rule.startswith(UNDESCRIBED[-2:]):
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        assert path in document["paths"], path
        assert {method.lower() for method in rule.methods or ()} - {"head", "options"} <= set(document["paths"][path])


def test_every_operation_has_a_summary(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation.get("summary"), (method, path)


def test_errors_have_the_envelope(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        envelope = "MessageError" if path.startswith("/v1/messages") else "Error"
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": f"#/components/schemas/{envelope}"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_a_generating_endpoint_has_both_media_types(document: dict[str, Any], path: str) -> None:
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/event-stream"}
    assert content["application/json"]["schema"] != content["text/event-stream"]["schema"]


def test_patterns_are_anchored(document: dict[str, Any]) -> None:
    name = document["components"]["schemas"]["JsonSchema"]["properties"]["name"]
    assert validator(document, name).is_valid("get_weather")
    assert not validator(document, name).is_valid("get weather")


def test_examples_of_requests_work_as_they_are(client: FlaskClient, document: dict[str, Any]) -> None:
    tried = 0
    for path, _, operation in operations(document):
        if "requestBody" not in operation:
            continue
        media = operation["requestBody"]["content"]["application/json"]
        examples = [example["value"] for example in media.get("examples", {}).values()]
        for example in [*examples, *([media["example"]] if "example" in media else [])]:
            validator(document, media["schema"]).validate(example)
            response = client.post(path, json=example)
            assert response.status_code == 200, (path, example, response.text)
            tried += 1
    assert tried >= len([1 for _, _, operation in operations(document) if "requestBody" in operation])


def test_examples_of_responses_match_their_schemas(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        for response in operation["responses"].values():
            for media in response.get("content", {}).values():
                if "example" in media:
                    validator(document, media["schema"]).validate(media["example"])


def test_streams_match_their_schemas(client: FlaskClient, fake: FakePipeline, document: dict[str, Any]) -> None:
    fake.thinks()
    fake.scripts = [[*reasoning("Hm"), *text("Hel", "lo")]]
    hello: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", hello),
        ("/v1/chat/completions", {**hello, "logprobs": True, "top_logprobs": 2}),
        ("/v1/chat/completions", {**hello, "stream_options": {"include_usage": True}}),
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/completions", {"prompt": "Hi", "logprobs": 2, "echo": True}),
        ("/v1/responses", {"input": "Hi"}),
        ("/v1/responses", {"input": "Hi", "include": ["message.output_text.logprobs"], "top_logprobs": 2}),
    ]
    for path, body in requests:
        media = document["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
        event = document["components"]["schemas"][media["schema"]["$ref"].split("/")[-1]]
        schema = event["properties"]["data"]["anyOf"][0]["contentSchema"]
        response = client.post(path, json={**body, "stream": True})
        got = [json.loads(data) for data in events(response) if data != "[DONE]"]
        assert got
        for chunk in got:
            validator(document, schema).validate(chunk)


def validator(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**document, **schema})


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_server_conforms_to_the_document(app: Flask, mode: GenerationMode) -> None:
    tried = 0
    for result in schemathesis.openapi.from_wsgi("/openapi.json", app).get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue

        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case[Any]) -> None:
            response = case.call()
            checks = [not_a_server_error, status_code_conformance, response_schema_conformance]
            if "text/event-stream" not in response.headers.get("content-type", [""])[0]:
                checks.append(content_type_conformance)
            case.validate_response(response, checks=checks)

        check()
        tried += 1
    assert tried
