"""Invalid bodies: each gets a 400, 413 or 415 that says why, never a 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glm_api.api.json_body import MAX_CONTAINERS
from tests.support.client import CHAT, HELLO, MakeApp, error, refused
from tests.support.fake_pipeline import FakePipeline

ENDPOINTS = [
    CHAT,
    "/v1/completions",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/tokenize",
    "/detokenize",
    "/apply-template",
]
JSON = "application/json"


def nested(levels: int) -> bytes:
    """A request whose body has that many levels."""
    return (
        b'{"messages": [{"role": "user", "content": "x"}], "user": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
    )


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  \n",
        b"{",
        b'{"messages": ]}',
        b"{'messages': []}",
        b"messages=hello",
        b"\xff\xfe{}",
        '{"messages": "é"}'.encode("latin-1"),
        '{"messages": []}'.encode("utf-16"),
        b'"text"',
        b"[]",
        b"5",
        b"null",
        b"NaN",
        b'{"temperature": NaN}',
        b'{"temperature": -Infinity}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b'{"a": [' + b"[]," * 300_000 + b"[]]}",
        b'{"a": [' + b"1," * 300_000 + b"1]}",
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(client: FlaskClient, endpoint: str, body: bytes) -> None:
    refused(client.post(endpoint, data=body, content_type=JSON), None, None)


def test_an_integer_with_too_many_digits_is_told_without_advice_for_programmers(client: FlaskClient) -> None:
    response = client.post(CHAT, data=b'{"seed": ' + b"9" * 5000 + b"}", content_type=JSON)
    assert refused(response, None, None) == "The request body has an integer of more than 4300 digits."


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", None]
)
def test_another_media_type_is_refused_and_the_error_names_the_right_header(
    client: FlaskClient, endpoint: str, content_type: str | None
) -> None:
    response = client.post(endpoint, data=json.dumps({"messages": HELLO}), content_type=content_type)
    assert response.status_code == 415
    assert "-H 'Content-Type: application/json'" in error(response)["message"]


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"]
)
def test_every_json_media_type_and_charset_is_accepted(client: FlaskClient, content_type: str) -> None:
    response = client.post(CHAT, data=json.dumps({"messages": HELLO}), content_type=content_type)
    assert response.status_code == 200


def test_a_body_shorter_than_its_content_length_is_refused(client: FlaskClient) -> None:
    body = json.dumps({"messages": HELLO}).encode()
    response = client.post(CHAT, data=body, content_type=JSON, environ_overrides={"CONTENT_LENGTH": str(len(body) + 1)})
    assert "ends before its Content-Length" in refused(response, None, None)


def test_a_byte_order_mark_is_ignored(client: FlaskClient) -> None:
    body = json.dumps({"messages": HELLO}).encode("utf-8-sig")
    assert client.post(CHAT, data=body, content_type=JSON).status_code == 200


def test_64_levels_are_accepted_and_65_are_refused(client: FlaskClient) -> None:
    assert client.post(CHAT, data=nested(64), content_type=JSON).status_code == 200
    response = client.post(CHAT, data=nested(65), content_type=JSON)
    assert "64 levels" in refused(response, None, None)


@pytest.mark.parametrize("value", [{}, []])
def test_objects_and_arrays_are_counted(value: object, client: FlaskClient) -> None:
    # The body itself, the messages, the one in it and the array around the values are four.
    most = MAX_CONTAINERS - 4
    assert client.post(CHAT, json={"messages": HELLO, "x": [value] * most}).status_code == 200
    response = client.post(CHAT, json={"messages": HELLO, "x": [value] * (most + 1)})
    assert f"at most {MAX_CONTAINERS}" in refused(response, None, None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (r'{"messages": [{"role": "user", "content": "\ud800"}]}', "messages.0.content"),
        (r'{"messages": [{"role": "user", "content": "a\udc00b"}]}', "messages.0.content"),
        (r'{"messages": [{"role": "user", "content": "\udc00\ud800"}]}', "messages.0.content"),
        (r'{"messages": [{"role": "user", "content": "nul\u0000"}]}', "messages.0.content"),
        (
            r'{"tools": [{"function": {"parameters": {"properties": {"\ud800": {}}}}}]}',
            "tools.0.function.parameters.properties",
        ),
        (r'{"\ud800": 1}', None),
        (r'{"metadata": {"x": [1, 1e999]}}', "metadata.x.1"),
        (r'{"temperature": 1e999}', "temperature"),
    ],
)
def test_unusable_values_are_refused_at_any_depth(client: FlaskClient, body: str, param: str | None) -> None:
    refused(client.post(CHAT, data=body, content_type=JSON), param)


def test_a_whole_surrogate_pair_is_a_character(client: FlaskClient, fake: FakePipeline) -> None:
    body = r'{"messages": [{"role": "user", "content": "\ud83d\ude00"}]}'
    assert client.post(CHAT, data=body, content_type=JSON).status_code == 200
    assert fake.conversations[0].messages[0].content == "😀"


def test_the_last_of_two_equal_keys_counts(client: FlaskClient, fake: FakePipeline) -> None:
    body = '{"temperature": 9, "temperature": 0.5, "messages": [{"role": "user", "content": "x"}]}'
    assert client.post(CHAT, data=body, content_type=JSON).status_code == 200
    assert fake.jobs[0].sampling.temperature == 0.5


class TestSize:
    LIMIT = 2000

    @pytest.fixture
    def client(self, make_app: MakeApp) -> FlaskClient:
        return make_app(max_body_bytes=self.LIMIT).test_client()

    @staticmethod
    def body(size: int) -> bytes:
        empty = json.dumps({"messages": [{"role": "user", "content": ""}]}).encode()
        return empty.replace(b'""', b'"' + b"x" * (size - len(empty)) + b'"')

    def test_the_largest_body_is_accepted(self, client: FlaskClient) -> None:
        assert client.post(CHAT, data=self.body(self.LIMIT), content_type=JSON).status_code == 200

    def test_one_byte_more_is_413(self, client: FlaskClient) -> None:
        response = client.post(CHAT, data=self.body(self.LIMIT + 1), content_type=JSON)
        assert response.status_code == 413
        assert "2000 bytes" in error(response)["message"]

    def chunked(self, client: FlaskClient, body: bytes) -> Any:
        """What a server passes on that takes the chunks apart."""
        environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
        return client.post(CHAT, data=body, content_type=JSON, environ_overrides=environ)

    def test_a_chunked_body_is_accepted(self, client: FlaskClient) -> None:
        assert self.chunked(client, self.body(1000)).status_code == 200

    def test_a_chunked_body_that_is_too_large_is_refused(self, client: FlaskClient) -> None:
        response = self.chunked(client, self.body(self.LIMIT + 1))
        assert response.status_code == 413
        error(response)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES: st.SearchStrategy[Any] = st.deferred(
    lambda: SCALARS | st.lists(VALUES, max_size=3) | st.dictionaries(st.text(max_size=8), VALUES, max_size=3)
)
# Half of the keys are ones that the server knows: random ones alone would get nowhere.
KEYS = [
    *["messages", "model", "temperature", "top_p", "top_k", "stop", "n", "stream", "stream_options", "max_tokens"],
    *["tools", "tool_choice", "functions", "function_call", "response_format", "logit_bias", "seed", "prompt", "echo"],
    *["input", "instructions", "text", "role", "content", "type", "function", "name", "parameters", "id", "tool_calls"],
    *["logprobs", "top_logprobs", "allowed_token_ids", "stop_token_ids", "min_tokens", "include"],
    *["arguments", "image_url", "url", "schema", "format", "json_schema", "tokens", "call_id", "output", "$ref"],
]
WORDS = st.sampled_from(["user", "assistant", "tool", "function", "json_schema", "message", "object"])
KNOWN: st.SearchStrategy[Any] = st.deferred(
    lambda: VALUES | WORDS | st.lists(KNOWN, max_size=3) | st.dictionaries(st.sampled_from(KEYS), KNOWN, max_size=4)
)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(st.sampled_from(KEYS), KNOWN, max_size=6))
def test_no_body_makes_the_server_fail(client: FlaskClient, endpoint: str, body: dict[str, Any]) -> None:
    response = client.post(endpoint, json=body)
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        error(response)
