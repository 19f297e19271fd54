"""One line a request, written at its end: it has what operators need, and nothing that a client can forge."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from config import Settings
from glm_api import create_app
from glm_api.backend.errors import ClientGone, EngineError, QueueFull
from tests.support.fake_pipeline import FakePipeline, call, reasoning, text

MakeClient = Callable[..., FlaskClient]
# The client is told buffered=True where it shall do as a server does: take the answer to its end and close it.
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "the secret question"}]}


@pytest.fixture
def fake() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def make_client(fake: FakePipeline, caplog: pytest.LogCaptureFixture) -> MakeClient:
    caplog.set_level(logging.DEBUG, logger="glm_api.request")

    def make(**settings: object) -> FlaskClient:
        return create_app(Settings(**settings), fake).test_client()  # type: ignore[arg-type]

    return make


def only_line(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    [line] = [record for record in caplog.records if record.name == "glm_api.request"]
    return line


def test_a_line_has_the_fields_of_the_request(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    make_client().post(CHAT, json=BODY, headers={"x-request-id": "abc-1"}, buffered=True)
    facts = only_line(caplog).__dict__
    told = {name: facts[name] for name in ("request_id", "method", "route", "status", "model", "finish_reason")}
    assert (facts["step_threads"], facts["batch_threads"]) == (1, 1)
    assert told == {
        "request_id": "abc-1",
        "method": "POST",
        "route": CHAT,
        "status": 200,
        "model": "chatglm3-demo",
        "finish_reason": "stop",
    }
    assert facts["prompt_tokens"] > facts["cached_tokens"] == 3
    assert facts["completion_tokens"] == 5
    assert facts["queue_ms"] == 1.5
    assert 0 <= facts["first_token_ms"] <= facts["total_ms"]


def test_a_text_line_has_all_fields(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    make_client().post(CHAT, json=BODY, headers={"x-request-id": "abc-1"}, buffered=True)
    words = dict(word.split("=", 1) for word in only_line(caplog).getMessage().split(" "))
    assert words["request_id"] == "abc-1"
    assert words["completion_tokens"] == "5"
    assert words["finish_reason"] == "stop"


def test_a_stream_is_logged_at_its_end(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    response = make_client().post(CHAT, json={**BODY, "stream": True})
    chunks = response.iter_encoded()
    next(chunks)
    assert [record for record in caplog.records if record.name == "glm_api.request"] == []
    list(chunks)
    response.close()
    assert only_line(caplog).__dict__["completion_tokens"] == 5


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_left_is_a_499(
    make_client: MakeClient, fake: FakePipeline, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    fake.scripts = [[*text("Hel"), ClientGone("gone")]]
    make_client().post(CHAT, json={**BODY, "stream": stream}, buffered=True)
    assert only_line(caplog).__dict__["status"] == 499


def test_a_stream_that_fails_is_a_200_with_an_error(
    make_client: MakeClient, fake: FakePipeline, caplog: pytest.LogCaptureFixture
) -> None:
    fake.scripts = [[*text("Hel"), EngineError("died")]]
    make_client().post(CHAT, json={**BODY, "stream": True}, buffered=True)
    facts = only_line(caplog).__dict__
    assert (facts["status"], facts["error"]) == (200, "engine_error")


def test_a_refused_request_has_its_error(
    make_client: MakeClient, fake: FakePipeline, caplog: pytest.LogCaptureFixture
) -> None:
    fake.refusal = QueueFull("full", retry_after=1)
    make_client().post(CHAT, json=BODY, buffered=True)
    facts = only_line(caplog).__dict__
    assert (facts["status"], facts["error"]) == (429, "queue_full")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({**BODY, "top_p": 7}, "top_p"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({**BODY, "tools": [{"type": "function", "function": {"name": "a\u0000b"}}]}, "tools.0.function"),
        ({**BODY, "x": {"the secret": "\0"}}, "x"),
        ({**BODY, "the secret": "\0"}, None),
        ({**BODY, "TheSecret": "\0"}, None),
    ],
)
def test_an_invalid_parameter_is_logged_by_the_first_names_of_its_path(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, body: dict[str, object], param: str | None
) -> None:
    assert make_client().post(CHAT, json=body, buffered=True).status_code == 400
    line = only_line(caplog)
    assert line.__dict__.get("param") == param
    assert (f" param={param}" if param else "error=") in line.getMessage()
    assert "secret" not in line.getMessage().lower()


def test_probes_are_logged_at_debug_only(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    make_client().get("/health", buffered=True)
    assert only_line(caplog).levelno == logging.DEBUG


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_prompts_answers_and_keys_are_not_logged(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, log_format: str
) -> None:
    client = make_client(log_format=log_format, api_keys=("sk-right",))
    client.post(CHAT, json=BODY, headers={"Authorization": "Bearer sk-right"}, buffered=True)
    client.post(CHAT, json=BODY, headers={"X-Api-Key": "sk-wrong"}, buffered=True)
    logged = "".join(str(record.__dict__) for record in caplog.records)
    assert logged
    for private in ("secret question", "Hello", "sk-right", "sk-wrong"):
        assert private not in logged


@pytest.mark.parametrize("stream", [True, False])
def test_prompts_and_answers_are_logged_if_configured(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    make_client(log_prompts=True).post(CHAT, json={**BODY, "stream": stream}, buffered=True)
    facts = only_line(caplog).__dict__
    assert "the secret question" in facts["prompt"]
    assert facts["answer"] == "Hello"


def test_what_the_model_thought_is_logged_with_answers(
    make_client: MakeClient, fake: FakePipeline, caplog: pytest.LogCaptureFixture
) -> None:
    fake.scripts = [[*reasoning("Hm. "), *text("Hello")]]
    make_client(log_prompts=True).post(CHAT, json=BODY, buffered=True)
    facts = only_line(caplog).__dict__
    assert facts["answer"] == "Hm. Hello"
    assert facts["completion_tokens"] == 9


def test_the_first_token_may_be_a_thought(
    make_client: MakeClient, fake: FakePipeline, caplog: pytest.LogCaptureFixture
) -> None:
    fake.scripts = [reasoning("Hm")]
    make_client().post(CHAT, json=BODY, buffered=True)
    facts = only_line(caplog).__dict__
    assert 0 <= facts["first_token_ms"] <= facts["total_ms"]


def test_tool_calls_are_logged_with_answers(
    make_client: MakeClient, fake: FakePipeline, caplog: pytest.LogCaptureFixture
) -> None:
    fake.scripts = [call("get_weather", '{"city": ', '"Paris"}')]
    make_client(log_prompts=True).post(CHAT, json=BODY, buffered=True)
    assert only_line(caplog).__dict__["answer"] == 'get_weather {"city": "Paris"}'


@pytest.mark.parametrize(
    "path", ["/x\r\nrequest_id=fake status=200", "/x status=200", "/x\x1b[2K", "/x'", "/\u2028line", "/%E4%BD"]
)
def test_a_path_cannot_forge_a_line_or_a_field(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    make_client().get(path, buffered=True)
    message = only_line(caplog).getMessage()
    assert message.isprintable()
    assert " status=404 " in message
    assert message.count(" status=") - message.count("x status=") - message.count("fake status=") == 1
    assert "path='" in message or 'path="' in message


def test_a_long_path_is_truncated(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    make_client().get("/" + "x" * 5000, buffered=True)
    assert len(only_line(caplog).getMessage()) < 500
