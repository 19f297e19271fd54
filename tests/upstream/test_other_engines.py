"""Engines differ from OpenAI's API in ways that its clients understand all the same: so do clients of this server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from flask.testing import FlaskClient
from openai import OpenAI

from glm_api.upstream import errors
from glm_api.upstream.event_stream import LARGEST_EVENT
from tests.support.client import HELLO, chunks, error, events, openai_client
from tests.support.processes import until
from tests.support.upstream.relayed import ANSWER, COUNTS, MakeClient, ask, ask_to_the_end, metric
from tests.support.upstream.relayed import chunk as bare_chunk
from tests.support.upstream.scripted import Script, ScriptedUpstream, body, sse

RESPONSE = {"object": "response", "id": "r", "model": "big-glm", "output": [], "created_at": 1.0}


def chunk(text: str, reason: str | None = None, index: int = 0) -> dict[str, Any]:
    """A chunk that the SDK validates."""
    found = {**bare_chunk(text, reason), "id": "x", "created": 1}
    found["choices"][0]["index"] = index
    return found


def stream(*parts: object) -> Script:
    """A stream; bytes stand for themselves, anything else is an event's data."""
    events = [part if isinstance(part, bytes) else b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts]
    return Script([b"".join(events)], headers={"Content-Type": "text/event-stream"})


def fail(response_events: list[str]) -> dict[str, Any]:
    """The only error of a stream, which comes last before ``[DONE]``."""
    *before, failure, done = response_events
    assert done == "[DONE]"
    assert not [event for event in before if "error" in json.loads(event)]
    found: dict[str, Any] = json.loads(failure)["error"]
    return found


@pytest.fixture
def strict(client: FlaskClient) -> Iterator[OpenAI]:
    """OpenAI's client of the application."""
    with openai_client(client.application) as sdk:
        yield sdk


def streamed_text(sdk: OpenAI) -> str:
    answer = sdk.chat.completions.create(model="big-glm", messages=[{"role": "user", "content": "Hello"}], stream=True)
    return "".join(part.choices[0].delta.content or "" for part in answer)


