"""Completions of raw text: one or several prompts, as text or as token ids, in one body or streamed."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from openai import OpenAI

from glm_api.pipeline.model_info import OutputSpec
from tests.support.client import chunks, error, refused
from tests.support.fake_pipeline import FakePipeline, text

URL = "/v1/completions"


def whole(client: FlaskClient, **parameters: Any) -> dict[str, Any]:
    response = client.post(URL, json=parameters)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.get_json()
    return body


def test_the_body(client: FlaskClient, fake: FakePipeline) -> None:
    body = whole(client, prompt="Once")
    assert body["id"].startswith("cmpl-")
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"]["prompt_tokens"] == 5
    job = fake.jobs[0]
    assert (job.output, job.max_tokens) == (OutputSpec(mode="text"), 16)
    # Text gets the ids that open every prompt.
    assert job.prompts == [[1, *map(ord, "Once")]]


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("", [[1]]),
        ([97, 98], [[97, 98]]),
        ([[97], [98, 99]], [[97], [98, 99]]),
        (["a", ""], [[1, 97], [1]]),
    ],
)
def test_prompts(client: FlaskClient, fake: FakePipeline, prompt: Any, prompts: list[list[int]]) -> None:
    assert len(whole(client, prompt=prompt)["choices"]) == len(prompts)
    assert fake.jobs[0].prompts == prompts


@pytest.mark.parametrize(
    ("prompt", "path"),
    [
        (5, "prompt"),
        ({}, "prompt"),
        ([], "prompt"),
        ([[]], "prompt.0"),
        ([[97], []], "prompt.1"),
        ([97, "a"], "prompt.1"),
        (["a", 97], "prompt.1"),
        ([[97], "a"], "prompt.1"),
        ([[97, "a"]], "prompt.0.1"),
        ([97.5], "prompt.0"),
        ([97, True], "prompt.1"),
        ([-1], "prompt.0"),
        ([2**31], "prompt.0"),
        ([0x110000], "prompt"),
        (["a"] * 17, "prompt"),
        ([None], "prompt.0"),
    ],
)
def test_an_invalid_prompt_is_refused_with_its_path(client: FlaskClient, prompt: Any, path: str) -> None:
    refused(client.post(URL, json={"prompt": prompt}), path)


def test_too_many_ids_are_refused_before_they_are_decoded(client: FlaskClient) -> None:
    response = client.post(URL, json={"prompt": [0x110000] * 8192, "echo": True})
    found = error(response)
    assert (response.status_code, found["code"], found["param"]) == (400, "context_length_exceeded", "prompt")
    assert (found["n_prompt_tokens"], found["n_ctx"]) == (8192, 8192)


def test_a_prompt_is_required(client: FlaskClient) -> None:
    refused(client.post(URL, json={}), "prompt", "missing_required_parameter")


def test_each_prompt_gets_n_choices(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [text(letter) for letter in "1234"]
    body = whole(client, prompt=["a", "bc"], n=2, echo=True)
    assert [choice["text"] for choice in body["choices"]] == ["a1", "a2", "bc3", "bc4"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    # Each prompt counts once.
    assert body["usage"]["prompt_tokens"] == 2 + 3
    assert body["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize(("prompt", "echo"), [("Once ", "Once "), ([97, 98], "ab")])
@pytest.mark.parametrize("stream", [False, True])
def test_echo(client: FlaskClient, prompt: Any, echo: str, stream: bool) -> None:
    parameters = {"prompt": prompt, "echo": True}
    if not stream:
        assert whole(client, **parameters)["choices"][0]["text"] == f"{echo}Hello"
        return
    got = chunks(client.post(URL, json={**parameters, "stream": True}))
    assert [chunk["choices"][0]["text"] for chunk in got] == [echo, "Hel", "lo", ""]


def test_the_stream(client: FlaskClient) -> None:
    body = {"prompt": ["a", "b"], "stream": True, "stream_options": {"include_usage": True}}
    *got, last = chunks(client.post(URL, json=body))
    told = [(chunk["choices"][0]["index"], chunk["choices"][0]["text"]) for chunk in got]
    assert told == [(0, "Hel"), (0, "lo"), (0, ""), (1, "Hel"), (1, "lo"), (1, "")]
    assert [chunk["choices"][0]["finish_reason"] for chunk in got] == [None, None, "stop"] * 2
    assert last["usage"]["prompt_tokens"] == 4
    assert {chunk["object"] for chunk in got} == {"text_completion"}


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("suffix", "end"), ("best_of", 2), ("logprobs", 0)],
)
def test_an_unsupported_parameter_is_refused_by_name(client: FlaskClient, parameter: str, value: Any) -> None:
    refused(client.post(URL, json={"prompt": "a", parameter: value}), parameter, "unsupported_parameter")


def test_neutral_values_are_accepted(client: FlaskClient) -> None:
    assert whole(client, prompt="a", suffix="", best_of=1, logprobs=None)


def test_openais_client_reads_the_body(sdk: OpenAI) -> None:
    assert sdk.completions.create(model="x", prompt="Once").choices[0].text == "Hello"
