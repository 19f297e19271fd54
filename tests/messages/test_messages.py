"""Anthropic's API over a pipeline whose answers are scripted. `tests/clients` has Anthropic's own client."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from glm_api.backend.errors import (
    BackendError,
    DeadlineExceeded,
    EngineError,
    ModelLoading,
    PromptError,
    QueueFull,
    ShuttingDown,
)
from glm_api.pipeline.conversation import JsonOutput, Message, Tool, ToolCall, ToolChoice
from glm_api.pipeline.frames import Finished, Started
from tests.support.client import HELLO, MakeApp
from tests.support.fake_pipeline import MODEL, FakePipeline, call, reasoning, text

URL = "/v1/messages"
COUNT = f"{URL}/count_tokens"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: dict[str, Any] = {"name": "get_weather", "description": "Get the weather", "input_schema": SCHEMA}
USE: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "巴黎"}}
RESULT: dict[str, Any] = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "17"}
PNG = b"\x89PNG\r\n\x1a\nrest"


def image(source: dict[str, Any] | None = None) -> dict[str, Any]:
    data = base64.b64encode(PNG).decode()
    return {"type": "image", "source": source or {"type": "base64", "media_type": "image/png", "data": data}}


def said(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def words(content: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": content, **more}


def ask(client: FlaskClient, url: str = URL, **more: Any) -> TestResponse:
    return client.post(url, json={"max_tokens": 50, "messages": HELLO, **more})


def answer(client: FlaskClient, **more: Any) -> dict[str, Any]:
    response = ask(client, **more)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def told(response: TestResponse) -> list[dict[str, Any]]:
    """Return the data of a stream's events, which are named by their types."""
    assert response.status_code == 200, response.text
    blocks = [block.split("\n") for block in response.text.split("\n\n")[:-1]]
    found = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name for name, _ in blocks] == [f"event: {data['type']}" for data in found]
    return found


def error(response: TestResponse, status: int, type: str) -> str:
    """Check that the answer is Anthropic's error envelope, and return the message."""
    body = response.get_json()
    assert response.status_code == status, response.text
    assert body == {
        "type": "error",
        "error": {"type": type, "message": body["error"]["message"]},
        "request_id": response.headers["request-id"],
    }
    return str(body["error"]["message"])


def invalid(response: TestResponse, param: str) -> str:
    message = error(response, 400, "invalid_request_error")
    assert f"'{param}'" in message or message.startswith(f"{param}: "), message
    return message


def messages(client: FlaskClient, fake: FakePipeline, *entries: dict[str, Any], **more: Any) -> list[Message]:
    """Return what the pipeline gets, without the positions."""
    answer(client, messages=list(entries), **more)
    return [replace(message, position=0) for message in fake.conversations[-1].messages]