class TestHalfASurrogatePair:
    @pytest.mark.parametrize("half", ["\ud83d", "a\udfffb"])
    def test_an_answer_has_it_as_the_engine_wrote_it(
        self, client: FlaskClient, strict: OpenAI, upstream: ScriptedUpstream, half: str
    ) -> None:
        counts = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer: dict[str, Any] = {**ANSWER, "created": 1, "usage": counts}
        answer["choices"] = [
            {"index": 0, "message": {"role": "assistant", "content": half}, "finish_reason": "stop"},
        ]
        upstream.script = body(answer)
        assert ask(client).get_json() == answer
        sdk_answer = strict.chat.completions.create(model="x", messages=[{"role": "user", "content": "Hello"}])
        assert sdk_answer.choices[0].message.content == half
        upstream.script = sse(chunk(half, "stop"))
        assert chunks(ask(client, stream=True)) == [chunk(half, "stop")]
        assert streamed_text(strict) == half

    def test_in_the_names_of_models_and_owners(self, make: MakeClient, upstream: ScriptedUpstream) -> None:
        upstream.models = body({"data": [{"id": "bad\ud83d"}, {"id": "good", "owned_by": "lab\ud83d"}]})
        client = make()
        [model] = client.get("/v1/models").get_json()["data"]
        assert (model["id"], model["owned_by"]) == ("good", "lab?")

    def test_in_errors(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        fault = {"message": "m\ud83d", "type": "t\ud83d", "param": "p\ud83d", "code": "c\ud83d"}
        upstream.script = body({"error": fault}, 400)
        assert error(ask(client)) == {"message": "m?", "type": "t?", "param": "p?", "code": "c?"}
        upstream.script = sse({"error": fault}, done=False)
        assert fail(events(ask(client, stream=True))) == {"message": "m?", "type": "t?", "param": "p?", "code": "c?"}


def test_bytes_that_are_not_utf_8_are_replaced_as_in_browsers(client: FlaskClient, upstream: ScriptedUpstream) -> None:
    cut = json.dumps(ANSWER, ensure_ascii=False).encode().replace("你".encode(), "你".encode()[:2])
    upstream.script = Script([b"\xef\xbb\xbf" + cut])
    assert ask(client).get_json()["choices"][0]["message"]["content"] == "\ufffd好"
    upstream.script = stream(b"data: " + cut + b"\n\n", b"data: [DONE]\n\n")
    assert chunks(ask(client, stream=True))[0]["choices"][0]["message"]["content"] == "\ufffd好"


@pytest.mark.parametrize("stream", [False, True])
def test_no_depth_is_a_fault_of_this_server(client: FlaskClient, upstream: ScriptedUpstream, stream: bool) -> None:
    # Near the limit of Python's JSON: what it can just read it may not be able to write.
    for depth in [*range(820, 1000, 4), 100_000]:
        deep = b'{"x": ' + b"[" * depth + b"]" * depth + b', "choices": [{"finish_reason": "stop"}]}'
        upstream.script = Script([b"data: " + deep + b"\n\n" if stream else deep])
        response = ask(client, stream=stream)
        if stream:
            text = response.get_data(as_text=True)
            assert "See the server's log" not in text
            assert text.endswith("data: [DONE]\n\n")
        else:
            assert response.status_code in (200, 502)
            assert response.status_code == 200 or error(response)["code"] == "upstream_error"


class TestEndOfAStream:
    @pytest.mark.parametrize(
        "end",
        [
            b"",
            b": bye\n\n",
            b"data: [DONE]",
            b"data: [DONE]\n",
            b"data: [DONE]\r\n",
            b"data:[DONE]\n\n",
            b"data: [DONE] \n\n",
            b"data:  [DONE]\n\n",
            b"data: [DONE]\t\n",
            b"event: done\ndata: [DONE]\n\n",
            b"data: [DONE]}\n\n",
            b'data: {"cut',
            b"data: [DO",
        ],
    )
    def test_a_whole_answer_ends_well_however_its_end_is_spelled(
        self, client: FlaskClient, strict: OpenAI, upstream: ScriptedUpstream, end: bytes
    ) -> None:
        upstream.script = stream(chunk("a"), chunk("b", "stop"), COUNTS, end)
        assert chunks(ask_to_the_end(client)) == [chunk("a"), chunk("b", "stop")]
        assert metric(client, 'glm_request_success_total{finished_reason="stop"}') == 1
        assert metric(client, "glm_prompt_tokens_total") == 5
        assert streamed_text(strict) == "ab"

    def test_the_last_event_needs_no_empty_line(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = stream(chunk("a"), b"data: " + json.dumps(chunk("b", "stop")).encode())
        assert chunks(ask(client, stream=True)) == [chunk("a"), chunk("b", "stop")]

    def test_events_need_no_empty_lines_between(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        lines = [f"data: {json.dumps(part)}\n".encode() for part in (chunk("a"), chunk("b", "stop"))]
        upstream.script = stream(*lines, b"data: [DONE]\n\n")
        assert chunks(ask(client, stream=True)) == [chunk("a"), chunk("b", "stop")]

    def test_an_event_may_have_several_lines_of_data(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        lines = json.dumps(chunk("a", "stop"), indent=1).encode().replace(b"\n", b"\ndata: ")
        upstream.script = stream(b"data: " + lines + b"\n\n")
        assert chunks(ask(client, stream=True)) == [chunk("a", "stop")]

    @pytest.mark.parametrize(
        "parts",
        [
            [chunk("a")],
            [chunk("a", "")],
            [chunk("a", "stop"), chunk("b", index=1)],
            [COUNTS],
            [b": hi\n\n"],
            [chunk("a"), b'data: {"cut'],
        ],
    )
    def test_an_answer_that_is_not_whole_is_cut_off(
        self, client: FlaskClient, upstream: ScriptedUpstream, parts: list[Any]
    ) -> None:
        upstream.script = stream(*parts)
        assert fail(events(ask(client, stream=True)))["message"] == errors.cut_off().message

    def test_each_choice_has_its_own_finish_reason(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        parts = [chunk("a"), chunk("b", index=1), chunk("", "length", index=1), chunk("", "stop")]
        upstream.script = stream(*parts)
        assert chunks(ask_to_the_end(client)) == parts
        assert metric(client, 'glm_request_success_total{finished_reason="length"}') == 1

    def test_a_finish_reason_is_counted_once(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = stream(chunk("a", ""), chunk("b", "stop"), chunk("", "stop"))
        ask_to_the_end(client)
        assert metric(client, 'glm_request_success_total{finished_reason="stop"}') == 1
        assert metric(client, 'glm_request_success_total{finished_reason="other"}') == 0

    def test_a_connection_that_breaks_is_no_end(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        whole = stream(chunk("a", "stop"))
        upstream.script = Script(whole.steps, headers=whole.headers, length=10_000)
        assert fail(events(ask(client, stream=True)))["message"] == errors.cut_off().message

    @pytest.mark.parametrize("after", [b"data: {\n\n", b'data: {"error": "late"}\n\n'])
    def test_nothing_counts_after_done(self, client: FlaskClient, upstream: ScriptedUpstream, after: bytes) -> None:
        whole = stream(chunk("a", "stop"), b"data: [DONE]\n\n", after)
        upstream.script = Script(whole.steps, headers=whole.headers, length=10_000)
        assert chunks(ask(client, stream=True)) == [chunk("a", "stop")]

    def test_an_engine_that_holds_the_connection_after_done_holds_nobody(
        self, make: MakeClient, upstream: ScriptedUpstream
    ) -> None:
        # Whoever waited for the end of the connection would get an error at the deadline.
        client = make(request_timeout=10)
        upstream.script = Script([*sse(chunk("a", "stop"), COUNTS).steps, threading.Event()])
        assert chunks(ask_to_the_end(client)) == [chunk("a", "stop")]
        until(upstream.left.is_set)
        assert metric(client, "glm_num_requests_running") == 0
        assert metric(client, "glm_request_queue_time_seconds_count") == 1

    def test_a_connection_that_breaks_after_a_whole_response_is_no_failure(
        self, client: FlaskClient, upstream: ScriptedUpstream
    ) -> None:
        done = {"type": "response.completed", "response": {**RESPONSE, "status": "completed"}}
        whole = stream(b"event: response.completed\n", done)
        upstream.script = Script(whole.steps, headers=whole.headers, length=10_000)
        response = client.post("/v1/responses", json={"input": "x", "stream": True}, buffered=True)
        [event] = events(response)
        assert json.loads(event) == done
        assert metric(client, 'glm_request_success_total{finished_reason="stop"}') == 1


class TestEventsBesideTheAnswer:
    @pytest.mark.parametrize(
        "beside",
        [b"data:\n\n", b"data: \n\n", b"event: ping\n\n", b"id: 7\n\n", b"retry: 5\n\n", b"id: 7\n", b": hi\n\n: ho\n"],
    )
    def test_openai_s_client_reads_on(
        self, client: FlaskClient, strict: OpenAI, upstream: ScriptedUpstream, beside: bytes
    ) -> None:
        # With an id it would fail at the next empty line without data, such as that of a ping.
        parts = [beside, chunk("a"), beside, b": ping\n\n", chunk("b", "stop"), beside, b"\n", b"data: [DONE]\n\n"]
        upstream.script = stream(*parts)
        assert streamed_text(strict) == "ab"
        assert chunks(ask(client, stream=True)) == [chunk("a"), chunk("b", "stop")]

    def test_what_shows_that_the_engine_lives_shows_it_to_the_client(
        self, client: FlaskClient, upstream: ScriptedUpstream
    ) -> None:
        gate = threading.Event()
        upstream.script = Script([b": still here\n\n", gate, *sse(chunk("a", "stop")).steps])
        response = ask(client, stream=True)
        pieces = response.iter_encoded()
        assert next(pieces).startswith(b":")
        gate.set()
        assert b"[DONE]" in b"".join(pieces)


class TestUnreadableEvents:
    @pytest.mark.parametrize("bad", [b"data: {\n\n", b"data: []\n\n", b"data: {}\ndata: {\n\n", b"data: null\n\n"])
    def test_the_events_before_one_in_the_same_read_are_kept(
        self, client: FlaskClient, upstream: ScriptedUpstream, bad: bytes
    ) -> None:
        upstream.script = stream(chunk("a"), chunk("b"), bad, chunk("c", "stop"))
        first, second, *rest = events(ask(client, stream=True))
        assert [json.loads(first), json.loads(second)] == [chunk("a"), chunk("b")]
        assert fail([part for part in rest if part != "{}"])["message"] == errors.unreadable().message

    def test_those_before_one_that_is_too_large_too(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = stream(chunk("a"), b"data: " + b"x" * (LARGEST_EVENT + 1))
        first, *rest = events(ask(client, stream=True))
        assert json.loads(first) == chunk("a")
        assert fail(rest)["message"] == errors.unreadable().message

    def test_the_engine_is_left_at_once(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = Script([b"data: {\n\n", threading.Event()])
        assert fail(events(ask(client, stream=True)))["code"] == "upstream_error"
        until(upstream.left.is_set)

    @pytest.mark.parametrize(
        "odd",
        [
            {"type": ["x"]},
            {"choices": [{"index": {}, "finish_reason": []}]},
            {"usage": {"prompt_tokens": 10**400, "completion_tokens": -1}},
            {"choices": [None, {"delta": {"tool_calls": [{"function": {"name": 5}}]}}]},
        ],
    )
    def test_odd_values_are_passed_on(
        self, client: FlaskClient, upstream: ScriptedUpstream, odd: dict[str, Any]
    ) -> None:
        upstream.script = body(odd)
        assert ask(client).get_json() == odd
        upstream.script = sse(odd, chunk("a", "stop"))
        assert chunks(ask_to_the_end(client, stream_options={"include_usage": True})) == [odd, chunk("a", "stop")]


class TestErrorEvents:
    @pytest.mark.parametrize(
        "told",
        [
            {"error": {"message": "out of memory", "type": "oom_error", "code": "oom"}},
            {"error": {"message": "out of memory", "type": "oom_error", "code": 500}},
            {"error": "out of memory"},
            {"detail": "out of memory"},
            {"object": "error", "message": "out of memory", "type": "oom_error", "param": None, "code": 400},
            {"error": {"message": "out of memory", "code": "oom"}, **chunk("", "error")},
        ],
    )
    @pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n", b"data: {\n\n", b'data: {"error": "again"}\n\n'])
    def test_an_error_is_told_once(
        self, client: FlaskClient, upstream: ScriptedUpstream, told: dict[str, Any], end: bytes
    ) -> None:
        upstream.script = stream(chunk("a"), told, end)
        found = fail(events(ask(client, stream=True)))
        assert found["message"] == "out of memory"
        assert set(found) == {"message", "type", "param", "code"}

    def test_openai_s_client_raises_it(self, strict: OpenAI, upstream: ScriptedUpstream) -> None:
        upstream.script = stream(chunk("a"), {"error": "out of memory"})
        with pytest.raises(openai.APIError, match="out of memory"):
            streamed_text(strict)

    @pytest.mark.parametrize(
        ("told", "logged"),
        [
            ({"error": {"message": "m", "code": "oom"}}, "oom"),
            ({"error": {"message": "m", "type": "oom_error", "code": 500}}, "oom_error"),
            ({"error": "m"}, "server_error"),
        ],
    )
    def test_the_log_keeps_the_engine_s_reason(
        self,
        client: FlaskClient,
        upstream: ScriptedUpstream,
        caplog: pytest.LogCaptureFixture,
        told: dict[str, Any],
        logged: str,
    ) -> None:
        caplog.set_level("INFO", "glm_api.request")
        whole = stream(chunk("a"), told)
        # And then the engine breaks off.
        upstream.script = Script(whole.steps, headers=whole.headers, length=10_000)
        ask_to_the_end(client)
        [line] = [record for record in caplog.records if record.name == "glm_api.request"]
        assert line.__dict__["error"] == logged

    @pytest.mark.parametrize(
        "told",
        [
            {"type": "error", "code": "oom", "message": "out of memory", "param": None, "sequence_number": 3},
            {
                "type": "response.failed",
                "response": {**RESPONSE, "status": "failed", "error": {"code": "oom", "message": "out of memory"}},
            },
        ],
    )
    def test_those_of_the_responses_api_are_passed_on(
        self,
        client: FlaskClient,
        upstream: ScriptedUpstream,
        caplog: pytest.LogCaptureFixture,
        told: dict[str, Any],
    ) -> None:
        caplog.set_level("INFO", "glm_api.request")
        upstream.script = stream(f"event: {told['type']}\n".encode(), told)
        response = client.post("/v1/responses", json={"input": "x", "stream": True}, buffered=True)
        assert response.text.startswith(f"event: {told['type']}\n")
        [event] = events(response)
        assert json.loads(event) == told
        [line] = [record for record in caplog.records if record.name == "glm_api.request"]
        assert line.__dict__["error"] == "oom"

    def test_a_bare_error_in_a_stream_of_responses_becomes_an_event(
        self, client: FlaskClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.script = stream({"error": {"message": "out of memory", "code": "oom"}})
        [event] = events(client.post("/v1/responses", json={"input": "x", "stream": True}))
        assert json.loads(event) == {"type": "error", "code": "oom", "message": "out of memory", "param": None}


class TestReasonsOfRefusals:
    @pytest.mark.parametrize("status", [400, 404, 422])
    @pytest.mark.parametrize("stream", [False, True])
    def test_fastapi_s_detail(self, client: FlaskClient, upstream: ScriptedUpstream, status: int, stream: bool) -> None:
        upstream.script = body({"detail": "Model not found: glm"}, status)
        response = ask(client, stream=stream)
        assert response.status_code == (400 if status == 422 else status)
        assert error(response)["message"].endswith(f"(status {status}): Model not found: glm")

    def test_fastapi_s_list_of_faults(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        faults = [
            {"type": "missing", "loc": ["body", "messages", 0, "content"], "msg": "Field required", "input": HELLO},
            {"type": "int_type", "loc": ["body", "top_k"], "msg": "Input should be an integer", "ctx": {"secret": 1}},
        ]
        upstream.script = body({"detail": faults}, 422)
        found = error(ask(client))
        assert found["param"] == "messages.0.content"
        assert "messages.0.content: Field required; top_k: Input should be an integer" in found["message"]
        assert "Hello" not in found["message"]
        assert "secret" not in found["message"]

    def test_a_list_that_repeats_a_large_request(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        fault = {"loc": ["body", "top_k"], "msg": "Input should be an integer", "input": "x" * 2**22}
        upstream.script = body({"detail": [fault]}, 422)
        assert error(ask(client))["param"] == "top_k"

    @pytest.mark.parametrize(
        "refusal",
        [
            {"error": "no such thing"},
            {"error": "Bad Request", "message": "no such thing"},
            {"detail": {"error": {"message": "no such thing"}}},
            {"detail": {"message": "no such thing"}},
            {"detail": ["no such thing"]},
            {"errors": [{"message": "no such thing", "extensions": "secret"}]},
            {"errors": "no such thing"},
            {"error": {"message": "no such thing", "detail": "secret"}},
            {"title": "Bad Request", "detail": "no such thing"},
        ],
    )
    def test_other_envelopes(self, client: FlaskClient, upstream: ScriptedUpstream, refusal: dict[str, Any]) -> None:
        upstream.script = body(refusal, 400)
        message = error(ask(client))["message"]
        assert message.endswith("no such thing")
        assert "secret" not in message

    def test_plain_text(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = Script([b"unknown field `top_k`\n"], 422, {"Content-Type": "text/plain; charset=utf-8"})
        assert error(ask(client))["message"].endswith("(status 422): unknown field `top_k`")

    @pytest.mark.parametrize(
        "odd",
        [
            {},
            [],
            {"detail": []},
            {"detail": None},
            {"detail": [{}, 5, {"loc": 3, "msg": "m"}, {"loc": [{}, []], "msg": []}]},
            {"detail": [{"loc": ["x" * 5000] * 50, "msg": "m"}]},
            {"error": 5},
            {"error": {"error": {"detail": {}}}},
        ],
    )
    def test_any_refusal_has_an_envelope(self, client: FlaskClient, upstream: ScriptedUpstream, odd: object) -> None:
        upstream.script = body(odd, 400)
        found = error(ask(client))
        assert "(status 400)" in found["message"]
        assert len(found["param"] or "") <= 200

    def test_a_reason_is_bounded(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        faults = [{"loc": ["body", f"p{i}"], "msg": "m" * 1000} for i in range(10_000)]
        for refusal in ({"detail": "x" * 10**6}, {"detail": faults}, {"error": {"message": "x" * 10**6}}):
            upstream.script = body(refusal, 400)
            assert len(error(ask(client))["message"]) <= errors.LONGEST_MESSAGE + 100

    def test_a_refusal_without_an_end_is_left(self, make: MakeClient, upstream: ScriptedUpstream) -> None:
        client = make()
        endless: list[bytes | threading.Event] = [*[b" " * 2**20] * 17, threading.Event()]
        upstream.script = Script(endless, 400)
        assert error(ask(client))["message"]
        until(upstream.left.is_set)

    @pytest.mark.parametrize(
        ("told", "shown"),
        [
            ("[address=10.0.0.5:39587, pid=12345] Model not found", "Model not found"),
            ("cannot reach http://glm-engine:8080/v1/x", "cannot reach http://(address)/v1/x"),
            ("cannot reach engine.internal:9000", "cannot reach (address)"),
            ("peer 10.0.0.5 has gone", "peer (address) has gone"),
            ("peer [fe80::1]:80 has gone", "peer (address) has gone"),
            ("peer localhost:80 has gone", "peer (address) has gone"),
            ("<Engine object at 0x7f8cc7db5240>", "<Engine object at (address)>"),
            ("https://example.com/cat.png is no image", "https://example.com/cat.png is no image"),
            (
                "'messages[0:5].content': 12:30, 0.5:1, [1:2], 4.5.1",
                "'messages[0:5].content': 12:30, 0.5:1, [1:2], 4.5.1",
            ),
        ],
    )
    def test_no_reason_has_addresses(
        self, client: FlaskClient, upstream: ScriptedUpstream, told: str, shown: str
    ) -> None:
        for refusal in ({"detail": told}, {"error": {"message": told}}, {"detail": [{"loc": [], "msg": told}]}):
            upstream.script = body(refusal, 400)
            assert error(ask(client))["message"].endswith(shown)
        upstream.script = sse({"error": {"message": told}})
        assert fail(events(ask(client, stream=True)))["message"] == shown
        failed = {"type": "response.failed", "response": {**RESPONSE, "error": {"code": "x", "message": told}}}
        upstream.script = stream(failed)
        [event] = events(client.post("/v1/responses", json={"input": "x", "stream": True}))
        assert json.loads(event)["response"]["error"]["message"] == shown
        upstream.script = body({**RESPONSE, "status": "failed", "error": {"code": "x", "message": told}})
        assert client.post("/v1/responses", json={"input": "x"}).get_json()["error"]["message"] == shown


def refusing(refusal: Script, accepted: Script, name: str = "stream_options") -> Callable[[dict[str, Any]], Script]:
    """An engine that refuses the parameter ``name``."""
    return lambda asked: refusal if name in asked else accepted


EXTRA = body({"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Not permitted"}]}, 422)


class TestStreamOptions:
    @pytest.mark.parametrize(
        "refusal",
        [
            EXTRA,
            body({"error": {"message": "Unrecognized request argument supplied: stream_options"}}, 400),
            body({"error": {"message": "bad", "param": "stream_options"}}, 400),
            body({"detail": "Unknown parameter include_usage"}, 400),
            Script([b"unknown field `stream_options`"], 422, {"Content-Type": "text/plain"}),
            Script([b"f() got an unexpected keyword argument 'stream_options'"], 500, {"Content-Type": "text/plain"}),
            body({"error": {"message": "f() got an unexpected keyword argument 'stream_options'"}}, 500),
        ],
    )
    def test_an_engine_that_refuses_them_is_asked_without_and_then_not_any_more(
        self, client: FlaskClient, strict: OpenAI, upstream: ScriptedUpstream, refusal: Script
    ) -> None:
        upstream.script = refusing(refusal, sse(chunk("a", "stop")))
        assert chunks(ask_to_the_end(client, top_k=3)) == [chunk("a", "stop")]
        first, second = (asked for _, _, asked in upstream.asked)
        assert first.pop("stream_options") == {"include_usage": True}
        assert first == second == {"model": "big-glm", "messages": HELLO, "stream": True, "top_k": 3}
        assert streamed_text(strict) == "a"
        assert len(upstream.asked) == 3
        assert "stream_options" not in upstream.asked[-1][2]
        assert metric(client, "glm_num_requests_running") == 0

    def test_a_client_that_asks_for_them_is_told(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = refusing(EXTRA, sse(chunk("a", "stop")))
        for _ in range(2):
            assert error(ask(client, stream=True, stream_options={"include_usage": True}))["param"] == "stream_options"
            ask_to_the_end(client)
        assert ["stream_options" in asked for _, _, asked in upstream.asked] == [True, True, False, True, False]

    def test_other_options_of_the_client_are_kept(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        own = {"include_obfuscation": False}
        accepted = sse(chunk("a", "stop"))
        upstream.script = lambda asked: EXTRA if "include_usage" in asked["stream_options"] else accepted
        assert chunks(ask(client, stream=True, stream_options=own)) == [chunk("a", "stop")]
        assert [asked["stream_options"] for _, _, asked in upstream.asked] == [{**own, "include_usage": True}, own]

    def test_other_refusals_are_not_asked_again(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        fault = {"loc": ["body", "messages"], "msg": "Field required", "input": {"stream_options": {}}}
        upstream.script = body({"detail": [fault]}, 422)
        assert error(ask(client, stream=True))["param"] == "messages"
        assert len(upstream.asked) == 1
        upstream.script = body({"error": {"message": "out of memory"}}, 500)
        assert ask(client, stream=True).status_code == 502
        assert len(upstream.asked) == 2

    def test_a_refusal_by_the_words_of_a_client_changes_nothing_for_others(
        self, client: FlaskClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.script = body({"error": {"message": "Unknown role: stream_options"}}, 400)
        assert error(ask(client, stream=True))["message"] == "Unknown role: stream_options"
        assert len(upstream.asked) == 2
        upstream.script = sse(chunk("a", "stop"), COUNTS)
        ask_to_the_end(client)
        assert upstream.asked[-1][2]["stream_options"] == {"include_usage": True}
        assert metric(client, "glm_prompt_tokens_total") == 5

    def test_an_engine_that_comes_back_is_asked_again(
        self, make: MakeClient, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("CHECK_SECONDS", "RECHECK_SECONDS"):
            monkeypatch.setattr(f"glm_api.upstream.client.{name}", 0.01)
        client = make()
        upstream.script = refusing(EXTRA, sse(chunk("a", "stop")))
        ask_to_the_end(client)
        models, upstream.models = upstream.models, body({}, 503)
        until(lambda: client.get("/health").status_code == 503)
        upstream.models = models
        until(lambda: client.get("/health").status_code == 200)
        upstream.script = sse(chunk("a", "stop"), COUNTS)
        ask_to_the_end(client)
        assert "stream_options" in upstream.asked[-1][2]

    def test_the_second_try_comes_in_the_same_turn_and_begun_streams_have_it_too(
        self, make: MakeClient, upstream: ScriptedUpstream
    ) -> None:
        client = make(ping_interval=0.05, upstream_concurrency=1, queue_size=1)
        gate = threading.Event()
        slow = Script([gate, *EXTRA.steps], 422)
        upstream.script = refusing(slow, sse(chunk("a", "stop")))
        response = ask(client, stream=True)
        pieces = response.iter_encoded()
        assert next(pieces).startswith(b": ping")
        gate.set()
        *_, answer, done, end = b"".join(pieces).split(b"\n\n")
        assert json.loads(answer.removeprefix(b"data: ")) == chunk("a", "stop")
        assert (done, end) == (b"data: [DONE]", b"")

    def test_a_client_that_leaves_in_between_ends_the_second_try(
        self, client: FlaskClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.script = refusing(EXTRA, Script([*sse(chunk("a"), done=False).steps, threading.Event()]))
        response = ask(client, stream=True)
        next(response.iter_encoded())
        response.close()
        until(lambda: upstream.left.is_set() and metric(client, "glm_num_requests_running") == 0)
