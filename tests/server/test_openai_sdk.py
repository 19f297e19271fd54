"""OpenAI's Python SDK, with strict validation of every answer."""

from __future__ import annotations

import httpx
import openai
import pytest

from tests.support.processes import until
from tests.support.server import Server, chat


@pytest.mark.parametrize("text", ["hello", "你好", "Tell me a short story", "讲个笑话"])
def test_the_stream_joined_equals_the_answer_in_one_piece(demo: Server, text: str) -> None:
    with demo.sdk() as client:
        whole = client.chat.completions.create(**chat(text))
        stream = client.chat.completions.create(**chat(text), stream=True, stream_options={"include_usage": True})
        parts = list(stream)
    message = whole.choices[0].message
    assert message.role == "assistant"
    assert message.content
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == message.content
    assert parts[0].choices[0].delta.role == "assistant"
    reasons = [part.choices[0].finish_reason for part in parts if part.choices]
    assert reasons[-1] == whole.choices[0].finish_reason == "stop"
    assert not any(reasons[:-1])
    assert len({(part.id, part.created, part.model) for part in parts}) == 1
    usage = parts[-1].usage
    assert usage is not None
    assert whole.usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_max_tokens_counts_new_tokens_only(demo: Server) -> None:
    with demo.sdk() as client:
        answer = client.chat.completions.create(**chat("count from 1 to 60", max_tokens=7))
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7


def test_the_models_are_listed(demo: Server) -> None:
    with demo.sdk() as client:
        ids = [model.id for model in client.models.list()]
        assert ids == ["chatglm3-demo"]
        assert client.models.retrieve(ids[0]).id == ids[0]
        with pytest.raises(openai.NotFoundError) as refused:
            client.models.retrieve("no/such/model")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 5.7}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_invalid_input_is_refused_by_name(demo: Server, change: dict[str, object], param: str) -> None:
    with demo.sdk() as client, pytest.raises(openai.BadRequestError) as refused:
        client.post("/chat/completions", body=chat("hello") | change, cast_to=object)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.param == param


def test_a_prompt_over_the_context_is_refused_in_openais_words(demo: Server) -> None:
    for stream in (False, True):
        with demo.sdk() as client, pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**chat("word " * 5000, stream=stream))
        assert refused.value.code == "context_length_exceeded"
        assert "maximum context length is 2048 tokens" in refused.value.message


def test_leaving_a_stream_frees_the_model(demo: Server) -> None:
    with demo.sdk() as client:
        stream = client.chat.completions.create(**chat("count from 1 to 60"), stream=True)
        next(iter(stream))
        stream.close()
        assert client.chat.completions.create(**chat("hello")).choices[0].message.content
    until(lambda: demo.http.get("/queue").json()["running"] == [])


def test_leaving_an_answer_in_one_piece_frees_the_model(demo: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        demo.http.post("/v1/chat/completions", json=chat("count from 1 to 60"), timeout=httpx.Timeout(60, read=0.02))
    until(lambda: demo.http.get("/queue").json()["running"] == [])
