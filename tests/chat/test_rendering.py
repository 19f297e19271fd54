"""Answers: body and stream have the same content in OpenAI's form, whatever the model does."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import OpenAI
from openai.types.chat import ChatCompletion

from glm_api.backend.errors import ClientGone, DeadlineExceeded, EngineError, ShuttingDown
from glm_api.pipeline.frames import Event, Finished, Progress, Reasoning, Started, Text, TokenLogprob
from tests.support.client import CHAT, HELLO, MakeApp, chunks, events
from tests.support.fake_pipeline import FakePipeline, Script, call, logprob, reasoning, text

TOOLS = [{"type": "function", "function": {"name": "f"}}]


def whole(client: FlaskClient, **parameters: Any) -> dict[str, Any]:
    response = client.post(CHAT, json={"messages": HELLO, **parameters})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.get_json()
    return body


def streamed(client: FlaskClient, **parameters: Any) -> list[dict[str, Any]]:
    return chunks(client.post(CHAT, json={"messages": HELLO, "stream": True, **parameters}))


def deltas(stream: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    found = [choice for chunk in stream for choice in chunk["choices"] if choice["index"] == index]
    return [choice["delta"] for choice in found]


def joined(stream: list[dict[str, Any]], index: int = 0) -> tuple[dict[str, Any], str | None]:
    """The message and the finish reason that the chunks of a choice add up to."""
    message: dict[str, Any] = {"role": None, "content": "", "calls": []}
    for delta in deltas(stream, index):
        message["role"] = delta.get("role", message["role"])
        message["content"] += delta.get("content", "")
        for piece in delta.get("tool_calls", []):
            if "id" in piece:
                assert piece["index"] == len(message["calls"])
                assert piece["function"]["arguments"] == ""
                message["calls"].append({"id": piece["id"], "name": piece["function"]["name"], "arguments": ""})
            else:
                message["calls"][piece["index"]]["arguments"] += piece["function"]["arguments"]
    reasons = [choice["finish_reason"] for chunk in stream for choice in chunk["choices"] if choice["index"] == index]
    assert not any(reasons[:-1])
    return message, reasons[-1]


def test_the_body(client: FlaskClient) -> None:
    body = whole(client)
    assert body["id"].startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert body["model"] == "chatglm3-demo"
    assert body["system_fingerprint"].startswith("fp_")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 23,
        "completion_tokens": 5,
        "total_tokens": 28,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    assert body["timings"] == {
        "queue_ms": 1.5,
        "cache_n": 3,
        "prompt_n": 20,
        "prompt_ms": 20,
        "prompt_per_token_ms": 1,
        "prompt_per_second": 1000,
        "predicted_n": 5,
        "predicted_ms": 100,
        "predicted_per_token_ms": 25,
        "predicted_per_second": 40,
    }


def test_the_stream(client: FlaskClient) -> None:
    stream = streamed(client)
    assert deltas(stream) == [{"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}, {}]
    assert stream[-1]["choices"][0]["finish_reason"] == "stop"
    assert stream[-1]["timings"]["predicted_ms"] == 100
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in stream}) == 1
    assert stream[0]["object"] == "chat.completion.chunk"
    assert not any("usage" in chunk for chunk in stream)


def test_headers_keep_proxies_from_buffering_a_stream(client: FlaskClient) -> None:
    response = client.post(CHAT, json={"messages": HELLO, "stream": True})
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in response.headers


def test_usage_is_in_the_last_chunk_if_requested(client: FlaskClient) -> None:
    *before, last = streamed(client, stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in before)
    assert last["choices"] == []
    assert last["usage"] == whole(client)["usage"]


def test_usage_so_far_is_in_each_chunk_if_requested(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [text("one", " more"), call("f", "{}")]
    options = {"include_usage": True, "continuous_usage_stats": True}
    *before, last = streamed(client, n=2, stream_options=options)
    assert {chunk["usage"]["prompt_tokens"] for chunk in before} == {23}
    counts = [chunk["usage"]["completion_tokens"] for chunk in before]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, last["usage"]["completion_tokens"])
    assert len(set(counts)) > 3
    # As in vLLM, it changes nothing without include_usage.
    assert not any("usage" in chunk for chunk in streamed(client, stream_options={**options, "include_usage": False}))


def test_timings_so_far_are_in_each_chunk_if_requested(client: FlaskClient) -> None:
    stream = streamed(client, timings_per_token=True)
    assert [chunk["timings"]["predicted_n"] for chunk in stream] == [0, 3, 5, 5]
    assert {chunk["timings"]["prompt_n"] for chunk in stream} == {20}
    assert "".join(delta.get("content", "") for delta in deltas(stream)) == "Hello"
    assert whole(client)["timings"] == stream[-1]["timings"]


def test_counts_so_far_come_with_log_probabilities_too(client: FlaskClient, fake: FakePipeline) -> None:
    stream = streamed(client, timings_per_token=True, logprobs=True, stream_options={"include_usage": True})
    assert all(chunk["usage"] is None and chunk["timings"] for chunk in stream[:-1])


@pytest.mark.parametrize("counted", [{}, {"timings_per_token": True}, {"logprobs": True}], ids=str)
def test_a_text_ends_with_its_stop_string_if_requested(
    client: FlaskClient, fake: FakePipeline, counted: dict[str, Any]
) -> None:
    fake.scripts = [[*text("Hel", "lo"), Finished("stop", 5, 1.0, 1.0, 0, 10, stop_string="END")], text("Hi")]
    stream = streamed(client, include_stop_str_in_output=True, n=2, **counted)
    assert [joined(stream, index) for index in range(2)] == [
        ({"role": "assistant", "content": told, "calls": []}, "stop") for told in ("HelloEND", "Hi")
    ]
    body = whole(client, include_stop_str_in_output=True, n=2)
    assert [choice["message"]["content"] for choice in body["choices"]] == ["HelloEND", "Hi"]
    assert joined(streamed(client, include_stop_str_in_output=False))[0]["content"] == "Hello"
    assert whole(client)["choices"][0]["message"]["content"] == "Hello"


def test_choices_are_streamed_one_after_the_other(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [text("one"), text("two", "!"), call("f", "{}")]
    stream = streamed(client, n=3, stream_options={"include_usage": True})
    assert [joined(stream, index)[0]["content"] for index in range(3)] == ["one", "two!", ""]
    assert joined(stream, 2)[1] == "tool_calls"
    assert sorted(choice["index"] for chunk in stream for choice in chunk["choices"]) == [
        choice["index"] for chunk in stream for choice in chunk["choices"]
    ]
    body = whole(client, n=3)
    assert [choice["message"]["content"] for choice in body["choices"]] == ["one", "two!", None]
    # The prompt counts once, the answers each.
    assert body["usage"]["prompt_tokens"] == 23
    assert body["usage"]["completion_tokens"] == 3 + 4 + 2
    assert stream[-1]["usage"] == body["usage"]


def test_a_truncated_answer_has_finish_reason_length(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [[*text("Once"), Finished("length", 4, 1.0, 1.0, 0, 10)]]
    assert whole(client)["choices"][0]["finish_reason"] == "length"
    assert joined(streamed(client))[1] == "length"


def test_an_empty_answer(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [[]]
    assert whole(client)["choices"][0]["message"]["content"] == ""
    assert deltas(streamed(client)) == [{"role": "assistant", "content": ""}, {}]


def test_a_tool_call(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [call("f", '{"城市"', ': "北京"}')]
    body = whole(client, tools=TOOLS)
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"城市": "北京"}'}}
        ],
    }
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    assert deltas(streamed(client, tools=TOOLS))[1:] == [
        {"tool_calls": [{"index": 0, "id": "call_0", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"城市"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ': "北京"}'}}]},
        {},
    ]


def test_text_before_a_call_is_the_content(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [[*text("Let me see."), *call("f", "{}")]]
    message = whole(client, tools=TOOLS)["choices"][0]["message"]
    assert message["content"] == "Let me see."
    assert message["tool_calls"][0]["function"]["name"] == "f"


def test_a_call_in_the_legacy_form(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [call("f", '{"a"', ": 1}")]
    body = whole(client, functions=[{"name": "f"}])
    message = body["choices"][0]["message"]
    assert message["function_call"] == {"name": "f", "arguments": '{"a": 1}'}
    assert "tool_calls" not in message
    assert body["choices"][0]["finish_reason"] == "function_call"
    stream = streamed(client, functions=[{"name": "f"}])
    assert deltas(stream)[1:] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": '{"a"'}},
        {"function_call": {"arguments": ": 1}"}},
        {},
    ]
    assert stream[-1]["choices"][0]["finish_reason"] == "function_call"


def test_texts_that_come_together_are_one_chunk(client: FlaskClient, fake: FakePipeline, monkeypatch: Any) -> None:
    events: list[Event] = [Started(1, 0), *text("a", "b", "c"), *call("f", "{}"), *text("d")]
    events.append(Finished("stop", 1, 0.0, 0.0, 0, 1))
    monkeypatch.setattr("tests.support.fake_pipeline.FakeGeneration.events", lambda self, silence=None: iter([events]))
    assert [delta.get("content") for delta in deltas(streamed(client))] == ["", "abc", None, None, "d", None]


def test_progress_of_the_prompt(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [[Started(9, 2), Progress(5, 9, 2, 12.6), *text("Hi")]]
    stream = streamed(client, return_progress=True)
    assert fake.jobs[0].progress
    assert stream[1]["prompt_progress"] == {"total": 9, "cache": 2, "processed": 5, "time_ms": 13}
    assert stream[1]["choices"][0]["delta"] == {}


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\n"])
def test_no_client_finds_a_line_break_inside_a_chunk(client: FlaskClient, fake: FakePipeline, separator: str) -> None:
    said = f"你{separator}好"
    fake.scripts = [text(said)]
    response = client.post(CHAT, json={"messages": HELLO, "stream": True})
    lines = response.get_data(as_text=True).splitlines()
    assert all(line == "" or line.startswith("data: ") for line in lines)
    assert deltas(chunks(response))[1] == {"content": said}


def told(token: str, logprob: float, bytes: list[int], *top: dict[str, Any]) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": bytes, "top_logprobs": list(top)}


def likely(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def stream_logprobs(stream: list[dict[str, Any]], index: int = 0) -> list[tuple[str, list[str] | None]]:
    """The text of each chunk of a choice, and the tokens whose log-probabilities it has."""
    choices = [choice for chunk in stream for choice in chunk["choices"] if choice["index"] == index]
    tokens = [[entry["token"] for entry in (choice["logprobs"] or {"content": []})["content"]] for choice in choices]
    found = zip(choices, tokens, strict=True)
    return [(choice["delta"].get("content", ""), told if choice["logprobs"] else None) for choice, told in found]


class TestLogprobs:
    def test_the_body_has_each_token_and_the_likeliest(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [text("H", "é")]
        choice = whole(client, logprobs=True, top_logprobs=2)["choices"][0]
        assert choice["logprobs"] == {
            "content": [
                told("H", -0.5, [72], likely("H", -0.5), likely("I", -1.5)),
                told("é", -0.5, [195, 169], likely("é", -0.5), likely("ê", -1.5)),
            ],
            "refusal": None,
        }

    def test_without_top_logprobs_there_are_only_the_tokens(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [text("H")]
        choice = whole(client, logprobs=True)["choices"][0]
        assert choice["logprobs"] == {"content": [told("H", -0.5, [72])], "refusal": None}

    def test_they_are_null_unless_asked_for(self, client: FlaskClient) -> None:
        assert whole(client, logprobs=False)["choices"][0]["logprobs"] is None
        assert {choice["logprobs"] for chunk in streamed(client) for choice in chunk["choices"]} == {None}

    def test_an_answer_without_text_has_an_empty_list(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [call("f", "{}")]
        choice = whole(client, logprobs=True, tools=TOOLS)["choices"][0]
        assert choice["logprobs"] == {"content": [], "refusal": None}

    def test_each_chunk_has_those_of_its_text(self, client: FlaskClient, fake: FakePipeline) -> None:
        # The tokens of a hidden text have none, and neither has text that is released without a token.
        fake.scripts = [[*text("Hel"), Text("", [7, 8]), Text("l", []), *text("o"), *call("f", "{}")]]
        stream = streamed(client, logprobs=True, tools=TOOLS)
        assert stream_logprobs(stream)[:5] == [
            ("", None),
            ("Hel", ["H", "e", "l"]),
            ("", None),
            ("l", None),
            ("o", ["o"]),
        ]
        assert all(tokens is None for _, tokens in stream_logprobs(stream)[5:])

    def test_texts_that_come_together_keep_theirs(
        self, client: FlaskClient, fake: FakePipeline, monkeypatch: Any
    ) -> None:
        said = [Text(letter, [ord(letter)], [logprob(ord(letter))]) for letter in "ab"]
        batch: list[Event] = [Started(1, 0), *said, Text("", [1]), Finished("stop", 3, 0.0, 0.0, 0, 1)]
        patched = "tests.support.fake_pipeline.FakeGeneration.events"
        monkeypatch.setattr(patched, lambda self, silence=None: iter([batch]))
        assert stream_logprobs(streamed(client, logprobs=True)) == [("", None), ("ab", ["a", "b"]), ("", None)]

    def test_each_choice_has_its_own(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [text("a"), text("b", "c")]
        choices = whole(client, logprobs=True, n=2)["choices"]
        tokens = [[entry["token"] for entry in choice["logprobs"]["content"]] for choice in choices]
        assert tokens == [["a"], ["b", "c"]]
        stream = streamed(client, logprobs=True, n=2)
        assert stream_logprobs(stream, 0) == [("", None), ("a", ["a"]), ("", None)]
        assert stream_logprobs(stream, 1) == [("", None), ("b", ["b"]), ("c", ["c"]), ("", None)]

    def test_parts_of_a_character_are_shown_as_bytes(self, client: FlaskClient, fake: FakePipeline) -> None:
        first, *others = (TokenLogprob(id, bytes([byte]), -0.25, []) for id, byte in enumerate("你".encode()))
        fake.scripts = [[Text("你", [0, 1, 2], [first, *others])]]
        content = whole(client, logprobs=True)["choices"][0]["logprobs"]["content"]
        assert [entry["token"] for entry in content] == ["\\xe4", "\\xbd", "\\xa0"]
        assert bytes(byte for entry in content for byte in entry["bytes"]).decode() == "你"

    def test_a_probability_of_0_is_a_number(self, client: FlaskClient, fake: FakePipeline) -> None:
        entry = TokenLogprob(1, b"a", -math.inf, [(2, b"b", 0.0), (1, b"a", -math.inf)])
        fake.scripts = [[Text("a", [1], [entry])]]
        (got,) = whole(client, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
        assert got == told("a", -9999.0, [97], likely("b", 0), likely("a", -9999.0))
        (got,) = streamed(client, logprobs=True)[1]["choices"][0]["logprobs"]["content"]
        assert got["logprob"] == -9999.0


def thought(stream: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(delta.get("reasoning_content", "") for delta in deltas(stream, index))


class TestReasoning:
    def test_the_body_has_it_apart(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm", ", well"), *text("Hello")]]
        body = whole(client)
        assert body["choices"][0]["message"] == {
            "role": "assistant",
            "reasoning_content": "Hm, well",
            "content": "Hello",
            "refusal": None,
        }
        assert body["usage"]["completion_tokens"] == 8 + 5
        assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 8}

    def test_it_is_streamed_before_the_text(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm", '"\u2028'), *text("Hel", "lo")]]
        stream = streamed(client, stream_options={"include_usage": True})
        assert deltas(stream) == [
            {"role": "assistant", "content": ""},
            {"reasoning_content": "Hm"},
            {"reasoning_content": '"\u2028'},
            {"content": "Hel"},
            {"content": "lo"},
            {},
        ]
        assert all(chunk["usage"] is None for chunk in stream[:-1])
        assert stream[-1]["usage"] == whole(client)["usage"]

    def test_pieces_that_come_together_are_one_chunk(
        self, client: FlaskClient, fake: FakePipeline, monkeypatch: Any
    ) -> None:
        batch = [Started(1, 0), *reasoning("a", "b"), *text("c", "d"), *reasoning("e"), Finished("stop", 5, 0, 0, 0, 1)]
        patched = "tests.support.fake_pipeline.FakeGeneration.events"
        monkeypatch.setattr(patched, lambda self, silence=None: iter([batch]))
        stream = streamed(client, stream_options={"include_usage": True})
        assert deltas(stream)[1:-1] == [{"reasoning_content": "ab"}, {"content": "cd"}, {"reasoning_content": "e"}]
        assert stream[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}

    def test_a_piece_without_text_is_counted_and_not_sent(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm"), Reasoning("", [1, 2]), *text("Hello")]]
        stream = streamed(client, stream_options={"include_usage": True})
        assert len(deltas(stream)) == 4
        assert stream[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 4}

    def test_an_answer_that_is_cut_in_it_is_empty(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm"), Finished("length", 2, 1.0, 1.0, 0, 10)]]
        choice = whole(client)["choices"][0]
        assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("Hm", "")
        assert choice["finish_reason"] == "length"
        message, reason = joined(streamed(client))
        assert (message["content"], reason) == ("", "length")

    def test_a_call_may_follow_it(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm"), *call("f", "{}")]]
        message = whole(client, tools=TOOLS)["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("Hm", None)
        assert message["tool_calls"][0]["function"]["name"] == "f"
        legacy = whole(client, functions=[{"name": "f"}])["choices"][0]["message"]
        assert (legacy["reasoning_content"], legacy["function_call"]["name"]) == ("Hm", "f")

    def test_each_choice_has_its_own(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("a"), *text("A")], text("B"), [*reasoning("cc"), *text("C")]]
        body = whole(client, n=3)
        found = [choice["message"].get("reasoning_content") for choice in body["choices"]]
        assert found == ["a", None, "cc"]
        assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
        stream = streamed(client, n=3)
        assert [thought(stream, index) for index in range(3)] == ["a", "", "cc"]

    def test_it_has_no_logprobs(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm"), *text("Hi")]]
        choice = whole(client, logprobs=True)["choices"][0]
        assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["H", "i"]
        stream = streamed(client, logprobs=True)
        assert stream_logprobs(stream) == [("", None), ("", None), ("Hi", ["H", "i"]), ("", None)]
        assert thought(stream) == "Hm"

    def test_it_can_be_left_out(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm"), *text("Hello")]]
        told = whole(client)
        body = whole(client, include_reasoning=False)
        del told["choices"][0]["message"]["reasoning_content"]
        assert body["choices"] == told["choices"]
        assert body["usage"] == told["usage"]
        stream = streamed(client, include_reasoning=False, stream_options={"include_usage": True})
        assert deltas(stream) == [{"role": "assistant", "content": ""}, {"content": "Hello"}, {}]
        assert stream[-1]["usage"] == told["usage"]

    def test_pings_are_sent_while_it_is_left_out(self, make_app: MakeApp, monkeypatch: Any) -> None:
        clock = [0.0]

        def thinks_for_a_minute() -> Any:
            yield [Started(1, 0)]
            for piece in reasoning(*"abcdef"):
                clock[0] += 10
                yield [piece]
            yield [*text("Hi"), Finished("stop", 8, 0.0, 0.0, 0, 1)]

        monkeypatch.setattr("glm_api.api.sse.time.monotonic", lambda: clock[0])
        patched = "tests.support.fake_pipeline.FakeGeneration.events"
        monkeypatch.setattr(patched, lambda self, silence=None: thinks_for_a_minute())
        asked = {"messages": HELLO, "stream": True, "include_reasoning": False}
        response = make_app(ping_interval=20).test_client().post(CHAT, json=asked)
        assert response.get_data(as_text=True).count(": ping\n") == 3
        assert joined(chunks(response))[0]["content"] == "Hi"

    def test_openais_client_reads_it(self, sdk: OpenAI, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm"), *text("Hello")]]
        asked: dict[str, Any] = {"model": "x", "messages": HELLO}
        body: ChatCompletion = sdk.chat.completions.create(**asked)
        assert body.choices[0].message.model_extra == {"reasoning_content": "Hm"}
        assert body.usage is not None
        assert body.usage.completion_tokens_details is not None
        assert body.usage.completion_tokens_details.reasoning_tokens == 2
        with sdk.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].message.content == "Hello"
        assert final.usage == body.usage


SILENCES: Script = [None, None, Started(5, 0), None, Text("Hi", [1]), None]


class TestSilence:
    def test_pings_are_sent_while_nothing_happens(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [SILENCES]
        response = client.post(CHAT, json={"messages": HELLO, "stream": True})
        assert response.get_data(as_text=True).count(": ping\n") == 4
        assert joined(chunks(response))[0]["content"] == "Hi"

    def test_no_pings_are_sent_if_they_are_off(self, make_app: MakeApp, fake: FakePipeline) -> None:
        fake.scripts = [SILENCES]
        response = make_app(ping_interval=0).test_client().post(CHAT, json={"messages": HELLO, "stream": True})
        assert ": ping" not in response.get_data(as_text=True)

    def test_a_body_has_no_pings(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [SILENCES]
        assert whole(client)["choices"][0]["message"]["content"] == "Hi"


FAILURES = [
    (EngineError("It died."), "server_error", "engine_error"),
    (DeadlineExceeded("Too long."), "server_error", "timeout"),
    (ShuttingDown("Bye."), "unavailable_error", "shutting_down"),
]


@pytest.mark.parametrize(("failure", "type", "code"), FAILURES)
def test_a_stream_that_fails_ends_with_the_error(
    client: FlaskClient, fake: FakePipeline, failure: Any, type: str, code: str
) -> None:
    fake.scripts = [[*text("Once"), failure]]
    response = client.post(CHAT, json={"messages": HELLO, "stream": True})
    *_, said, last, end = events(response)
    assert json.loads(said)["choices"][0]["delta"] == {"content": "Once"}
    assert json.loads(last) == {"error": {"message": failure.message, "type": type, "param": None, "code": code}}
    assert end == "[DONE]"
    assert fake.generations[0].closed


def test_a_bug_in_the_middle_of_a_stream_ends_it_with_an_error(client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [[*text("Once"), Started("five", 0), Finished("stop", "x", 0, 0, 0, 0)]]  # type: ignore[arg-type]
    *_, last, end = events(
        client.post(CHAT, json={"messages": HELLO, "stream": True, "stream_options": {"include_usage": True}})
    )
    assert json.loads(last)["error"]["type"] == "server_error"
    assert end == "[DONE]"


class TestThePlaceIsGivenBack:
    def test_after_a_response_in_one_piece(self, client: FlaskClient, fake: FakePipeline) -> None:
        whole(client)
        assert fake.generations[0].closed

    def test_after_a_stream(self, client: FlaskClient, fake: FakePipeline) -> None:
        response = client.post(CHAT, json={"messages": HELLO, "stream": True})
        assert not fake.generations[0].closed
        response.get_data()
        response.close()
        assert fake.generations[0].closed

    def test_after_a_client_leaves_in_the_middle(self, client: FlaskClient, fake: FakePipeline) -> None:
        response = client.post(CHAT, json={"messages": HELLO, "stream": True})
        next(iter(response.response))
        response.close()
        assert fake.generations[0].closed

    def test_after_a_client_leaves_before_the_first_byte(self, client: FlaskClient, fake: FakePipeline) -> None:
        client.post(CHAT, json={"messages": HELLO, "stream": True}).close()
        assert fake.generations[0].closed

    def test_after_the_stream_learns_that_the_client_is_gone(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*text("Once"), ClientGone("Gone.")]]
        response = client.post(CHAT, json={"messages": HELLO, "stream": True})
        assert response.get_data(as_text=True).count("data: ") == 2
        assert fake.generations[0].closed


# --- for any answer -----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["f", "get_weather"])
PIECES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TEXTS = st.lists(PIECES, max_size=4).map(lambda pieces: text(*pieces))
CALLS = st.builds(lambda name, pieces: call(name, *pieces), NAMES, st.lists(PIECES, max_size=3))
PROGRESS: st.SearchStrategy[Event] = st.builds(Progress, st.integers(0, 9), st.just(9), st.just(0), st.floats(0, 1e6))
NOTHING: st.SearchStrategy[list[Event]] = st.just([])
THOUGHTS = NOTHING | st.lists(PIECES, max_size=3).map(lambda pieces: reasoning(*pieces))


def answer(progress: list[Event], thoughts: list[Event], text: list[Event], call: list[Event]) -> list[Event]:
    return [*progress, *thoughts, *text, *call]


ANSWERS = st.builds(answer, st.lists(PROGRESS, max_size=1), THOUGHTS, TEXTS, NOTHING | CALLS)


@pytest.fixture(scope="module")
def chunk_schema(shared_app: Any) -> jsonschema.Draft202012Validator:
    """The chunk's schema, as the API's document describes it."""
    document = shared_app.test_client().get("/openapi.json").get_json()
    return jsonschema.Draft202012Validator({"$ref": "#/components/schemas/ChatChunk", **document})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    answers=st.lists(ANSWERS, min_size=1, max_size=2),
    usage=st.booleans(),
    legacy=st.booleans(),
    top=st.none() | st.integers(0, 2),
)
def test_chunks_match_their_schema_and_add_up_to_the_body(
    client: FlaskClient,
    fake: FakePipeline,
    chunk_schema: jsonschema.Draft202012Validator,
    answers: list[list[Event]],
    usage: bool,
    legacy: bool,
    top: int | None,
) -> None:
    fake.scripts = list(answers)
    parameters: dict[str, Any] = {"n": len(answers)}
    if top is not None:
        parameters |= {"logprobs": True, "top_logprobs": top}
    if legacy:
        parameters["functions"] = [{"name": "f"}]
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    stream = streamed(client, return_progress=True, **options, **parameters)
    for chunk in stream:
        chunk_schema.validate(chunk)
    for choice in whole(client, **parameters)["choices"]:
        message, reason = joined(stream, choice["index"])
        assert (message["content"] or "") == (choice["message"]["content"] or "")
        assert thought(stream, choice["index"]) == choice["message"].get("reasoning_content", "")
        assert reason == choice["finish_reason"]
        found = [made["logprobs"] for chunk in stream for made in chunk["choices"] if made["index"] == choice["index"]]
        content = [entry for made in found if made for entry in made["content"]]
        assert content == (choice["logprobs"] or {"content": []})["content"]
        if not legacy:
            calls = choice["message"].get("tool_calls", [])
            assert message["calls"] == [{"id": made["id"], **made["function"]} for made in calls]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=ANSWERS, include_usage=st.booleans())
def test_reasoning_changes_nothing_else_of_an_answer(
    client: FlaskClient, fake: FakePipeline, answer: list[Event], include_usage: bool
) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if include_usage else {}

    def answers(script: list[Event]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        tokens = sum(len(getattr(event, "ids", ())) for event in answer)
        fake.scripts = [[*script, Finished("stop", tokens, 20.0, 100.0, 0, 1)]]
        return whole(client), streamed(client, return_progress=True, **options)

    body, stream = answers(answer)
    other, others = answers([event for event in answer if not isinstance(event, Reasoning)])
    body["choices"][0]["message"].pop("reasoning_content", None)
    stream = [chunk for chunk in stream if not any("reasoning_content" in c["delta"] for c in chunk["choices"])]
    for one in [body, other, *stream, *others]:
        for key in ("id", "created"):
            del one[key]
        (one.get("usage") or {}).pop("completion_tokens_details", None)
    # In order, as the bytes are.
    assert json.dumps([body, stream]) == json.dumps([other, others])


# --- with OpenAI's client -----------------------------------------------------------------------------------------


def test_openais_client_reads_body_and_stream(sdk: OpenAI, fake: FakePipeline) -> None:
    fake.scripts = [[*text("Hm."), *call("f", "{}")]]
    body = sdk.chat.completions.create(model="x", messages=[{"role": "user", "content": "Hi"}])
    calls = body.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    with sdk.chat.completions.stream(model="x", messages=[{"role": "user", "content": "Hi"}]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == body.choices[0].message.content == "Hm."
    assert final.choices[0].finish_reason == "tool_calls"


def test_openais_client_reads_logprobs(sdk: OpenAI, fake: FakePipeline) -> None:
    fake.scripts = [text("Hel", "lo")]
    asked: dict[str, Any] = {"model": "x", "messages": HELLO, "logprobs": True, "top_logprobs": 1}
    body: ChatCompletion = sdk.chat.completions.create(**asked)
    logprobs = body.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [entry.token for entry in logprobs.content] == list("Hello")
    assert [entry.top_logprobs[0].token for entry in logprobs.content] == list("Hello")
    with sdk.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].logprobs is not None
    assert final.choices[0].logprobs.content == logprobs.content
