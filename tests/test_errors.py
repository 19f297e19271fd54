"""Every error has OpenAI's envelope, with the status, the code and the headers that clients act on."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from glm_api.backend.errors import (
    BackendError,
    ClientGone,
    DeadlineExceeded,
    EngineError,
    Interrupted,
    ModelLoading,
    PromptError,
    QueueFull,
    ShuttingDown,
)
from tests.support.client import CHAT, HELLO, MakeApp, error
from tests.support.fake_pipeline import FakePipeline


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_an_unknown_path_is_404(client: FlaskClient, method: str) -> None:
    response = client.open("/v1/nothing", method=method)
    assert response.status_code == 404
    assert error(response)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/v1/embeddings", "embeddings"),
        ("/v1/audio/speech", "audio"),
        ("/v1/images/generations", "image"),
        ("/v1/moderations", "moderation"),
        ("/v1/files", "file"),
        ("/v1/batches", "batches"),
        ("/v1/fine_tuning/jobs", "fine-tuning"),
        ("/v1/assistants", "assistants"),
        ("/v1/responses/compact", "compaction"),
        ("/v1/responses/resp_1/nothing", "part of the Responses API"),
        ("/v1/conversations", "previous_response_id"),
        ("/v1/chat/completions/chatcmpl-1", "not kept"),
    ],
)
def test_an_openai_endpoint_that_is_not_offered_is_named(client: FlaskClient, path: str, word: str) -> None:
    response = client.post(path, json={})
    assert response.status_code == 404
    assert word in error(response)["message"]


def test_in_front_of_an_engine_no_responses_are_stored(make_app: MakeApp) -> None:
    client = make_app(backend="openai", upstream_url="http://127.0.0.1:9/v1").test_client()
    response = client.get("/v1/responses/resp_1")
    assert response.status_code == 404
    assert "with GLM_BACKEND=openai it stores no responses" in error(response)["message"]


@pytest.mark.parametrize(("method", "path", "allowed"), [("GET", CHAT, "POST"), ("POST", "/v1/models", "GET")])
def test_another_method_is_405_with_the_allowed_methods(
    client: FlaskClient, method: str, path: str, allowed: str
) -> None:
    response = client.open(path, method=method)
    assert response.status_code == 405
    assert allowed in response.headers["Allow"]
    assert allowed in error(response)["message"]


REFUSALS = [
    (PromptError("No tools.", "tools"), 400, "invalid_request_error", "invalid_value", {}),
    (QueueFull("Full.", 7), 429, "rate_limit_error", "queue_full", {"Retry-After": "7"}),
    (ModelLoading("Soon.", 0.2), 503, "unavailable_error", "model_loading", {"Retry-After": "1"}),
    (ShuttingDown("Bye.", 5), 503, "unavailable_error", "shutting_down", {"Retry-After": "5"}),
    (Interrupted("Bye."), 500, "server_error", "shutting_down", {}),
    (DeadlineExceeded("Too long."), 504, "server_error", "timeout", {}),
    (EngineError("It died."), 500, "server_error", "engine_error", {"x-should-retry": "false"}),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("refusal", "status", "type", "code", "headers"), REFUSALS)
def test_each_error_of_the_pipeline_has_its_status(
    client: FlaskClient,
    fake: FakePipeline,
    refusal: BackendError,
    status: int,
    type: str,
    code: str,
    headers: dict[str, str],
    stream: bool,
) -> None:
    fake.refusal = refusal
    response = client.post(CHAT, json={"messages": HELLO, "stream": stream})
    found = error(response)
    assert (response.status_code, found["type"], found["code"]) == (status, type, code)
    assert found["message"] == refusal.message
    assert headers.items() <= dict(response.headers).items()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("failure", "status", "type", "code", "headers"), REFUSALS[1:])
def test_an_answer_that_fails_before_its_first_byte_has_the_errors_status(
    client: FlaskClient,
    fake: FakePipeline,
    failure: BackendError,
    status: int,
    type: str,
    code: str,
    headers: dict[str, str],
    stream: bool,
) -> None:
    fake.scripts = [[failure]]
    response = client.post(CHAT, json={"messages": HELLO, "stream": stream})
    assert (response.status_code, error(response)["code"]) == (status, code)
    assert headers.items() <= dict(response.headers).items()
    assert fake.generations[0].closed


def test_the_error_for_a_prompt_over_the_context_has_both_counts(client: FlaskClient) -> None:
    response = client.post(CHAT, json={"messages": [{"role": "user", "content": "x" * 9000}]})
    found = error(response)
    assert (response.status_code, found["code"], found["param"]) == (400, "context_length_exceeded", "messages")
    assert "maximum context length is 8192 tokens" in found["message"]
    assert "Please reduce the length of the messages" in found["message"]
    assert found["n_ctx"] == 8192
    assert found["n_prompt_tokens"] > 9000


def test_an_unknown_path_is_told_where_the_endpoints_are_listed(client: FlaskClient) -> None:
    message = error(client.get("/v1/model"))["message"]
    listed = re.findall(r"GET (/(?:docs|openapi)\S*)", message)
    assert listed == ["/docs", "/openapi.json"]
    assert [client.get(path, buffered=True).status_code for path in listed] == [200, 200]


def test_a_client_that_leaves_while_it_waits_is_499(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [[ClientGone("Gone.")]]
    assert client.post(CHAT, json={"messages": HELLO}).status_code == 499
    assert fake.generations[0].closed


def test_a_bug_is_a_500_that_reveals_no_internals(
    client: FlaskClient, fake: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise KeyError("/etc/secret")

    monkeypatch.setattr(fake, "generate", fail)
    response = client.post(CHAT, json={"messages": HELLO})
    assert response.status_code == 500
    assert error(response)["type"] == "server_error"
    assert "secret" not in response.text


@pytest.mark.parametrize("path", ["//v1//models", "/v1/models//", "//docs", "/docs//", "//", "/v1//nothing", "//x//"])
def test_no_path_is_redirected_to_the_host_of_the_host_header(client: FlaskClient, path: str) -> None:
    with client.get("/", environ_overrides={"PATH_INFO": path}, headers={"Host": "localhost:666"}) as response:
        assert "666" not in response.headers.get("Location", "")
        assert response.status_code in (200, 404) or path == "/docs//"


def test_every_response_has_openais_headers(client: FlaskClient) -> None:
    for response in (client.get("/v1/models"), client.get("/nothing"), client.post(CHAT, json={"messages": HELLO})):
        assert response.headers["x-request-id"].startswith("req_")
        assert int(response.headers["openai-processing-ms"]) >= 0
        assert response.headers["openai-version"] == "2020-10-01"


@pytest.mark.parametrize(("id", "echoed"), [("trace-1.a:b_c", True), ("a b", False), ("x" * 200, False), ("é", False)])
def test_a_valid_request_id_is_echoed(client: FlaskClient, id: str, echoed: bool) -> None:
    response = client.get("/v1/models", headers={"x-request-id": id})
    assert (response.headers["x-request-id"] == id) is echoed


def test_unknown_models_are_404_only_if_the_server_is_strict(make_app: MakeApp) -> None:
    body = {"messages": HELLO, "model": "gpt-4"}
    assert make_app().test_client().post(CHAT, json=body).status_code == 200
    strict = make_app(strict_model=True, model_name="glm", model_aliases=("chat",)).test_client()
    response = strict.post(CHAT, json=body)
    assert (response.status_code, error(response)["code"], error(response)["param"]) == (
        404,
        "model_not_found",
        "model",
    )
    for name in ("glm", "chat"):
        answered = strict.post(CHAT, json={**body, "model": name})
        assert answered.get_json()["model"] == "glm"
