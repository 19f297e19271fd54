"""What clients get when the upstream answers, with an upstream that does anything a test wants."""

from __future__ import annotations

import gzip
import json
import threading

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from glm_api.api.sse import PING
from glm_api.upstream import errors
from glm_api.upstream.client import UpstreamClient
from glm_api.upstream.event_stream import LARGEST_EVENT
from tests.support.client import CHAT, HELLO, chunks, error, events
from tests.support.event_readers import openai_go
from tests.support.processes import free_port, until
from tests.support.upstream.relayed import ANSWER, COUNTS, MakeClient, ask, ask_to_the_end, chunk, metric
from tests.support.upstream.scripted import Script, ScriptedUpstream, body, sse


class TestPassingOn:
    def test_the_upstream_gets_the_request_as_it_is_with_its_own_key(
        self, make: MakeClient, upstream: ScriptedUpstream
    ) -> None:
        client = make(upstream_key="theirs", api_keys=("ours",))
        upstream.script = body(ANSWER)
        sent = {"model": "big-glm", "messages": HELLO, "logit_bias": {"5": 1}, "top_k": 3, "nonsense": [None]}
        headers = {"Authorization": "Bearer ours", "X-Request-Id": "mine"}
        got = client.post(CHAT, json=sent, headers=headers)
        assert got.status_code == 200
        [(path, seen, asked)] = upstream.asked
        assert path == "/v1/chat/completions"
        assert asked == sent
        assert (seen["authorization"], seen["x-request-id"]) == ("Bearer theirs", "mine")

    def test_the_answer_comes_back_as_it_is(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = body(ANSWER)
        assert ask(client).get_json() == ANSWER

    @pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses"])
    def test_other_endpoints(self, client: FlaskClient, upstream: ScriptedUpstream, path: str) -> None:
        upstream.script = body({"object": "response", "status": "completed", "model": "big-glm"})
        assert client.post(path, json={"prompt": "x", "input": "x"}).status_code == 200
        assert upstream.asked[0][0] == path

    def test_embeddings_are_never_streamed(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        found = {"object": "list", "data": [], "model": "big-glm", "usage": {"prompt_tokens": 5, "total_tokens": 5}}
        upstream.script = body(found)
        sent = {"input": "x", "stream": True, "stream_options": {"include_usage": True}}
        assert client.post("/v1/embeddings", json=sent, buffered=True).get_json() == found
        [(path, _, asked)] = upstream.asked
        assert (path, asked["input"], asked["stream"]) == ("/v1/embeddings", "x", None)
        assert metric(client, "glm_prompt_tokens_total") == 5

    def test_endpoints_of_the_pipeline_are_not_there(self, client: FlaskClient) -> None:
        assert error(client.post("/tokenize", json={"content": "x"}))["message"]

    def test_bodies_are_checked_before_they_are_sent(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        assert error(ask(client, stream="yes"))["param"] == "stream"
        assert client.post(CHAT, data=b"{", content_type="application/json").status_code == 400
        assert upstream.asked == []


class TestStreams:
    def test_events_pass_one_by_one(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        gates = [threading.Event(), threading.Event()]
        first, second, end = (f"data: {json.dumps(c)}\n\n".encode() for c in (chunk("a"), chunk("b", "stop"), COUNTS))
        upstream.script = Script([first, gates[0], second, gates[1], end, b"data: [DONE]\n\n"])
        response = ask(client, stream=True)
        stream = response.iter_encoded()
        assert b'"a"' in next(stream)
        gates[0].set()
        assert b'"b"' in next(stream)
        gates[1].set()
        assert next(stream) == b"data: [DONE]\n\n"
        response.close()

    def test_counts_are_asked_for_and_kept_from_who_did_not(
        self, client: FlaskClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.script = sse({**chunk("a"), "usage": None}, chunk("", "stop"), COUNTS)
        got = chunks(ask_to_the_end(client))
        assert got == [chunk("a"), chunk("", "stop")]
        assert upstream.asked[0][2]["stream_options"] == {"include_usage": True}
        assert metric(client, "glm_prompt_tokens_total") == 5

    def test_counts_go_to_who_asked(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = sse(chunk("a", "stop"), COUNTS)
        assert chunks(ask(client, stream=True, stream_options={"include_usage": True}))[-1] == COUNTS

    @pytest.mark.parametrize("size", [1, 2, 7])
    def test_events_in_any_pieces(self, client: FlaskClient, upstream: ScriptedUpstream, size: int) -> None:
        whole = (
            b": hi\r\n\r\n"
            + f"data: {json.dumps(chunk('你好'), ensure_ascii=False)}\r\n\r\ndata: [DONE]\r\n\r\n".encode()
        )
        upstream.script = Script([whole[at : at + size] for at in range(0, len(whole), size)])
        assert chunks(ask(client, stream=True)) == [chunk("你好")]

    @pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
    def test_events_with_any_line_ends(self, client: FlaskClient, upstream: ScriptedUpstream, line_end: str) -> None:
        whole = "\ufeff" + "".join(f"data: {data}\n\n" for data in (json.dumps(chunk("你好")), "[DONE]"))
        upstream.script = Script([whole.replace("\n", line_end).encode()])
        assert chunks(ask(client, stream=True)) == [chunk("你好")]

    def test_typed_events_keep_their_names(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        done = {"type": "response.completed", "response": {"object": "response", "status": "completed", "model": "m"}}
        upstream.script = Script([b"event: response.completed\ndata: " + json.dumps(done).encode() + b"\n\n"])
        got = client.post("/v1/responses", json={"model": "mine", "input": "x", "stream": True})
        text = got.get_data(as_text=True)
        assert text.startswith("event: response.completed\ndata: ")
        assert json.loads(text.split("data: ")[1])["response"]["model"] == "mine"
        assert "stream_options" not in upstream.asked[0][2]

    def test_a_compressed_body_goes_on_unpacked(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = body(ANSWER)
        packed = gzip.compress(json.dumps({"messages": HELLO}).encode())
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        assert client.post(CHAT, data=packed, headers=headers).status_code == 200
        assert upstream.asked[0][2]["messages"] == HELLO

    def test_pings_while_the_upstream_is_silent(self, make: MakeClient, upstream: ScriptedUpstream) -> None:
        client = make(ping_interval=0.05)
        gate = threading.Event()
        upstream.script = Script([gate, *sse(chunk("a", "stop")).steps])
        response = ask(client, stream=True)
        stream = response.iter_encoded()
        assert next(stream) == b": ping\n"
        gate.set()
        assert b"[DONE]" in b"".join(stream)

    def test_pings_of_the_upstream_end_no_event(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        event = f"data: {json.dumps(chunk('a', 'stop'))}\n\n".encode()
        pings = b": one\n\n: two\nid: 5\n\ndata:\n\n"
        upstream.script = Script([pings, event, pings, b"data: [DONE]\n\n"])
        stream = ask(client, stream=True).data
        assert stream.startswith(PING)
        assert openai_go(stream, passes_empty_events=True) == [chunk("a", "stop")]


class TestFailures:
    def test_what_the_client_did_wrong_is_passed_on(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        fault = {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "context"}
        upstream.script = body({"error": {**fault, "n_ctx": 5}}, 400)
        for stream in (False, True):
            response = ask(client, stream=stream)
            assert (response.status_code, error(response)) == (400, fault)

    def test_old_envelopes_and_none(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = body({"object": "error", "message": "bad", "code": 400}, 422)
        assert (error(ask(client))["message"], ask(client).status_code) == ("bad", 400)
        upstream.script = Script([b"<html>"], 404)
        assert "status 404" in error(ask(client))["message"]

    def test_a_full_upstream(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = body({"error": {"message": "slow down"}}, 429, **{"Retry-After": "17"})
        response = ask(client)
        assert (response.status_code, response.headers["Retry-After"]) == (429, "17")

    @pytest.mark.parametrize("status", [401, 403, 500, 302])
    def test_what_is_not_the_clients_fault(self, client: FlaskClient, upstream: ScriptedUpstream, status: int) -> None:
        upstream.script = body({"error": {"message": "Traceback: secret"}}, status)
        response = ask(client)
        assert (response.status_code, error(response)["code"]) == (502, "upstream_error")
        assert "secret" not in response.text
        assert response.headers["x-should-retry"] == "false"

    @pytest.mark.parametrize("content", [b"", b"no", b"[]", b'"x"'])
    def test_an_answer_that_is_none(self, client: FlaskClient, upstream: ScriptedUpstream, content: bytes) -> None:
        upstream.script = Script([content])
        assert ask(client).status_code == 502

    def test_an_upstream_that_cannot_be_reached(self, make: MakeClient) -> None:
        client = make(upstream_url=f"http://127.0.0.1:{free_port()}/v1")
        response = ask(client)
        assert (response.status_code, error(response)["code"]) == (503, "upstream_unavailable")
        assert response.headers["Retry-After"] == "2"
        assert client.get("/health").status_code == 503

    def test_a_body_that_is_cut_off(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = Script([b'{"choices": []}'], length=100)
        assert ask(client).status_code == 502

    @pytest.mark.parametrize(
        "broken", [sse(chunk("a"), done=False), Script([b"data: {\n\n"]), Script([b"data: []\n\n"])]
    )
    def test_a_stream_that_breaks(self, client: FlaskClient, upstream: ScriptedUpstream, broken: Script) -> None:
        upstream.script = broken
        *_, failure, done = events(ask(client, stream=True))
        assert json.loads(failure)["error"]["code"] == "upstream_error"
        assert done == "[DONE]"

    def test_an_event_without_an_end_is_refused_long_before_it_fills_the_memory(
        self, client: FlaskClient, upstream: ScriptedUpstream
    ) -> None:
        endless: list[bytes | threading.Event] = [
            b"data: ",
            *[b"x" * 2**16] * (LARGEST_EVENT // 2**16),
            threading.Event(),
        ]
        upstream.script = Script([*sse(chunk("a"), done=False).steps, *endless])
        first, failure, done = events(ask(client, stream=True))
        assert json.loads(first) == chunk("a")
        # Not that the upstream broke off: it would go on.
        assert json.loads(failure)["error"]["message"] == errors.unreadable().message
        assert done == "[DONE]"
        until(upstream.left.is_set)

    def test_an_answer_without_an_end_does_not_fill_the_memory_while_a_client_does_not_read(
        self, client: FlaskClient, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("glm_api.upstream.request.LARGEST_ANSWER", 2**20)
        begin = sse(chunk("a"), done=False).steps
        upstream.script = Script([*begin, *[b": " + b"x" * (2**16 - 4) + b"\n\n"] * 16, threading.Event()])
        response = ask(client, stream=True)
        until(upstream.left.is_set)
        first, failure, done = events(response)
        assert json.loads(first) == chunk("a")
        assert json.loads(failure)["error"]["message"] == errors.unreadable().message
        assert done == "[DONE]"

    def test_an_error_in_a_stream_is_passed_on(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        upstream.script = sse(chunk("a"), {"error": {"message": "out of memory", "code": "oom"}})
        assert chunks(ask(client, stream=True))[-1]["error"]["code"] == "oom"


class TestQueue:
    def test_only_so_many_are_with_the_upstream_and_so_many_wait(
        self, make: MakeClient, upstream: ScriptedUpstream
    ) -> None:
        client = make(upstream_concurrency=2, queue_size=1)
        gate = threading.Event()
        upstream.script = Script([gate, json.dumps(ANSWER).encode()])
        statuses: list[int] = []
        askers = [threading.Thread(target=lambda: statuses.append(ask(client).status_code)) for _ in range(3)]
        for asker in askers:
            asker.start()
        until(lambda: metric(client, "glm_num_requests_waiting") == 1)
        assert metric(client, "glm_num_requests_running") == 2
        refused = ask(client)
        assert (refused.status_code, error(refused)["code"]) == (429, "queue_full")
        assert int(refused.headers["Retry-After"]) >= 1
        until(lambda: len(upstream.asked) == 2)
        gate.set()
        for asker in askers:
            asker.join()
        assert statuses == [200, 200, 200]
        until(lambda: metric(client, "glm_num_requests_running") == 0)

    def test_a_deadline_ends_the_request_at_the_upstream(self, make: MakeClient, upstream: ScriptedUpstream) -> None:
        client = make(request_timeout=0.2)
        upstream.script = Script([threading.Event()])
        assert ask(client).status_code == 504
        until(lambda: upstream.left.is_set() and metric(client, "glm_num_requests_running") == 0)

    def test_a_stream_that_is_closed_ends_the_request_at_the_upstream(
        self, client: FlaskClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.script = Script([b"data: " + json.dumps(chunk("a")).encode() + b"\n\n", threading.Event()])
        response = ask(client, stream=True)
        next(response.iter_encoded())
        response.close()
        until(upstream.left.is_set)

    def test_draining_refuses_and_stopping_ends(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        app: Flask = client.application
        backend: UpstreamClient = app.extensions["glm_backend"]
        upstream.script = Script([b"data: " + json.dumps(chunk("a")).encode() + b"\n\n", threading.Event()])
        response = ask(client, stream=True)
        stream = response.iter_encoded()
        next(stream)
        backend.drain()
        assert error(ask(client))["code"] == "shutting_down"
        assert client.get("/health").status_code == 503
        backend.stop()
        assert b"shutting_down" in b"".join(stream)

    def test_stopping_sends_nothing_of_what_waits(self, make: MakeClient, upstream: ScriptedUpstream) -> None:
        client = make(upstream_concurrency=1)
        upstream.script = Script([threading.Event()])
        answers: list[TestResponse] = []
        askers = [threading.Thread(target=lambda: answers.append(ask(client))) for _ in range(4)]
        for asker in askers:
            asker.start()
        until(lambda: metric(client, "glm_num_requests_waiting") == 3 and len(upstream.asked) == 1)
        backend: UpstreamClient = client.application.extensions["glm_backend"]
        backend.stop()
        for asker in askers:
            asker.join()
        assert sorted(answer.status_code for answer in answers) == [500, 503, 503, 503]
        assert {error(answer)["code"] for answer in answers} == {"shutting_down"}
        assert len(upstream.asked) == 1


class TestModels:
    def test_the_upstreams_own(self, client: FlaskClient, upstream: ScriptedUpstream) -> None:
        [model] = client.get("/v1/models").get_json()["data"]
        assert model == {"id": "big-glm", "object": "model", "created": 7, "owned_by": "lab"}
        assert client.get("/v1/models/big-glm").get_json() == model
        assert error(client.get("/v1/models/other"))["code"] == "model_not_found"
        shown = {
            "type": "model",
            "id": "big-glm",
            "display_name": "big-glm",
            "created_at": "1970-01-01T00:00:07Z",
            "lifecycle": "active",
        }
        headers = {"anthropic-version": "2023-06-01"}
        listed = {"data": [shown], "has_more": False, "first_id": "big-glm", "last_id": "big-glm"}
        assert client.get("/v1/models", headers=headers).get_json() == listed
        assert client.get("/v1/models/big-glm", headers=headers).get_json() == shown
        upstream.script = body(ANSWER)
        ask(client)
        ask(client, model="whatever")
        assert [asked["model"] for _, _, asked in upstream.asked] == ["big-glm", "whatever"]

    def test_mapped(self, make: MakeClient, upstream: ScriptedUpstream) -> None:
        client = make(upstream_models=(("glm", "big-glm"), ("small", "x/y")))
        assert [model["id"] for model in client.get("/v1/models").get_json()["data"]] == ["glm", "small"]
        upstream.script = body(ANSWER)
        assert ask(client, model="small").get_json()["model"] == "small"
        assert ask(client, model="unheard-of").get_json()["model"] == "glm"
        upstream.script = sse(chunk("a", "stop"))
        assert chunks(ask(client, model="glm", stream=True))[0]["model"] == "glm"
        assert [asked["model"] for _, _, asked in upstream.asked] == ["x/y", "big-glm", "big-glm"]

    def test_strict_names(self, make: MakeClient, upstream: ScriptedUpstream) -> None:
        client = make(strict_model=True)
        assert error(ask(client, model="other"))["code"] == "model_not_found"
        assert upstream.asked == []

    @pytest.mark.parametrize("listed", [body({"data": []}), body({}), body({"data": "x"}, 401), Script([b"<html>"])])
    def test_an_upstream_without_models_is_not_ready(
        self, make: MakeClient, upstream: ScriptedUpstream, listed: Script
    ) -> None:
        upstream.models = listed
        client = make()
        assert client.get("/health").status_code == 503


def test_logs_and_metrics_know_what_the_upstream_told(
    client: FlaskClient, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "glm_api.request")
    upstream.script = sse(chunk("a"), chunk("b", "length"), COUNTS)
    ask_to_the_end(client, model="big-glm")
    [line] = [record for record in caplog.records if record.name == "glm_api.request"]
    told = line.__dict__
    assert (told["model"], told["prompt_tokens"], told["cached_tokens"], told["completion_tokens"]) == (
        "big-glm",
        5,
        3,
        2,
    )
    assert told["finish_reason"] == "length"
    assert told["first_token_ms"] >= 0
    assert metric(client, 'glm_request_success_total{finished_reason="length"}') == 1