class TestMessages:
    @pytest.mark.parametrize("system", ["Be brief.", [words("Be brief.", cache_control={"type": "ephemeral"})]])
    def test_the_system_prompt_comes_first(self, client: FlaskClient, fake: FakePipeline, system: Any) -> None:
        got = messages(client, fake, *HELLO, system=system)
        assert got == [Message("system", "Be brief."), Message("user", "Hello")]

    def test_the_billing_header_of_claude_code_is_not_for_the_model(
        self, client: FlaskClient, fake: FakePipeline
    ) -> None:
        system = [words("x-anthropic-billing-header: cc_version=2.1; cch=1a2b3;"), words("Be brief.")]
        assert messages(client, fake, *HELLO, system=system)[0] == Message("system", "Be brief.")

    def test_a_system_message_may_stand_between_others(self, client: FlaskClient, fake: FakePipeline) -> None:
        got = messages(client, fake, *HELLO, {"role": "system", "content": "Now be brief."})
        assert got[1] == Message("system", "Now be brief.")

    def test_the_words_of_two_texts_do_not_run_together(self, client: FlaskClient, fake: FakePipeline) -> None:
        entry = said("user", words("What is"), words("the capital"), words(" of France?"))
        assert messages(client, fake, entry)[0].content == "What is\nthe capital of France?"

    def test_calls_and_their_results(self, client: FlaskClient, fake: FakePipeline) -> None:
        second = {**USE, "id": "toolu_2", "input": {}}
        results = [RESULT, {**RESULT, "tool_use_id": "toolu_2", "content": [words("18"), words("sunny")]}]
        got = messages(
            client, fake, *HELLO, said("assistant", words("I look."), USE, second), said("user", *results, words("So?"))
        )
        assert got[1:] == [
            Message(
                "assistant",
                "I look.",
                tool_calls=(
                    ToolCall("toolu_1", "get_weather", '{"city": "巴黎"}'),
                    ToolCall("toolu_2", "get_weather", "{}"),
                ),
            ),
            Message("tool", "17", tool_call_id="toolu_1"),
            Message("tool", "18\nsunny", tool_call_id="toolu_2"),
            Message("user", "So?"),
        ]

    def test_results_come_before_the_text_beside_them(self, client: FlaskClient, fake: FakePipeline) -> None:
        got = messages(client, fake, *HELLO, said("assistant", USE), said("user", words("So?"), RESULT))
        assert [message.role for message in got] == ["user", "assistant", "tool", "user"]

    @pytest.mark.parametrize(
        ("content", "read"),
        [("No such city", "Error: No such city"), ("Error: no such city", "Error: no such city"), ([], "Error")],
    )
    def test_the_model_is_told_of_a_call_that_failed(
        self, client: FlaskClient, fake: FakePipeline, content: Any, read: str
    ) -> None:
        failed = {**RESULT, "content": content, "is_error": True}
        assert messages(client, fake, *HELLO, said("assistant", USE), said("user", failed))[-1].content == read

    def test_a_result_may_lack_its_content(self, client: FlaskClient, fake: FakePipeline) -> None:
        empty = {"type": "tool_result", "tool_use_id": "toolu_1"}
        assert messages(client, fake, *HELLO, said("assistant", USE), said("user", empty))[-1].content == ""

    @pytest.mark.parametrize("given", [{}, {"tool_use_id": ""}, {"tool_use_id": None}])
    def test_a_result_without_an_id_is_that_of_the_call_that_waits(
        self, client: FlaskClient, fake: FakePipeline, given: dict[str, Any]
    ) -> None:
        result = {"type": "tool_result", "content": "17", **given}
        got = messages(client, fake, *HELLO, said("assistant", USE), said("user", result))
        assert got[-1] == Message("tool", "17", tool_call_id="toolu_1")

    @pytest.mark.parametrize("given", [{}, {"id": ""}, {"id": None}])
    def test_results_of_calls_without_ids_come_in_their_order(
        self, client: FlaskClient, fake: FakePipeline, given: dict[str, Any]
    ) -> None:
        use = {"type": "tool_use", "name": "get_weather", "input": {}, **given}
        results = [{"type": "tool_result", "content": number} for number in "12"]
        got = messages(client, fake, *HELLO, said("assistant", use, use), said("user", *results))
        first, second = got[1].tool_calls
        assert first.id != second.id
        assert [(message.tool_call_id, message.content) for message in got[2:]] == [(first.id, "1"), (second.id, "2")]

    def test_a_result_without_an_id_is_refused_if_several_calls_wait(self, client: FlaskClient) -> None:
        calls = said("assistant", USE, {**USE, "id": "toolu_2"})
        results = said("user", {"type": "tool_result", "content": "17"})
        assert "several wait" in invalid(ask(client, messages=[*HELLO, calls, results]), "messages.2.content")

    def test_thinking_in_a_history_is_taken(self, client: FlaskClient, fake: FakePipeline) -> None:
        thinking = {"type": "thinking", "thinking": "Paris?", "signature": "anything"}
        redacted = {"type": "redacted_thinking", "data": "xyz"}
        got = messages(client, fake, *HELLO, said("assistant", thinking, redacted, words("Paris.")), *HELLO)
        assert got[1] == Message("assistant", "Paris.", reasoning="Paris?")

    @pytest.mark.parametrize("role", ["user", "assistant", "system"])
    def test_an_empty_array_of_blocks_is_an_empty_text(
        self, client: FlaskClient, fake: FakePipeline, role: str
    ) -> None:
        contents: list[object] = ["", []]
        got = [messages(client, fake, {"role": role, "content": empty}, *HELLO) for empty in contents]
        assert got[0] == got[1]

    def test_an_image(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.sees_images()
        got = messages(client, fake, said("user", words("What is it?"), image()))
        assert got == [Message("user", "What is it?", image=PNG)]
        assert fake.jobs[-1].image == PNG

    def test_an_image_in_a_result_is_shown_behind_it(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.sees_images()
        shown = {**RESULT, "content": [words("a.png"), image()]}
        got = messages(client, fake, *HELLO, said("assistant", USE), said("user", shown))
        assert got[2:] == [Message("tool", "a.png", tool_call_id="toolu_1"), Message("user", "", image=PNG)]

    @pytest.mark.parametrize(
        ("entry", "param", "why"),
        [
            (said("user", image({"type": "url", "url": "http://x/a.png"})), "0.source.type", "fetches nothing"),
            (said("user", image({"type": "file", "file_id": "x"})), "0.source.type", "stores no files"),
            (
                said("user", image({"type": "base64", "media_type": "image/gif", "data": "R0lG"})),
                "0.source.media_type",
                "image/png",
            ),
            (
                said("user", image({"type": "base64", "media_type": "image/png", "data": "!"})),
                "0.source.data",
                "PNG or JPEG",
            ),
            (said("user", {"type": "document", "source": {}}), "0.type", "document"),
            (said("user", {"type": "search_result"}), "0.type", "search result"),
            (said("assistant", {"type": "server_tool_use"}), "0.type", "runs no tools"),
            (said("assistant", {"type": "web_search_tool_result"}), "0.type", "runs no tools"),
            (said("assistant", image()), "0.type", "'tool_use'"),
            (said("user", USE), "0.type", "'tool_result'"),
        ],
    )
    def test_other_blocks_are_refused_by_name(
        self, client: FlaskClient, entry: dict[str, Any], param: str, why: str
    ) -> None:
        assert why in invalid(ask(client, messages=[entry]), f"messages.0.content.{param}")

    def test_a_model_that_sees_nothing_refuses_images(self, client: FlaskClient) -> None:
        invalid(ask(client, messages=[said("user", image())]), "messages.0.content")

    def test_two_images_in_a_message_are_refused(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.sees_images()
        invalid(ask(client, messages=[said("user", image(), image())]), "messages.0.content")

    def test_a_result_without_its_call_is_refused(self, client: FlaskClient) -> None:
        invalid(ask(client, messages=[*HELLO, said("user", RESULT)]), "messages.1.content")

    def test_two_calls_with_one_id_are_refused(self, client: FlaskClient) -> None:
        invalid(ask(client, messages=[*HELLO, said("assistant", USE, USE), said("user", RESULT)]), "messages.1.content")


class TestParameters:
    @pytest.mark.parametrize("missing", ["max_tokens", "messages"])
    def test_what_is_required(self, client: FlaskClient, missing: str) -> None:
        nothing: dict[str, Any] = {missing: None}
        invalid(ask(client, **nothing), missing)

    def test_sampling(self, client: FlaskClient, fake: FakePipeline) -> None:
        answer(client, temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["a", "b"], seed=3)
        job = fake.jobs[-1]
        assert (job.max_tokens, job.stop) == (50, ("a", "b"))
        sampling = job.sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.5, 0.9, 7, 3)

    def test_tools(self, client: FlaskClient, fake: FakePipeline) -> None:
        answer(client, tools=[{**WEATHER, "type": "custom", "strict": True, "cache_control": {"type": "ephemeral"}}])
        described = Tool("get_weather", "Get the weather", json.dumps(SCHEMA), True, "tools.0.parameters")
        assert fake.conversations[-1].tools == (described,)

    def test_a_tool_may_have_a_long_description(self, client: FlaskClient, fake: FakePipeline) -> None:
        long = "x" * 25_000
        answer(client, tools=[{**WEATHER, "description": long}])
        assert fake.conversations[-1].tools[0].description == long

    @pytest.mark.parametrize(
        "tool",
        [{"type": "web_search_20250305", "name": "web_search"}, {"type": "bash_20250124", "name": "bash"}],
    )
    def test_anthropics_own_tools_are_refused_by_name(self, client: FlaskClient, tool: dict[str, Any]) -> None:
        assert tool["type"] in invalid(ask(client, tools=[WEATHER, tool]), "tools.1.type")

    @pytest.mark.parametrize("schema", [None, {"type": "string"}, {"type": "object", "properties": {"a": 5}}])
    def test_a_wrong_schema_is_named(self, client: FlaskClient, schema: Any) -> None:
        invalid(ask(client, tools=[{**WEATHER, "input_schema": schema}]), "tools.0.input_schema")

    def test_a_schema_that_the_model_cannot_be_held_to_is_named(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.refusal = PromptError("The keyword x cannot be enforced.", "tools.0.parameters.properties.city")
        invalid(ask(client, tools=[WEATHER]), "tools.0.input_schema.properties.city")

    @pytest.mark.parametrize(
        ("choice", "meant"),
        [
            ({"type": "auto"}, ToolChoice()),
            ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(parallel=False)),
            ({"type": "any"}, ToolChoice("required")),
            ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required", parallel=False)),
            ({"type": "tool", "name": "get_weather"}, ToolChoice("required", "get_weather")),
            ({"type": "none"}, ToolChoice("none")),
        ],
    )
    def test_tool_choice(self, client: FlaskClient, fake: FakePipeline, choice: Any, meant: ToolChoice) -> None:
        answer(client, tools=[WEATHER], tool_choice=choice)
        assert fake.conversations[-1].tool_choice == meant

    @pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "other"}])
    def test_a_choice_without_its_tool_is_refused(self, client: FlaskClient, choice: Any) -> None:
        invalid(ask(client, tool_choice=choice), "tool_choice")

    @pytest.mark.parametrize(
        "more",
        [
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            {"output_format": {"type": "json_schema", "schema": SCHEMA}},
        ],
    )
    def test_a_schema_holds_the_answer(self, client: FlaskClient, fake: FakePipeline, more: dict[str, Any]) -> None:
        answer(client, **more)
        structured = fake.conversations[-1].structured
        assert isinstance(structured, JsonOutput)
        assert json.loads(structured.schema) == SCHEMA

    def test_two_schemas_are_refused(self, client: FlaskClient) -> None:
        format = {"type": "json_schema", "schema": SCHEMA}
        invalid(ask(client, output_config={"format": format}, output_format=format), "output_format")

    @pytest.mark.parametrize(
        ("more", "kwargs", "effort"),
        [
            ({}, {}, None),
            ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"enable_thinking": True}, None),
            ({"thinking": {"type": "disabled"}}, {"enable_thinking": False}, None),
            ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, {}, "low"),
            (
                {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
                {"clear_thinking": False},
                None,
            ),
            ({"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}, {}, None),
        ],
    )
    def test_thinking_is_told_to_the_template(
        self, client: FlaskClient, fake: FakePipeline, more: dict[str, Any], kwargs: dict[str, Any], effort: str | None
    ) -> None:
        fake.thinks()
        answer(client, **more)
        template = fake.conversations[-1].template
        assert (json.loads(template.kwargs), template.reasoning_effort) == (kwargs, effort)

    def test_a_model_that_does_not_think_refuses_thinking_only_if_it_is_demanded(self, client: FlaskClient) -> None:
        invalid(ask(client, thinking={"type": "enabled", "budget_tokens": 1024}), "thinking.type")
        # What Claude Code sends to a model that it does not know.
        answer(client, thinking={"type": "adaptive"}, output_config={"effort": "high"})
        answer(client, thinking={"type": "disabled"})

    @pytest.mark.parametrize("edit", ["clear_tool_uses_20250919", "compact_20260112"])
    def test_what_would_cut_a_conversation_is_refused_by_name(self, client: FlaskClient, edit: str) -> None:
        invalid(ask(client, context_management={"edits": [{"type": edit}]}), "context_management.edits.0.type")

    def test_other_headers_and_the_query_are_taken(self, client: FlaskClient) -> None:
        headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219"}
        body = {"max_tokens": 5, "messages": HELLO, "metadata": {"user_id": "u"}}
        assert client.post(f"{URL}?beta=true", json=body, headers=headers).status_code == 200


class TestAnswers:
    def test_a_message(self, client: FlaskClient, fake: FakePipeline) -> None:
        found = answer(client, model="claude-x")
        assert found.pop("id").startswith("msg_")
        prompt = len(fake.jobs[-1].prompts[0])
        assert found == {
            "type": "message",
            "role": "assistant",
            "model": "chatglm3-demo",
            "content": [{"type": "text", "text": "Hello"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            # Anthropic counts the cached tokens of a prompt apart from the others.
            "usage": {
                "input_tokens": prompt - 3,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 3,
                "output_tokens": 5,
            },
        }

    def test_thinking_text_and_calls_are_blocks(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm."), *text("I look."), *call("get_weather", '{"city": ', '"巴黎"}')]]
        found = answer(client, tools=[WEATHER])
        thinking, *others = found["content"]
        assert (thinking["type"], thinking["thinking"]) == ("thinking", "Hm.")
        assert thinking["signature"]
        assert others == [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "call_0", "name": "get_weather", "input": {"city": "巴黎"}},
        ]
        assert found["stop_reason"] == "tool_use"
        assert found["usage"]["output_tokens_details"] == {"thinking_tokens": 3}

    @pytest.mark.parametrize("stream", [False, True])
    def test_thinking_may_be_left_out(self, client: FlaskClient, fake: FakePipeline, stream: bool) -> None:
        fake.thinks()
        fake.scripts = [[*reasoning("Hm."), *text("Yes.")]]
        response = ask(client, thinking={"type": "adaptive", "display": "omitted"}, stream=stream)
        assert "Hm." not in response.text
        assert '"signature"' in response.text
        assert "Yes." in response.text

    @pytest.mark.parametrize(
        ("end", "reason", "sequence"),
        [
            (Finished("stop", 5, 1.0, 1.0, 0, 9, stop_string="END"), "stop_sequence", "END"),
            (Finished("stop", 5, 1.0, 1.0, 0, 9), "end_turn", None),
            (Finished("length", 50, 1.0, 1.0, 0, 9), "max_tokens", None),
            (Finished("length", 5, 1.0, 1.0, 0, 9), "model_context_window_exceeded", None),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_why_it_ended(
        self,
        client: FlaskClient,
        fake: FakePipeline,
        end: Finished,
        reason: str,
        sequence: str | None,
        stream: bool,
    ) -> None:
        fake.scripts = [[*text("Hello"), end]]
        response = ask(client, stream=stream)
        found = told(response)[-2]["delta"] if stream else response.get_json()
        assert (found["stop_reason"], found["stop_sequence"]) == (reason, sequence)

    def test_a_model_that_says_nothing_gives_an_empty_text(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[]]
        assert answer(client)["content"] == [{"type": "text", "text": ""}]
        begun, *_ = [event for event in told(ask(client, stream=True)) if event["type"] == "content_block_start"]
        assert begun["content_block"] == {"type": "text", "text": ""}

    def test_a_call_that_was_cut_has_no_input(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*call("get_weather", '{"city": "Pa'), Finished("length", 50, 1.0, 1.0, 0, 9)]]
        found = answer(client, tools=[WEATHER])
        assert (found["content"][0]["input"], found["stop_reason"]) == ({}, "max_tokens")

    @pytest.mark.parametrize(
        ("arguments", "input"),
        [('{"a": "\\ud800", "\\udfff": 1}', {"a": "?", "?": 1}), ('{"a": 1e999}', {}), ('{"a": NaN}', {})],
    )
    def test_what_the_model_writes_and_json_has_not_is_not_told(
        self, client: FlaskClient, fake: FakePipeline, arguments: str, input: dict[str, Any]
    ) -> None:
        fake.scripts = [call("get_weather", arguments)]
        assert answer(client, tools=[WEATHER])["content"][0]["input"] == input


class TestStreams:
    def test_the_events(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm", "."), *text("I ", "look."), *call("get_weather", '{"city": ', '"巴黎"}')]]
        response = ask(client, stream=True, tools=[WEATHER])
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        start, *middle, delta, stop = told(response)
        message = start["message"]
        assert (message["content"], message["stop_reason"], message["role"]) == ([], None, "assistant")
        assert (message["usage"]["cache_read_input_tokens"], message["usage"]["output_tokens"]) == (3, 0)
        kinds = [(event["type"], event["index"]) for event in middle]
        assert kinds == [
            ("content_block_start", 0),
            *[("content_block_delta", 0)] * 3,
            ("content_block_stop", 0),
            ("content_block_start", 1),
            *[("content_block_delta", 1)] * 2,
            ("content_block_stop", 1),
            ("content_block_start", 2),
            *[("content_block_delta", 2)] * 2,
            ("content_block_stop", 2),
        ]
        assert [event["content_block"]["type"] for event in middle if "content_block" in event] == [
            "thinking",
            "text",
            "tool_use",
        ]
        pieces = [event["delta"] for event in middle if "delta" in event]
        assert [piece["type"] for piece in pieces] == [
            *["thinking_delta"] * 2,
            "signature_delta",
            *["text_delta"] * 2,
            *["input_json_delta"] * 2,
        ]
        assert "".join(piece.get("partial_json", "") for piece in pieces) == '{"city": "巴黎"}'
        assert delta["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
        assert delta["usage"]["output_tokens"] == len("Hm.I look.") + 3
        assert stop == {"type": "message_stop"}

    def test_a_silence_is_filled_with_pings(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[None, Started(9, 3), None, *text("Hi")]]
        kinds = [event["type"] for event in told(ask(client, stream=True))]
        assert kinds[:4] == ["ping", "message_start", "ping", "content_block_start"]

    def test_line_separators_cut_no_event(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [text("a\u2028b\x85c")]
        assert len(ask(client, stream=True).text.splitlines()) == len(ask(client, stream=True).text.split("\n")) - 1

    def test_a_failure_in_the_middle_is_an_event(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*text("Hel"), EngineError("The model failed.")]]
        response = ask(client, stream=True)
        failure = {"type": "api_error", "message": "The model failed."}
        assert told(response)[-1] == {
            "type": "error",
            "error": failure,
            "request_id": response.headers["request-id"],
        }


class TestErrors:
    @pytest.mark.parametrize("url", [URL, COUNT])
    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"max_tokens": NaN}', b"[" * 100_000])
    def test_a_body_that_is_no_json_object(self, client: FlaskClient, url: str, body: bytes) -> None:
        error(client.post(url, data=body, content_type="application/json"), 400, "invalid_request_error")

    def test_another_content_type(self, client: FlaskClient) -> None:
        error(client.post(URL, data=b"x=1", content_type="text/plain"), 415, "invalid_request_error")

    def test_another_method(self, client: FlaskClient) -> None:
        error(client.get(URL), 405, "invalid_request_error")

    def test_paths_without_the_version(self, client: FlaskClient) -> None:
        error(client.post("/messages", json={}), 400, "invalid_request_error")
        error(client.get("/messages/count_tokens"), 405, "invalid_request_error")
        error(client.post("/messages/nothing", json={}), 404, "not_found_error")

    def test_paths_below(self, client: FlaskClient) -> None:
        assert "batches" in error(client.post(f"{URL}/batches", json={}), 404, "not_found_error")

    @pytest.mark.parametrize("headers", [{}, {"x-api-key": "wrong"}, {"Authorization": "Bearer wrong"}])
    def test_a_missing_or_wrong_key(self, make_app: MakeApp, headers: dict[str, str]) -> None:
        client = make_app(api_keys=("right",)).test_client()
        error(client.post(URL, json={}, headers=headers), 401, "authentication_error")

    def test_a_key_in_anthropics_header(self, make_app: MakeApp) -> None:
        client = make_app(api_keys=("right",)).test_client()
        body = {"max_tokens": 5, "messages": HELLO}
        assert client.post(URL, json=body, headers={"x-api-key": "right"}).status_code == 200

    def test_another_host(self, make_app: MakeApp) -> None:
        client = make_app().test_client()
        error(client.post(URL, json={}, headers={"Host": "evil.example"}), 403, "permission_error")

    def test_an_unknown_model(self, make_app: MakeApp) -> None:
        client = make_app(strict_model=True).test_client()
        for url in (URL, COUNT):
            error(ask(client, url, model="claude-x"), 404, "not_found_error")

    def test_a_body_that_is_too_large(self, make_app: MakeApp) -> None:
        client = make_app(max_body_bytes=1024).test_client()
        error(ask(client, system="x" * 2000), 413, "request_too_large")

    @pytest.mark.parametrize(
        ("failure", "status", "type"),
        [
            (QueueFull("Full."), 429, "rate_limit_error"),
            (ModelLoading("Loading."), 503, "overloaded_error"),
            (ShuttingDown("Ending."), 503, "overloaded_error"),
            (EngineError("Failed."), 500, "api_error"),
            (DeadlineExceeded("Late."), 504, "timeout_error"),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_failures_of_the_server(
        self, client: FlaskClient, fake: FakePipeline, failure: BackendError, status: int, type: str, stream: bool
    ) -> None:
        fake.refusal = failure
        response = ask(client, stream=stream)
        assert error(response, status, type) == failure.message
        assert ("Retry-After" in response.headers) == (status in (429, 503))

    def test_a_bug_reveals_nothing(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.refusal = RuntimeError("secret")  # type: ignore[assignment]
        assert "secret" not in error(ask(client), 500, "api_error")

    def test_a_prompt_over_the_context_is_told_in_words_that_claude_code_knows(self, client: FlaskClient) -> None:
        message = error(ask(client, messages=[{"role": "user", "content": "x" * 9000}]), 400, "invalid_request_error")
        assert message.startswith("prompt is too long: 9018 tokens > 8192 maximum")

    def test_the_sdk_is_told_to_go_on_without_a_thread(self, client: FlaskClient) -> None:
        found = ask(client, thread={"type": "create"}).get_json()["error"]
        assert found["details"] == {"error_code": "thread_unsupported_request", "unsupported": []}

    def test_other_paths_keep_openais_envelope(self, client: FlaskClient) -> None:
        for path in ("/v1/messagesx", "/v1/chat/completions"):
            assert list(client.post(path, json={}).get_json()) == ["error"]


class TestCounting:
    def test_the_tokens_of_the_prompt_are_counted_without_an_answer(
        self, client: FlaskClient, fake: FakePipeline
    ) -> None:
        body = {"system": "Be brief.", "messages": HELLO, "tools": [WEATHER], "tool_choice": {"type": "auto"}}
        counted = client.post(COUNT, json={"model": "x", **body})
        assert counted.status_code == 200
        assert fake.jobs == []
        used = answer(client, **body)["usage"]
        assert counted.get_json() == {"input_tokens": used["input_tokens"] + used["cache_read_input_tokens"]}

    def test_an_image_counts_too(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.sees_images()
        plain, shown = (
            client.post(COUNT, json={"messages": [said("user", words("Hi"), *more)]}).get_json()["input_tokens"]
            for more in ([], [image()])
        )
        assert shown == plain + fake.model.image_tokens

    def test_a_prompt_over_the_context_is_counted_too(self, client: FlaskClient) -> None:
        body = {"messages": [{"role": "user", "content": "x" * 9000}]}
        assert client.post(COUNT, json=body).get_json()["input_tokens"] > MODEL.context_length

    def test_faults_are_told(self, client: FlaskClient) -> None:
        invalid(client.post(COUNT, json={"messages": [said("user", RESULT)]}), "messages.0.content")
