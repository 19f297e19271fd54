"""Completions of raw text: one or several prompts, as text or as token ids, in one body or streamed."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from glm_api.completions.logprobs import offsets
from glm_api.pipeline.frames import Finished, Started, Text, TokenLogprob
from glm_api.pipeline.model_info import OutputSpec
from tests.support.client import chunks, error, refused
from tests.support.fake_pipeline import FakePipeline, Script, text

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


@pytest.mark.parametrize("logprobs", [None, 1])
def test_a_text_ends_with_its_stop_string_if_requested(
    client: FlaskClient, fake: FakePipeline, logprobs: int | None
) -> None:
    fake.scripts = [[*text("Hel", "lo"), Finished("stop", 5, 1.0, 1.0, 0, 10, stop_string="END")]]
    parameters = {"prompt": "a", "include_stop_str_in_output": True, "logprobs": logprobs}
    [choice] = whole(client, **parameters)["choices"]
    got = chunks(client.post(URL, json={**parameters, "stream": True}))
    assert choice["text"] == "".join(chunk["choices"][0]["text"] for chunk in got) == "HelloEND"
    if logprobs:
        # The tokens are those of the text before it.
        assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3, 4]


class TestLogprobs:
    def test_the_body_has_a_list_for_each_property(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [text("Hé", "y")]
        body = whole(client, prompt="Once", logprobs=2)
        assert fake.jobs[0].sampling.top_logprobs == 2
        assert not fake.jobs[0].sampling.prompt_logprobs
        assert body["choices"][0]["logprobs"] == {
            "tokens": ["H", "é", "y"],
            "token_logprobs": [-0.5, -0.5, -0.5],
            "top_logprobs": [{"H": -0.5, "I": -1.5}, {"é": -0.5, "ê": -1.5}, {"y": -0.5, "z": -1.5}],
            "text_offset": [0, 1, 2],
        }

    def test_without_alternatives_the_token_itself_is_told(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [text("H")]
        assert whole(client, prompt="a", logprobs=0)["choices"][0]["logprobs"]["top_logprobs"] == [{"H": -0.5}]

    def test_an_unlikely_token_is_told_beside_the_likeliest(self, client: FlaskClient, fake: FakePipeline) -> None:
        entry = TokenLogprob(98, b"b", -math.inf, [(97, b"a", -0.5), (1097, b"a", -2.0)])
        fake.scripts = [[Text("b", [98], [entry])]]
        got = whole(client, prompt="a", logprobs=2)["choices"][0]["logprobs"]
        assert got["token_logprobs"] == [-9999.0]
        # Of two tokens with the same text the likelier one is told.
        assert got["top_logprobs"] == [{"a": -0.5, "b": -9999.0}]

    def test_they_are_null_unless_asked_for(self, client: FlaskClient, fake: FakePipeline) -> None:
        assert whole(client, prompt="a", echo=True)["choices"][0]["logprobs"] is None
        assert fake.jobs[0].sampling.top_logprobs is None
        assert not fake.jobs[0].sampling.prompt_logprobs

    @pytest.mark.parametrize("value", [-1, 6, 1.5, True, "1"])
    def test_a_wrong_type_or_range_is_refused(self, client: FlaskClient, value: Any) -> None:
        refused(client.post(URL, json={"prompt": "a", "logprobs": value}), "logprobs")

    def test_the_prompt_is_told_with_echo(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [text("!")]
        body = whole(client, prompt=[20320, 98], logprobs=1, echo=True)
        assert fake.jobs[0].sampling.prompt_logprobs
        assert body["choices"][0]["text"] == "你b!"
        assert body["choices"][0]["logprobs"] == {
            "tokens": ["你", "b", "!"],
            "token_logprobs": [None, -0.5, -0.5],
            "top_logprobs": [None, {"b": -0.5}, {"!": -0.5}],
            "text_offset": [0, 1, 2],
        }

    def test_ids_that_open_a_prompt_have_no_place_in_its_text(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [text("c")]
        got = whole(client, prompt="ab", logprobs=0, echo=True)["choices"][0]["logprobs"]
        assert (got["tokens"], got["text_offset"]) == (["\x01", "a", "b", "c"], [0, 0, 1, 2])

    @pytest.mark.parametrize("max_tokens", [0, 1])
    def test_what_lm_evaluation_harness_asks_for(
        self, client: FlaskClient, fake: FakePipeline, max_tokens: int
    ) -> None:
        answer: Script = [*text("!"), Finished("length", 1, 1.0, 1.0, 0, 4)]
        fake.scripts = [answer if max_tokens else [Finished("length", 0, 1.0, 0.0, 0, 3)]]
        prompts = [[97, 98, 99], [100, 101]]
        body = whole(
            client, prompt=prompts, max_tokens=max_tokens, logprobs=1, echo=True, temperature=0, seed=1234, model="x"
        )
        assert fake.jobs[0].max_tokens == max_tokens
        for choice, ids in zip(body["choices"], prompts, strict=True):
            got = choice["logprobs"]
            assert {len(values) for values in got.values()} == {len(ids) + max_tokens}
            assert got["token_logprobs"][0] is None
            assert all(logprob <= max(top.values()) for logprob, top in list(zip(*told(got), strict=True))[1:])
            assert choice["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == 2 * max_tokens

    def test_the_token_that_ends_an_answer_counts(self, client: FlaskClient, fake: FakePipeline) -> None:
        # lm-evaluation-harness drops the last token, which must not be one of the prompt.
        end = TokenLogprob(7, b"<|user|>", -0.25, [])
        fake.scripts = [[Text("", [], [end]), Finished("stop", 1, 1.0, 1.0, 0, 3)]]
        asked = {"prompt": [97, 98], "logprobs": 1, "echo": True, "max_tokens": 1}
        choice = whole(client, **asked)["choices"][0]
        assert choice["text"] == "ab"
        assert choice["logprobs"]["tokens"] == ["a", "b", "<|user|>"]
        assert choice["logprobs"]["text_offset"] == [0, 1, 2]
        last = chunks(client.post(URL, json={**asked, "stream": True}))[-2]["choices"][0]
        assert (last["text"], last["logprobs"]["tokens"]) == ("", ["<|user|>"])

    def test_a_request_for_no_text_at_all_is_refused(self, client: FlaskClient) -> None:
        refused(client.post(URL, json={"prompt": "a", "max_tokens": 0}), "max_tokens")
        refused(client.post(URL, json={"prompt": "a", "max_tokens": -2, "echo": True}), "max_tokens")

    def test_more_of_prompts_than_one_answer_may_hold_are_refused(self, client: FlaskClient) -> None:
        parameters = {"prompt": [[97] * 4096] * 16, "n": 2, "echo": True}
        refused(client.post(URL, json={**parameters, "logprobs": 2}), "logprobs")
        assert client.post(URL, json={**parameters, "logprobs": 1}).status_code == 200
        assert client.post(URL, json=parameters).status_code == 200

    @pytest.mark.parametrize("echo", [False, True])
    def test_the_stream_adds_up_to_the_body(self, client: FlaskClient, fake: FakePipeline, echo: bool) -> None:
        fake.scripts = [[*text("Hé", "l"), Text("", [7]), Text("x", []), *text("o")], text("你好"), [], text("!")]
        asked = {"prompt": ["ab", "c"], "n": 2, "logprobs": 1, "echo": echo}
        stream = chunks(client.post(URL, json={**asked, "stream": True}))
        for whole_choice in whole(client, **asked)["choices"]:
            found = [c for chunk in stream for c in chunk["choices"] if c["index"] == whole_choice["index"]]
            assert "".join(choice["text"] for choice in found) == whole_choice["text"]
            for name, values in whole_choice["logprobs"].items():
                assert [v for choice in found for v in (choice["logprobs"] or {}).get(name, [])] == values

    def test_the_echo_comes_first_in_a_stream_and_with_its_own(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[Started(2, 0), None, *text("c")]]
        asked = {"prompt": [97, 98], "logprobs": 0, "echo": True, "stream": True}
        first, second, last = (chunk["choices"][0] for chunk in chunks(client.post(URL, json=asked)))
        assert (first["text"], first["logprobs"]["tokens"]) == ("ab", ["a", "b"])
        assert (second["text"], second["logprobs"]["text_offset"]) == ("c", [2])
        assert (last["text"], last["logprobs"], last["finish_reason"]) == ("", None, "stop")


def told(logprobs: dict[str, Any]) -> tuple[list[float], list[dict[str, float]]]:
    return logprobs["token_logprobs"], logprobs["top_logprobs"]


SPECIAL = "<|user|>"


@pytest.mark.parametrize(
    ("said", "pieces", "begins"),
    [
        ("", [], []),
        ("ab cd", [b"ab", b" cd"], [0, 2]),
        # sentencepiece puts a space in front of the first word.
        ("Once a", [b" Once", b" a"], [0, 4]),
        ("Once a", [b" ", b"Once", b" ", b"a"], [0, 0, 4, 5]),
        ("a a", [b"[gMASK]", b"sop", b" a", b" a"], [0, 0, 0, 1]),
        # Parts of a character have its place.
        ("x你好", [b"x", b"\xe4", b"\xbd\xa0\xe5", b"\xa5\xbd"], [0, 1, 1, 2]),
        # Special tokens are shown in the text of token ids, and not otherwise.
        (f"{SPECIAL}hi", [SPECIAL.encode(), b"hi"], [0, 8]),
        ("hi", [b"", b"h", b"", b"i", b""], [0, 0, 1, 1, 2]),
        # Bytes that are no character, and a character that the tokenizer does not know.
        ("a\ufffd\ufffdb", [b"a", b"\xff\xff", b"b"], [0, 1, 3]),
        ("a\U0001f600b c", [b"a", " ⁇ ".encode(), b"b", b" c"], [0, 1, 2, 3]),
        # A text that ends inside a token, because of a possible stop string, and the text that follows it.
        ("ab", [b"a", b"bcd"], [0, 1]),
        ("cde", [b"e"], [2]),
    ],
)
def test_text_offsets(said: str, pieces: list[bytes], begins: list[int]) -> None:
    assert offsets(said, pieces) == begins


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)), st.data())
def test_offsets_of_tokens_cut_anywhere(words: list[str], data: st.DataObject) -> None:
    said = "".join(words)
    encoded = said.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(encoded) - 1)), max_size=8)) & set(range(len(encoded))))
    pieces = [encoded[begin:end] for begin, end in pairwise([0, *cuts, len(encoded)])] if encoded else []
    whole_characters = [len(encoded[:begin].decode(errors="ignore")) for begin in [0, *cuts]] if encoded else []
    assert offsets(said, pieces) == whole_characters


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("suffix", "end"), ("best_of", 2), ("top_logprobs", 1)],
)
def test_an_unsupported_parameter_is_refused_by_name(client: FlaskClient, parameter: str, value: Any) -> None:
    refused(client.post(URL, json={"prompt": "a", parameter: value}), parameter, "unsupported_parameter")


def test_neutral_values_are_accepted(client: FlaskClient) -> None:
    assert whole(client, prompt="a", suffix="", best_of=1, top_logprobs=0)


def test_openais_client_reads_the_body(sdk: OpenAI) -> None:
    assert sdk.completions.create(model="x", prompt="Once").choices[0].text == "Hello"


def test_openais_client_reads_logprobs(sdk: OpenAI) -> None:
    logprobs = sdk.completions.create(model="x", prompt="Once", logprobs=1).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == list("Hello")
    assert logprobs.text_offset == [0, 1, 2, 3, 4]
    assert logprobs.top_logprobs == [{letter: -0.5} for letter in "Hello"]
