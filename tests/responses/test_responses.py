"""The Responses API: OpenAI's own client validates every response and every event strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai import OpenAI

from glm_api.backend.errors import EngineError, PromptError
from glm_api.pipeline.conversation import JsonOutput, Message, Tool, ToolCall, ToolChoice
from glm_api.pipeline.frames import Finished, Text
from tests.support.client import MakeApp, events, refused
from tests.support.fake_pipeline import FakePipeline, Script, call, reasoning, text

URL = "/v1/responses"
LOGPROBS = "message.output_text.logprobs"
TOOL: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "42"}


def messages(client: FlaskClient, fake: FakePipeline, **parameters: Any) -> tuple[Message, ...]:
    response = client.post(URL, json=parameters)
    assert response.status_code == 200, response.text
    return fake.conversations[-1].messages


def refusal(client: FlaskClient, **parameters: Any) -> Any:
    return client.post(URL, json={"input": "Hi", **parameters})


def thought(*texts: str) -> dict[str, Any]:
    parts = [{"type": "reasoning_text", "text": text} for text in texts]
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": parts, "status": "completed"}


def call_2() -> dict[str, Any]:
    return {**CALL, "call_id": "c2"}


class TestInput:
    def test_a_string_is_a_user_message(self, client: FlaskClient, fake: FakePipeline) -> None:
        assert messages(client, fake, input="Hi") == (Message("user", "Hi"),)

    def test_instructions_come_first(self, client: FlaskClient, fake: FakePipeline) -> None:
        got = messages(client, fake, input="Hi", instructions="Be brief.")
        assert [(m.role, m.content) for m in got] == [("system", "Be brief."), ("user", "Hi")]

    def test_messages(self, client: FlaskClient, fake: FakePipeline) -> None:
        items = [
            {"role": "developer", "content": "D"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "U"}]},
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "A", "annotations": []}],
            },
            {"role": "user", "content": "V"},
        ]
        got = messages(client, fake, input=items)
        assert [(m.role, m.content, m.position) for m in got] == [
            ("system", "D", 0),
            ("user", "U", 1),
            ("assistant", "A", 2),
            ("user", "V", 3),
        ]

    def test_words_of_two_text_parts_do_not_run_together(self, client: FlaskClient, fake: FakePipeline) -> None:
        def parts(type: str) -> list[dict[str, str]]:
            return [{"type": type, "text": text} for text in ("What is the capital", "of France?")]

        items = [
            {"role": "developer", "content": parts("input_text")},
            {"role": "user", "content": parts("input_text")},
            CALL,
            {**RESULT, "output": parts("input_text")},
            {"role": "assistant", "content": parts("output_text")},
        ]
        got = messages(client, fake, input=items)
        assert {m.content for m in got if not m.tool_calls} == {"What is the capital\nof France?"}
        assert len(got) == 5

    def test_calls_and_results(self, client: FlaskClient, fake: FakePipeline) -> None:
        said = {"role": "assistant", "content": "Let me see."}
        items = [said, CALL, {**CALL, "call_id": "c2"}, RESULT, {**RESULT, "call_id": "c2"}]
        first, result, other = messages(client, fake, input=items, tools=[TOOL])
        assert first.content == "Let me see."
        assert first.tool_calls == (ToolCall("c1", "f", '{"a": 1}'), ToolCall("c2", "f", '{"a": 1}'))
        assert (result.role, result.content, result.tool_call_id) == ("tool", "42", "c1")
        assert other.tool_call_id == "c2"

    @pytest.mark.parametrize(
        ("items", "path"),
        [
            (5, "input"),
            ([], "input"),
            (["Hi"], "input.0"),
            ([{"role": "king", "content": "x"}], "input.0.role"),
            ([{"type": "item_reference", "id": ""}], "input.0.id"),
            ([{"type": "reasoning", "content": []}], "input"),
            ([{"type": "reasoning", "content": "Hm"}], "input.0.content"),
            ([{"type": "reasoning", "content": [{"type": "output_text", "text": "x"}]}], "input.0.content.0.type"),
            ([{"type": "reasoning", "content": [{"type": "reasoning_text", "text": 5}]}], "input.0.content.0.text"),
            ([{"role": "user", "content": [{"type": "input_file"}]}], "input.0.content.0.type"),
            ([{"role": "user", "content": "x"}, RESULT], "input.1.call_id"),
            ([CALL, RESULT, RESULT], "input.2.call_id"),
            ([{**CALL, "name": "a\nb"}], "input.0.name"),
            ([{**CALL, "arguments": ["a"]}], "input.0.arguments"),
            (
                [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/"}]}],
                "input.0.content.0.image_url",
            ),
            (
                [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/jpeg;base64,/9j/"}]}],
                "input.0.content",
            ),
            (
                [{"role": "system", "content": [{"type": "input_image", "image_url": "data:image/jpeg;base64,/9j/"}]}],
                "input.0.content",
            ),
        ],
    )
    def test_an_invalid_value_is_refused_with_its_path(self, client: FlaskClient, items: Any, path: str) -> None:
        refused(refusal(client, input=items, tools=[TOOL]), path)

    def test_reasoning_belongs_to_the_message_or_call_that_follows(
        self, client: FlaskClient, fake: FakePipeline
    ) -> None:
        user, said = {"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}
        items = [user, thought("1"), said, user, thought("2", "3"), thought("4"), CALL, thought("5"), call_2(), RESULT]
        got = messages(
            client, fake, input=[*items, {**RESULT, "call_id": "c2"}, thought("6"), said, thought("7"), user]
        )
        assert [(m.role, m.reasoning, m.position) for m in got] == [
            ("user", "", 0),
            ("assistant", "1", 2),
            ("user", "", 3),
            ("assistant", "2\n3\n4\n5", 6),
            ("tool", "", 9),
            ("tool", "", 10),
            ("assistant", "6", 12),
            ("user", "", 14),
        ]
        assert len(got[3].tool_calls) == 2

    def test_reasoning_may_have_no_text(self, client: FlaskClient, fake: FakePipeline) -> None:
        hidden = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "S"}]}
        items = [
            {**hidden, "encrypted_content": "x"},
            {**hidden, "content": None},
            {"role": "assistant", "content": "A"},
        ]
        assert messages(client, fake, input=items) == (Message("assistant", "A", position=2),)

    def test_a_result_may_be_empty_and_without_an_id(self, client: FlaskClient, fake: FakePipeline) -> None:
        results: list[dict[str, Any]] = [{}, {"output": None, "call_id": ""}, {"output": []}]
        for result in results:
            for called in (CALL, {**CALL, "call_id": ""}):
                got = messages(client, fake, input=[called, {"type": "function_call_output", **result}])
                assert (got[1].content, got[1].tool_call_id) == ("", got[0].tool_calls[0].id)
                assert got[1].tool_call_id
        calls = [{**CALL, "call_id": id} for id in "ab"]
        refused(refusal(client, input=[*calls, {"type": "function_call_output", "output": "1"}]), "input.2.call_id")

    def test_the_arguments_of_a_call_may_be_an_object(self, client: FlaskClient, fake: FakePipeline) -> None:
        got = messages(client, fake, input=[{**CALL, "arguments": {"a": "巴黎"}}, RESULT])
        assert got[0].tool_calls[0].arguments == '{"a": "巴黎"}'

    @pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
    def test_an_empty_array_of_parts_is_an_empty_text(self, client: FlaskClient, fake: FakePipeline, role: str) -> None:
        user = {"role": "user", "content": "U"}
        contents: list[object] = ["", []]
        got = [messages(client, fake, input=[{"role": role, "content": empty}, user]) for empty in contents]
        assert got[0] == got[1]

    def test_an_empty_last_message_of_the_assistant_is_left_out(self, client: FlaskClient, fake: FakePipeline) -> None:
        empty = {"role": "assistant", "content": ""}
        assert messages(client, fake, input=[{"role": "user", "content": "U"}, empty]) == (Message("user", "U"),)
        refused(refusal(client, input=[empty]), "input")

    def test_input_is_required(self, client: FlaskClient) -> None:
        refused(client.post(URL, json={"model": "x"}), "input", "missing_required_parameter")


class TestParameters:
    def test_they_reach_the_model(self, client: FlaskClient, fake: FakePipeline) -> None:
        response = refusal(client, temperature=0.5, top_p=0.5, max_output_tokens=7, stop="x", tools=[TOOL])
        assert response.status_code == 200
        job = fake.jobs[0]
        assert (job.sampling.temperature, job.sampling.top_p, job.max_tokens, job.stop) == (0.5, 0.5, 7, ("x",))
        assert fake.conversations[0].tools == (Tool("f", None, '{"type": "object"}', param="tools.0.parameters"),)

    def test_a_named_tool(self, client: FlaskClient, fake: FakePipeline) -> None:
        assert refusal(client, tools=[TOOL], tool_choice={"type": "function", "name": "f"}).status_code == 200
        assert fake.conversations[0].tool_choice == ToolChoice("required", "f")
        assert refusal(client, tools=[TOOL], tool_choice="any").get_json()["tool_choice"] == "required"
        assert fake.conversations[1].tool_choice == ToolChoice("required")

    def test_only_the_allowed_tools_are_shown(self, client: FlaskClient, fake: FakePipeline) -> None:
        allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
        tools = [TOOL, {**TOOL, "name": "g"}]
        body = refusal(client, tools=tools, tool_choice=allowed).get_json()
        assert (body["tool_choice"], len(body["tools"])) == (allowed, 2)
        assert [tool.name for tool in fake.conversations[0].tools] == ["f"]
        assert fake.conversations[0].tool_choice == ToolChoice("required")
        unknown = {**allowed, "tools": [{"type": "function", "name": "h"}]}
        refused(refusal(client, tools=tools, tool_choice=unknown), "tool_choice")

    def test_a_json_schema(self, client: FlaskClient, fake: FakePipeline) -> None:
        schema = {"type": "object", "required": ["a"]}
        format = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
        body = refusal(client, text={"format": format}).get_json()
        assert fake.conversations[0].structured == JsonOutput(json.dumps(schema), "text.format.schema")
        assert fake.conversations[0].messages[0].role == "system"
        assert body["text"]["format"] == format

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            ("conversation", "conv_1"),
            ("background", True),
            ("prompt", {"id": "x"}),
            ("include", ["file_search_call.results"]),
            ("include", ["message.output_text.logprobs", "x"]),
            ("truncation", "auto"),
            ("n", 2),
            ("logprobs", True),
            ("logprobs", 3),
        ],
    )
    def test_an_unsupported_parameter_is_refused_by_name(self, client: FlaskClient, parameter: str, value: Any) -> None:
        message = refused(refusal(client, **{parameter: value}), parameter, "unsupported_parameter")
        assert message.count(":") == 1

    @pytest.mark.parametrize("schema", [{}, {"schema": None}])
    def test_a_json_schema_without_its_schema_is_refused(self, client: FlaskClient, schema: dict[str, Any]) -> None:
        format = {"type": "json_schema", "name": "x", **schema}
        refused(refusal(client, text={"format": format}), "text.format.schema", "missing_required_parameter")

    def test_the_refusal_of_logprobs_tells_the_right_way(self, client: FlaskClient) -> None:
        message = refused(refusal(client, logprobs=True), "logprobs", "unsupported_parameter")
        assert LOGPROBS in message
        assert "top_logprobs" in message
        assert refusal(client, logprobs=False).status_code == 200

    def test_neutral_values_are_accepted(self, client: FlaskClient) -> None:
        neutral = {"include": [], "reasoning": {}, "truncation": "disabled", "background": False}
        assert refusal(client, **neutral, previous_response_id=None).status_code == 200

    def test_encrypted_reasoning_may_be_requested(self, client: FlaskClient) -> None:
        assert refusal(client, include=["reasoning.encrypted_content"]).status_code == 200

    def test_a_lenient_server_ignores_what_it_cannot_include(self, make_app: MakeApp, fake: FakePipeline) -> None:
        client = make_app(lenient=True).test_client()
        assert refusal(client, include=["file_search_call.results", LOGPROBS]).status_code == 200
        assert fake.jobs[0].sampling.top_logprobs == 0

    @pytest.mark.parametrize(
        ("parameters", "path"),
        [
            ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
            ({"tools": [TOOL, TOOL]}, "tools.1.name"),
            ({"tool_choice": {"type": "function", "name": "g"}, "tools": [TOOL]}, "tool_choice"),
            ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": 5}}}}, "text.format.schema"),
            ({"max_tool_calls": 0}, "max_tool_calls"),
            ({"safety_identifier": "x" * 513}, "safety_identifier"),
            ({"prompt_cache_key": 5}, "prompt_cache_key"),
            ({"store": "yes"}, "store"),
            ({"previous_response_id": ""}, "previous_response_id"),
            ({"text": {"format": {"type": "json_object"}}, "json_schema": {}}, "json_schema"),
            ({"text": {"format": {"type": "json_object"}}, "guided_regex": "a"}, "guided_regex"),
            ({"max_output_tokens": 0}, "max_output_tokens"),
            ({"instructions": 5}, "instructions"),
            ({"include": "x"}, "include"),
            ({"include": [5]}, "include"),
            ({"top_logprobs": 21, "include": [LOGPROBS]}, "top_logprobs"),
            ({"top_logprobs": True, "include": [LOGPROBS]}, "top_logprobs"),
            ({"top_logprobs": 1}, "top_logprobs"),
            ({"top_logprobs": 1, "include": ["reasoning.encrypted_content"]}, "top_logprobs"),
        ],
    )
    def test_an_invalid_value_is_refused_with_its_path(
        self, client: FlaskClient, parameters: dict[str, Any], path: str
    ) -> None:
        refused(refusal(client, **parameters), path)


# What Open Responses requires of a response object, and OpenAI's documents do not.
GIVEN: dict[str, Any] = {
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "top_logprobs": 2,
    "reasoning": {"effort": "minimal", "summary": None},
    "max_tool_calls": 3,
    "background": False,
    "safety_identifier": "user-1",
    "prompt_cache_key": "chat-1",
}
DEFAULTS: dict[str, Any] = {
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_logprobs": 0,
    "reasoning": {"effort": None, "summary": None},
    "max_tool_calls": None,
    "background": False,
    "safety_identifier": None,
    "prompt_cache_key": None,
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({**GIVEN, "include": [LOGPROBS]}, GIVEN),
        ({}, DEFAULTS),
        (dict.fromkeys(DEFAULTS), DEFAULTS),
        ({"reasoning": {"effort": None, "summary": None}}, DEFAULTS),
    ],
)
def test_a_response_gives_back_what_the_request_had(
    client: FlaskClient, given: dict[str, Any], told: dict[str, Any], stream: bool
) -> None:
    response = refusal(client, **given, stream=stream, service_tier="flex")
    assert response.status_code == 200, response.text
    bodies = [json.loads(data).get("response") for data in events(response)] if stream else [response.get_json()]
    for body in filter(None, bodies):
        assert {name: body[name] for name in told} == told
        assert body["service_tier"] == "default"


SCRIPTS: list[Script] = [
    text("Hel", "lo"),
    text("你", "好\u2028"),
    call("f", '{"a"', ": 1}"),
    [*text("Let me see."), *call("f", "{}")],
    [*call("f", "{}"), *text("Done.")],
    [Text("", [7]), *call("f", "{}"), Text("", [7])],
    [],
    [*reasoning("Hm", "\u2028"), *text("Hel", "lo")],
    [*reasoning("Hm"), *call("f", "{}")],
    [*reasoning("Hm"), *text("Let me see."), *call("f", "{}")],
    reasoning("Hm"),
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_last_event_of_a_stream_has_the_body(sdk: OpenAI, fake: FakePipeline, script: Script) -> None:
    fake.scripts = [script]
    tools: Any = [TOOL]
    body = sdk.responses.create(model="x", input="Hi", tools=tools)
    with sdk.responses.stream(model="x", input="Hi", tools=tools) as stream:
        seen = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert final.status == body.status == "completed"
    # What the client adds up of the pieces, and what the last event says, are both the body.
    last = seen[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == body.output_text
    assert sorted(item.type for item in last.response.output) == sorted(item.type for item in body.output)
    added = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    assert added == body.output_text
    arguments = "".join(event.delta for event in seen if event.type == "response.function_call_arguments.delta")
    assert arguments == "".join(item.arguments for item in body.output if item.type == "function_call")
    thoughts = "".join(event.delta for event in seen if event.type == "response.reasoning_text.delta")
    assert thoughts == "".join(
        part.text for item in body.output if item.type == "reasoning" for part in item.content or []
    )
    assert body.usage is not None
    assert body.usage == last.response.usage
    assert body.usage.total_tokens == body.usage.input_tokens + body.usage.output_tokens


class TestReasoning:
    def test_it_is_an_item_before_the_message(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm", "."), *text("Hello")]]
        body = client.post(URL, json={"input": "Hi"}).get_json()
        first, second = body["output"]
        assert first.pop("id").startswith("rs_")
        part = {"type": "reasoning_text", "text": "Hm."}
        assert first == {"type": "reasoning", "summary": [], "content": [part], "status": "completed"}
        assert second["content"][0]["text"] == "Hello"
        assert body["usage"]["output_tokens"] == 3 + 5
        assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}

    def test_its_events(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm", "."), *text("Hello")]]
        got = [json.loads(data) for data in events(client.post(URL, json={"input": "Hi", "stream": True}))]
        assert [event["type"].removeprefix("response.") for event in got] == [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "reasoning_text.delta",
            "reasoning_text.delta",
            "reasoning_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
        added, begun, delta, _, done, _, closed = got[2:9]
        assert added["item"]["content"] == []
        assert begun["part"] == {"type": "reasoning_text", "text": ""}
        place = {"item_id": added["item"]["id"], "output_index": 0, "content_index": 0}
        assert delta == {"type": delta["type"], "sequence_number": 4, **place, "delta": "Hm"}
        assert done == {"type": done["type"], "sequence_number": 6, **place, "text": "Hm."}
        assert closed["item"]["content"] == [{"type": "reasoning_text", "text": "Hm."}]
        assert got[-1]["response"]["output"][0] == closed["item"]
        assert got[-1]["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}
        assert got[9]["output_index"] == got[11]["output_index"] == 1

    def test_a_response_that_is_cut_in_it_has_no_message(self, sdk: OpenAI, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm"), Finished("length", 2, 1.0, 1.0, 0, 10)]]
        body = sdk.responses.create(model="x", input="Hi")
        last = list(sdk.responses.create(model="x", input="Hi", stream=True))[-1]
        assert last.type == "response.incomplete"
        for response in (body, last.response):
            (item,) = response.output
            assert item.type == "reasoning"
            assert item.status == response.status == "incomplete"
            assert response.output_text == ""

    def test_it_has_no_logprobs(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm"), *text("a")]]
        asked = {"input": "Hi", "include": [LOGPROBS]}
        message = client.post(URL, json=asked).get_json()["output"][1]
        assert [entry["token"] for entry in message["content"][0]["logprobs"]] == ["a"]
        got = [json.loads(data) for data in events(client.post(URL, json={**asked, "stream": True}))]
        deltas = [event for event in got if event["type"] == "response.reasoning_text.delta"]
        assert [event.get("logprobs") for event in deltas] == [None]

    def test_a_model_that_thinks_tells_the_effort(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.thinks()
        asked = {"input": "Hi", "reasoning": {"effort": "low"}}
        assert client.post(URL, json=asked).get_json()["reasoning"] == {"effort": "low", "summary": None}
        got = [json.loads(data) for data in events(client.post(URL, json={**asked, "stream": True}))]
        assert got[0]["response"]["reasoning"] == got[-1]["response"]["reasoning"] == {"effort": "low", "summary": None}


class TestLogprobs:
    def test_the_part_has_each_token_and_the_likeliest(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [text("é")]
        body = client.post(URL, json={"input": "Hi", "include": [LOGPROBS], "top_logprobs": 2}).get_json()
        assert fake.jobs[0].sampling.top_logprobs == 2
        assert body["top_logprobs"] == 2
        token = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
        other = {"token": "ê", "logprob": -1.5, "bytes": [195, 170]}
        assert body["output"][0]["content"][0]["logprobs"] == [{**token, "top_logprobs": [token, other]}]

    def test_there_are_none_unless_asked_for(self, client: FlaskClient, fake: FakePipeline) -> None:
        body = client.post(URL, json={"input": "Hi"}).get_json()
        assert fake.jobs[0].sampling.top_logprobs is None
        assert body["output"][0]["content"][0]["logprobs"] == []

    def test_each_event_has_those_of_its_text(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*text("a", "bc"), Text("", [7]), *call("f", "{}"), *text("d")]]
        asked = {"input": "Hi", "include": [LOGPROBS], "top_logprobs": 1, "tools": [TOOL]}
        got = [json.loads(data) for data in events(client.post(URL, json={**asked, "stream": True}))]
        deltas = [event for event in got if event["type"] == "response.output_text.delta"]
        assert [[entry["token"] for entry in event["logprobs"]] for event in deltas] == [["a"], ["b", "c"], [], ["d"]]
        a = {"token": "a", "logprob": -0.5}
        assert deltas[0]["logprobs"] == [{**a, "top_logprobs": [a]}]
        done = [event["logprobs"] for event in got if event["type"] == "response.output_text.done"]
        assert [[entry["token"] for entry in logprobs] for logprobs in done] == [["a", "b", "c"], ["d"]]
        items = [item for item in got[-1]["response"]["output"] if item["type"] == "message"]
        tokens = [[entry["token"] for entry in item["content"][0]["logprobs"]] for item in items]
        assert tokens == [["a", "b", "c"], ["d"]]

    def test_openais_client_reads_them(self, sdk: OpenAI) -> None:
        asked: dict[str, Any] = {"model": "x", "input": "Hi", "include": [LOGPROBS], "top_logprobs": 1}
        item = sdk.responses.create(**asked).output[0]
        assert item.type == "message"
        part = item.content[0]
        assert part.type == "output_text"
        assert part.logprobs is not None
        assert [entry.token for entry in part.logprobs] == list("Hello")
        with sdk.responses.stream(**asked) as stream:
            seen = list(stream)
            last = stream.get_final_response().output[0]
        assert last.type == "message"
        assert last.content[0].type == "output_text"
        assert last.content[0].logprobs == part.logprobs
        deltas = [event for event in seen if event.type == "response.output_text.delta"]
        assert [entry.token for event in deltas for entry in event.logprobs] == list("Hello")


def test_output_is_accepted_as_input(sdk: OpenAI, client: FlaskClient, fake: FakePipeline) -> None:
    fake.scripts = [[*reasoning("Hm"), *text("Let me see."), *call("f", "{}", id="c1")]]
    first = sdk.responses.create(model="x", input="Hi", tools=[TOOL])  # type: ignore[list-item]
    items = [{"role": "user", "content": "Hi"}, *(item.to_dict() for item in first.output), RESULT]
    got = messages(client, fake, input=items, tools=[TOOL])
    assert (got[1].reasoning, got[1].content) == ("Hm", "Let me see.")
    assert got[1].tool_calls == (ToolCall("c1", "f", "{}"),)
    assert got[2].tool_call_id == "c1"


def test_a_truncated_answer_is_incomplete(sdk: OpenAI, fake: FakePipeline) -> None:
    fake.scripts = [[*text("Once"), Finished("length", 4, 1.0, 1.0, 0, 10)]]
    body = sdk.responses.create(model="x", input="Hi")
    assert body.status == "incomplete"
    assert body.incomplete_details is not None
    assert body.incomplete_details.reason == "max_output_tokens"
    last = list(sdk.responses.create(model="x", input="Hi", stream=True))[-1]
    assert last.type == "response.incomplete"


def test_only_the_last_item_of_a_truncated_answer_is_incomplete(sdk: OpenAI, fake: FakePipeline) -> None:
    fake.scripts = [[*text("Let me see."), *call("f", '{"a"'), Finished("length", 4, 1.0, 1.0, 0, 10)]]
    tools: Any = [TOOL]
    body = sdk.responses.create(model="x", input="Hi", tools=tools)
    last = list(sdk.responses.create(model="x", input="Hi", tools=tools, stream=True))[-1]
    assert last.type == "response.incomplete"
    for response in (body, last.response):
        statuses = [getattr(item, "status", None) for item in response.output]
        assert statuses == ["completed", "incomplete"]


def test_a_stream_that_fails_ends_with_a_failed_response(sdk: OpenAI, fake: FakePipeline) -> None:
    fake.scripts = [[*text("Once"), EngineError("It died.")]]
    last = list(sdk.responses.create(model="x", input="Hi", stream=True))[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert last.response.error.message == "It died."


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_that_the_model_finds_in_a_message_is_one_of_the_input(
    client: FlaskClient, fake: FakePipeline, stream: bool
) -> None:
    fake.scripts = [[PromptError("The image is damaged.", "messages.0.content")]]
    refused(refusal(client, stream=stream), "input.0.content")


def test_each_event_has_its_type_as_its_name(client: FlaskClient) -> None:
    response = client.post(URL, json={"input": "Hi", "stream": True})
    blocks = response.get_data(as_text=True).split("\n\n")[:-1]
    for block, data in zip(blocks, events(response), strict=True):
        assert block.startswith(f"event: {json.loads(data)['type']}\n")
