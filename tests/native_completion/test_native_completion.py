"""``POST /completion``: raw completions in llama-server's own shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from glm_api.backend.errors import EngineError
from glm_api.pipeline.conversation import JsonOutput
from glm_api.pipeline.frames import Finished, Progress, Started, Text
from tests.support.client import error, refused
from tests.support.fake_pipeline import FakePipeline, logprob, text
from tests.support.server import Server

URL = "/completion"


def whole(client: FlaskClient, **parameters: Any) -> Any:
    response = client.post(URL, json={"prompt": "ab", **parameters})
    assert response.status_code == 200, response.text
    return response.get_json()


def events(body: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: ")]


def streamed(client: FlaskClient, **parameters: Any) -> list[dict[str, Any]]:
    return events(client.post(URL, json={"prompt": "ab", "stream": True, **parameters}).text)


def test_the_body(client: FlaskClient, fake: FakePipeline) -> None:
    body = whole(client, n_predict=7, stop=["x"], temperature=0)
    settings = body.pop("generation_settings")
    assert (settings["n_predict"], settings["stop"], settings["temperature"]) == (7, ["x"], 0)
    assert body.pop("timings")["predicted_n"] == 5
    assert body == {
        "index": 0,
        "content": "Hello",
        "tokens": [],
        "stop": True,
        "id_slot": -1,
        "tokens_predicted": 5,
        "tokens_evaluated": 3,
        "model": "chatglm3-demo",
        "prompt": "ab",
        "stop_type": "eos",
        "stopping_word": "",
        "has_new_line": False,
        "truncated": False,
        "tokens_cached": 3,
    }
    assert fake.jobs[0].max_tokens == 7


def test_the_ids_of_the_answer(client: FlaskClient) -> None:
    assert whole(client, return_tokens=True)["tokens"] == [ord(letter) for letter in "Hello"]


@pytest.mark.parametrize("n_predict", [-1, -2, None])
def test_without_a_limit_the_context_ends_an_answer(client: FlaskClient, fake: FakePipeline, n_predict: Any) -> None:
    whole(client, n_predict=n_predict)
    assert fake.jobs[0].max_tokens > 2**30


@pytest.mark.parametrize(
    ("finished", "stop_type", "word"),
    [
        (Finished("stop", 3, 1.0, 1.0, 0, 10), "eos", ""),
        (Finished("length", 3, 1.0, 1.0, 0, 10), "limit", ""),
        (Finished("stop", 3, 1.0, 1.0, 0, 10, stop_string="END"), "word", "END"),
    ],
)
def test_why_the_answer_ended(
    client: FlaskClient, fake: FakePipeline, finished: Finished, stop_type: str, word: str
) -> None:
    fake.scripts = [[*text("a\nb"), finished]]
    for body in (whole(client), streamed(client)[-1]):
        assert (body["stop_type"], body["stopping_word"], body["has_new_line"]) == (stop_type, word, True)


def test_the_stream(client: FlaskClient) -> None:
    *pieces, last = streamed(client)
    assert [(piece["content"], piece["stop"]) for piece in pieces] == [("Hel", False), ("lo", False)]
    assert [piece["tokens_predicted"] for piece in pieces] == [3, 5]
    assert [id for piece in pieces for id in piece["tokens"]] == [ord(letter) for letter in "Hello"]
    assert (last["content"], last["stop"], last["tokens_predicted"]) == ("", True, 5)
    body = whole(client)
    assert {**last, "content": body["content"]} == {**body, "generation_settings": last["generation_settings"]}


def test_a_stream_with_progress_and_timings(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [[Started(9, 2, 1), Progress(5, 9, 2, 12.6), *text("Hi")]]
    begun, piece, _ = streamed(client, return_progress=True, timings_per_token=True)
    assert begun["prompt_progress"] == {"total": 9, "cache": 2, "processed": 5, "time_ms": 13}
    assert (piece["timings"]["predicted_n"], piece["timings"]["prompt_n"], piece["id_slot"]) == (2, 7, 1)
    for parameter in ("return_progress", "timings_per_token"):
        refused(client.post(URL, json={"prompt": "a", parameter: True}), parameter)


def test_log_probabilities(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [[Text("ab", [97, 98], [logprob(97, 2), logprob(98, 2)])]]
    first, second = whole(client, n_probs=2)["completion_probabilities"]
    assert (first["id"], first["token"], first["bytes"]) == (97, "a", [97])
    assert [likely["id"] for likely in second["top_logprobs"]] == [98, 99]
    assert fake.jobs[0].sampling.top_logprobs == 2


def test_several_prompts_get_an_array(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [text("1"), text("2")]
    bodies = whole(client, prompt=["ab", "c"])
    assert [(body["index"], body["prompt"], body["content"]) for body in bodies] == [(0, "ab", "1"), (1, "c", "2")]
    assert [body["index"] for body in streamed(client, prompt=["ab", "c"]) if body["stop"]] == [0, 1]


def test_the_answer_fits_a_schema(client: FlaskClient, fake: FakePipeline) -> None:
    whole(client, json_schema={"type": "array"})
    assert fake.demands == [JsonOutput('{"type": "array"}', "json_schema")]


def test_a_failure_ends_the_stream_with_its_error(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [[*text("a"), EngineError("It failed.")]]
    assert streamed(client)[-1]["error"]["message"] == "It failed."
    assert error(client.post(URL, json={"prompt": "a"}))["message"] == "It failed."


@pytest.mark.parametrize("stream", [False, True])
def test_a_real_completion(demo: Server, stream: bool) -> None:
    ids = demo.http.post("/tokenize", json={"content": "Hello", "add_special": True}).json()["tokens"]
    asked = {"prompt": ids, "n_predict": 16, "temperature": 0, "return_tokens": True, "stream": stream, "seed": 1}
    response = demo.http.post(URL, json=asked)
    pieces = events(response.text) if stream else [response.json()]
    tokens = [id for piece in pieces for id in piece["tokens"]]
    assert "".join(piece["content"] for piece in pieces).strip()
    assert pieces[-1]["tokens_evaluated"] == len(ids)
    assert 0 <= pieces[-1]["tokens_predicted"] - len(tokens) <= 1
    shown = demo.http.post("/detokenize", json={"tokens": tokens}).json()["content"]
    assert shown.strip() == "".join(piece["content"] for piece in pieces).strip()
    # A stop string is told.
    word = shown.strip()[3:6]
    stopped = demo.http.post(URL, json={**asked, "stream": False, "stop": [word]}).json()
    assert (stopped["stop_type"], stopped["stopping_word"]) == ("word", word)
