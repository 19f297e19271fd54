"""Messages: every role and every form of content, and the errors for all others."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from flask.testing import FlaskClient

from glm_api.pipeline.conversation import Message, ToolCall
from tests.support.client import CHAT, HELLO, refused
from tests.support.fake_pipeline import FakePipeline

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
JPEG = b"\xff\xd8\xff" + b"pixels"


def data_uri(file: bytes, type: str = "png") -> str:
    return f"data:image/{type};base64,{base64.b64encode(file).decode()}"


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def messages(client: FlaskClient, fake: FakePipeline, *sent: dict[str, Any]) -> tuple[Message, ...]:
    """What the pipeline is asked with these messages."""
    response = client.post(CHAT, json={"messages": list(sent)})
    assert response.status_code == 200, response.text
    return fake.conversations[-1].messages


def refusal(client: FlaskClient, *sent: Any) -> Any:
    return client.post(CHAT, json={"messages": list(sent)})


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def test_each_role_is_converted(client: FlaskClient, fake: FakePipeline) -> None:
    got = messages(
        client,
        fake,
        {"role": "system", "content": "S"},
        {"role": "developer", "content": "D"},
        {"role": "user", "content": "U", "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "T", "tool_call_id": "c1"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": ""},
    )
    assert [(m.role, m.content) for m in got] == [
        ("system", "S"),
        ("system", "D"),
        ("user", "U"),
        ("assistant", ""),
        ("tool", "T"),
        ("assistant", "A"),
        ("user", ""),
    ]
    assert got[3].tool_calls == (ToolCall("c1", "f", '{"a": 1}'),)
    assert got[4].tool_call_id == "c1"
    assert [m.position for m in got] == list(range(7))


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (["What is the capital", "of France?"], "What is the capital\nof France?"),
        (["你", "好"], "你\n好"),
        (["No.", " Never."], "No. Never."),
        (["Read this:\n", "text"], "Read this:\ntext"),
        (["a\u3000", "b"], "a\u3000b"),
        (["", "a", "", "b", ""], "a\nb"),
        (["", ""], ""),
    ],
)
def test_words_of_two_text_parts_do_not_run_together(
    client: FlaskClient, fake: FakePipeline, parts: list[str], joined: str
) -> None:
    content = [{"type": "text", "text": text} for text in parts]
    called = {"role": "assistant", "content": content, "tool_calls": [CALL]}
    legacy: list[dict[str, Any]] = [LEGACY_CALL, {**LEGACY_RESULT, "content": content}]
    said = [{"role": role, "content": content} for role in ("system", "developer", "user", "assistant")]
    got = messages(client, fake, *said, called, {"role": "tool", "tool_call_id": "c1", "content": content}, *legacy)
    assert [message.content for message in got] == [joined] * 6 + ["", joined]


def test_a_refusal_is_a_part_of_the_text(client: FlaskClient, fake: FakePipeline) -> None:
    said = [{"type": "text", "text": "No."}, {"type": "refusal", "refusal": "Never."}]
    assert messages(client, fake, {"role": "assistant", "content": said}, *HELLO)[0].content == "No.\nNever."


def test_reasoning_of_earlier_answers_is_carried(client: FlaskClient, fake: FakePipeline) -> None:
    said = {"role": "assistant", "content": "A", "reasoning_content": "Hm"}
    called = {"role": "assistant", "reasoning_content": "Hm!", "tool_calls": [CALL]}
    result = {"role": "tool", "content": "T", "tool_call_id": "c1"}
    got = messages(client, fake, *HELLO, said, *HELLO, called, result, {**said, "reasoning_content": None})
    assert [m.reasoning for m in got] == ["", "Hm", "", "Hm!", "", ""]
    prompts = [job.prompts for job in fake.jobs]
    # The format of a model that does not think leaves it out.
    messages(
        client,
        fake,
        *HELLO,
        {"role": "assistant", "content": "A"},
        *HELLO,
        {**called, "reasoning_content": ""},
        result,
        {"role": "assistant", "content": "A"},
    )
    assert [job.prompts for job in fake.jobs] == prompts * 2


@pytest.mark.parametrize("written", ["", "  ", "null", " null\n", None, "{}", {}])
def test_a_call_without_arguments_has_an_empty_object(client: FlaskClient, fake: FakePipeline, written: Any) -> None:
    function = {"name": "f", "arguments": written}
    called = {"role": "assistant", "tool_calls": [{**CALL, "function": function}]}
    result = {"role": "tool", "content": "T", "tool_call_id": "c1"}
    legacy: list[dict[str, Any]] = [{**LEGACY_CALL, "function_call": function}, LEGACY_RESULT]
    got = messages(client, fake, *HELLO, called, result, *legacy)
    assert [call.arguments for message in got for call in message.tool_calls] == ["{}", "{}"]


def test_the_arguments_of_a_call_may_be_an_object(client: FlaskClient, fake: FakePipeline) -> None:
    said = {"city": "巴黎", "days": [1, {"b": None}]}
    for arguments in (said, json.dumps(said)):
        function = {"name": "f", "arguments": arguments}
        called = {"role": "assistant", "tool_calls": [{**CALL, "function": function}]}
        result = {"role": "tool", "content": "T", "tool_call_id": "c1"}
        legacy: list[dict[str, Any]] = [{**LEGACY_CALL, "function_call": function}, LEGACY_RESULT]
        history = [*HELLO, called, result, *legacy]
        got = messages(client, fake, *history)
        assert [json.loads(call.arguments) for message in got for call in message.tool_calls] == [said, said]
        assert "\\u" not in got[1].tool_calls[0].arguments or arguments is not said
        for path in ("/apply-template", "/tokenize"):
            assert client.post(path, json={"messages": history}).status_code == 200
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"a": deep}
    function = {"name": "f", "arguments": deep}
    assert "nested" in refused(
        refusal(client, {"role": "assistant", "tool_calls": [{"function": function}]}), None, None
    )


@pytest.mark.parametrize("content", [{"content": None}, {}, {"content": ""}, {"content": []}])
def test_a_result_may_be_empty(client: FlaskClient, fake: FakePipeline, content: dict[str, Any]) -> None:
    called = {"role": "assistant", "tool_calls": [CALL]}
    assert messages(client, fake, *HELLO, called, {"role": "tool", "tool_call_id": "c1", **content})[-1].content == ""


@pytest.mark.parametrize("content", [{"content": None}, {}, {"content": ""}, {"content": []}])
@pytest.mark.parametrize("calls", [{"tool_calls": []}, {"tool_calls": None}, {}, {"reasoning_content": "Hm"}])
def test_a_message_of_the_assistant_may_be_empty(
    client: FlaskClient, fake: FakePipeline, content: dict[str, Any], calls: dict[str, Any]
) -> None:
    empty = {"role": "assistant", **calls, **content}
    got = messages(client, fake, *HELLO, empty, *HELLO)
    assert (got[1].content, got[1].tool_calls) == ("", ())
    assert messages(client, fake, *HELLO, empty) == messages(client, fake, *HELLO)
    for path in ("/apply-template", "/tokenize"):
        assert client.post(path, json={"messages": [*HELLO, empty, *HELLO]}).status_code == 200


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_an_empty_array_of_parts_is_an_empty_text(client: FlaskClient, fake: FakePipeline, role: str) -> None:
    def said(content: object) -> tuple[Message, ...]:
        return messages(client, fake, {"role": role, "content": content}, *HELLO)

    assert said([]) == said("")
    # The last message too.
    contents: list[object] = ["", []]
    last = [messages(client, fake, *HELLO, {"role": role, "content": content}) for content in contents]
    assert last[0] == last[1]


class TestCallIds:
    @staticmethod
    def call(name: str, **id: Any) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name}, **id}

    @staticmethod
    def answered(got: Sequence[Message]) -> list[tuple[str, str]]:
        """The name of the call that each result answers, with the result."""
        names = {call.id: call.name for message in got for call in message.tool_calls}
        assert all(names)
        return [(names[message.tool_call_id or ""], message.content) for message in got if message.role == "tool"]

    @pytest.mark.parametrize("given", [{}, {"tool_call_id": ""}, {"tool_call_id": None}])
    def test_the_only_call_that_waits_gets_a_result_without_an_id(
        self, client: FlaskClient, fake: FakePipeline, given: dict[str, Any]
    ) -> None:
        result = {"role": "tool", "content": "1", **given}
        for id in ({"id": "c1"}, {"id": ""}, {"id": None}, {}):
            called = {"role": "assistant", "tool_calls": [self.call("f", **id)]}
            got = messages(client, fake, *HELLO, called, result, *HELLO, called, result)
            assert self.answered(got) == [("f", "1")] * 2
        both = {"role": "assistant", "tool_calls": [self.call("f", id="a"), self.call("g", id="b")]}
        named = {"role": "tool", "content": "2", "tool_call_id": "b"}
        assert self.answered(messages(client, fake, *HELLO, both, named, result)) == [("g", "2"), ("f", "1")]

    @pytest.mark.parametrize("id", [{"id": ""}, {}])
    def test_calls_without_ids_get_their_results_in_order(
        self, client: FlaskClient, fake: FakePipeline, id: dict[str, Any]
    ) -> None:
        # A client may use any id, also those that are given here.
        taken = {"role": "assistant", "tool_calls": [self.call("h", id="call_2_0")]}
        called = {"role": "assistant", "tool_calls": [self.call("f", **id), self.call("g", **id)]}
        results = [{"role": "tool", "content": number, "tool_call_id": ""} for number in "12"]
        got = messages(client, fake, *HELLO, taken, called, *results)
        assert self.answered(got) == [("f", "1"), ("g", "2")]
        assert len({call.id for message in got for call in message.tool_calls}) == 3

    def test_a_result_of_one_of_several_calls_needs_its_id(self, client: FlaskClient) -> None:
        called = {"role": "assistant", "tool_calls": [self.call("f", id="a"), self.call("g")]}
        result = {"role": "tool", "content": "1"}
        assert "several wait" in refused(refusal(client, *HELLO, called, result), "messages.2.tool_call_id")
        alone = {"role": "assistant", "tool_calls": [self.call("f")]}
        refused(refusal(client, *HELLO, alone, result, result), "messages.3.tool_call_id")


class TestLastAssistantMessage:
    BEGUN: ClassVar = {"role": "assistant", "content": "The answer is"}

    @pytest.mark.parametrize("content", ["", [{"type": "text", "text": ""}]])
    @pytest.mark.parametrize("number", [1, 3])
    def test_an_empty_one_is_left_out(self, client: FlaskClient, fake: FakePipeline, content: Any, number: int) -> None:
        empty = [{"role": "assistant", "content": content, "reasoning_content": "Hm"}] * number
        assert messages(client, fake, *HELLO, *empty) == messages(client, fake, *HELLO)
        assert fake.jobs[0].prompts == fake.jobs[1].prompts
        assert messages(client, fake, *HELLO, self.BEGUN, *empty)[-1].content == "The answer is"
        # Only at the end.
        assert len(messages(client, fake, *HELLO, *empty, *HELLO)) == number + 2
        refused(refusal(client, *empty), "messages")

    @pytest.mark.parametrize(
        "wish",
        [
            {},
            {"continue_final_message": True},
            {"add_generation_prompt": False},
            {"continue_final_message": True, "add_generation_prompt": False},
            {"continue_final_message": None, "add_generation_prompt": None},
        ],
    )
    def test_it_is_continued(self, client: FlaskClient, fake: FakePipeline, wish: dict[str, Any]) -> None:
        response = client.post(CHAT, json={"messages": [*HELLO, self.BEGUN], **wish})
        assert response.status_code == 200, response.text
        assert fake.conversations[-1].continues

    @pytest.mark.parametrize("path", [CHAT, "/apply-template"])
    @pytest.mark.parametrize(
        ("wish", "last", "param"),
        [
            ({"continue_final_message": True, "add_generation_prompt": True}, [BEGUN], "continue_final_message"),
            ({"continue_final_message": True, "add_generation_prompt": True}, [], "continue_final_message"),
            ({"continue_final_message": True}, [], "continue_final_message"),
            ({"continue_final_message": True}, [{**BEGUN, "content": ""}], "continue_final_message"),
            ({"add_generation_prompt": False}, [], "add_generation_prompt"),
            ({"continue_final_message": False}, [BEGUN], "continue_final_message"),
            ({"add_generation_prompt": True}, [BEGUN], "add_generation_prompt"),
            ({"continue_final_message": False, "add_generation_prompt": True}, [BEGUN], "continue_final_message"),
            ({"continue_final_message": False, "add_generation_prompt": False}, [BEGUN], "continue_final_message"),
        ],
    )
    def test_a_wish_that_is_not_met_is_refused(
        self, client: FlaskClient, path: str, wish: dict[str, bool], last: list[Any], param: str
    ) -> None:
        refused(client.post(path, json={"messages": [*HELLO, *last], **wish}), param)

    def test_neutral_wishes_change_nothing(self, client: FlaskClient, fake: FakePipeline) -> None:
        for wish in ({"continue_final_message": False}, {"add_generation_prompt": True}):
            response = client.post(CHAT, json={"messages": HELLO, **wish})
            assert response.status_code == 200, response.text

    def test_a_demanded_call_is_a_message_of_its_own(self, client: FlaskClient, fake: FakePipeline) -> None:
        tools = [{"type": "function", "function": {"name": "f"}}]
        body = {"messages": [*HELLO, self.BEGUN], "tools": tools, "tool_choice": "required"}
        assert client.post(CHAT, json=body).status_code == 200
        assert not fake.conversations[-1].continues
        assert "a demanded call" in refused(
            client.post(CHAT, json={**body, "continue_final_message": True}), "continue_final_message"
        )


LEGACY_CALL = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
LEGACY_RESULT = {"role": "function", "name": "f", "content": "42"}


class TestLegacyFunctions:
    def test_a_call_and_its_result_get_the_same_id(self, client: FlaskClient, fake: FakePipeline) -> None:
        got = messages(client, fake, *HELLO, LEGACY_CALL, LEGACY_RESULT, LEGACY_CALL, LEGACY_RESULT)
        first, result, second, other = got[1:]
        assert first.tool_calls[0].name == "f"
        assert result.role == "tool"
        assert result.tool_call_id == first.tool_calls[0].id
        assert other.tool_call_id == second.tool_calls[0].id != result.tool_call_id

    def test_a_result_without_a_call_is_refused(self, client: FlaskClient) -> None:
        refused(refusal(client, *HELLO, LEGACY_RESULT), "messages.1.name")
        refused(refusal(client, *HELLO, LEGACY_CALL, {**LEGACY_RESULT, "name": "g"}), "messages.2.name")
        refused(refusal(client, *HELLO, LEGACY_CALL, LEGACY_RESULT, LEGACY_RESULT), "messages.3.name")

    def test_both_forms_in_one_message_are_refused(self, client: FlaskClient) -> None:
        refused(refusal(client, *HELLO, {**LEGACY_CALL, "tool_calls": [CALL]}), "messages.1.function_call")


@pytest.mark.parametrize(
    ("message", "path", "code"),
    [
        ("Hello", "messages.0", "invalid_value"),
        (None, "messages.0", "invalid_value"),
        ({"content": "x"}, "messages.0.role", "missing_required_parameter"),
        ({"role": "king", "content": "x"}, "messages.0.role", "invalid_value"),
        ({"role": 5, "content": "x"}, "messages.0.role", "invalid_value"),
        ({"role": ["user"], "content": "x"}, "messages.0.role", "invalid_value"),
        ({"role": "user"}, "messages.0.content", "missing_required_parameter"),
        ({"role": "user", "content": None}, "messages.0.content", "missing_required_parameter"),
        ({"role": "user", "content": 5}, "messages.0.content", "invalid_value"),
        ({"role": "user", "content": {"text": "x"}}, "messages.0.content", "invalid_value"),
        ({"role": "user", "content": ["x"]}, "messages.0.content.0", "invalid_value"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages.0.content.0.type", "missing_required_parameter"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages.0.content.0.text", "missing_required_parameter"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "messages.0.content.0.text", "invalid_value"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages.0.content.0.type", "invalid_value"),
        ({"role": "user", "content": [{"type": "text", "text": ""}] * 257}, "messages.0.content", "invalid_value"),
        ({"role": "user", "content": "x", "name": 5}, "messages.0.name", "invalid_value"),
        ({"role": "system", "content": [image("data:")]}, "messages.0.content.0.type", "invalid_value"),
        (
            {"role": "assistant", "content": "A", "reasoning_content": 5},
            "messages.0.reasoning_content",
            "invalid_value",
        ),
        ({"role": "assistant", "tool_calls": {}}, "messages.0.tool_calls", "invalid_value"),
        ({"role": "assistant", "tool_calls": [CALL] * 129}, "messages.0.tool_calls", "invalid_value"),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]},
            "messages.0.tool_calls.0.type",
            "invalid_value",
        ),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "a\nb"}}]},
            "messages.0.tool_calls.0.function.name",
            "invalid_value",
        ),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": ["a"]}}]},
            "messages.0.tool_calls.0.function.arguments",
            "invalid_value",
        ),
        ({"role": "tool", "content": "x"}, "messages.0.tool_call_id", "invalid_value"),
        ({"role": "tool", "content": "x", "tool_call_id": 5}, "messages.0.tool_call_id", "invalid_value"),
        ({"role": "tool", "content": "x", "tool_call_id": ""}, "messages.0.tool_call_id", "invalid_value"),
        ({"role": "tool", "content": "x", "tool_call_id": "c9"}, "messages.0.tool_call_id", "invalid_value"),
        ({"role": "function", "content": "x"}, "messages.0.name", "missing_required_parameter"),
    ],
)
def test_an_invalid_message_is_refused_with_the_path_of_the_fault(
    client: FlaskClient, message: Any, path: str, code: str
) -> None:
    refused(refusal(client, message, *HELLO), path, code)


class TestImages:
    @pytest.fixture
    def seeing(self, fake: FakePipeline) -> FakePipeline:
        fake.sees_images()
        return fake

    @pytest.mark.parametrize(("file", "type"), [(PNG, "png"), (JPEG, "jpeg"), (JPEG, "jpg"), (PNG, "PNG")])
    def test_a_model_with_vision_gets_the_file(
        self, client: FlaskClient, seeing: FakePipeline, file: bytes, type: str
    ) -> None:
        content = [{"type": "text", "text": "What is it?"}, image(data_uri(file, type))]
        got = messages(client, seeing, {"role": "user", "content": content})
        assert (got[0].content, got[0].image) == ("What is it?", file)
        assert seeing.jobs[0].image == file

    @pytest.mark.parametrize(
        "url",
        [
            data_uri(PNG, "jpeg"),
            data_uri(PNG, "jpg"),
            data_uri(PNG).rstrip("="),
            re.sub("(.{7})", r"\1\n", data_uri(PNG).partition(",")[2]).join(["data:image/png;base64,", ""]),
            data_uri(PNG).replace("base64,", "base64,\r\n ").replace("=", "\n="),
        ],
    )
    def test_a_wrong_label_and_careless_base64_are_taken(
        self, client: FlaskClient, seeing: FakePipeline, url: str
    ) -> None:
        for part in (image(url), {"type": "image_url", "image_url": url}):
            assert messages(client, seeing, {"role": "user", "content": [part]})[0].image == PNG
        items = [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]
        assert client.post("/v1/responses", json={"input": items}).status_code == 200
        assert seeing.jobs[-1].image == PNG
        labelled = image(data_uri(JPEG, "png"))
        assert messages(client, seeing, {"role": "user", "content": [labelled]})[0].image == JPEG

    def test_a_plain_string_must_be_an_image_too(self, client: FlaskClient, seeing: FakePipeline) -> None:
        part = {"type": "image_url", "image_url": "https://example.org/cat.png"}
        response = refusal(client, {"role": "user", "content": [part]})
        assert "fetches nothing" in refused(response, "messages.0.content.0.image_url")

    def test_a_model_without_vision_refuses_images(self, client: FlaskClient) -> None:
        response = refusal(client, {"role": "user", "content": [image(data_uri(PNG))]})
        assert "does not accept images" in refused(response, "messages.0.content")

    @pytest.mark.parametrize(
        ("url", "word"),
        [
            ("https://example.org/cat.png", "fetches nothing"),
            ("http://169.254.169.254/", "fetches nothing"),
            ("file:///etc/passwd", "data: URI"),
            ("/etc/passwd", "data: URI"),
            ("data:image/gif;base64,R0lGOD", "data: URI"),
            ("data:image/svg+xml;base64,PHN2Zz4=", "data: URI"),
            ("data:image/png,plain", "data: URI"),
            ("data:image/png;base64,@@@@", "base64"),
            ("data:image/png;base64,iVBOR", "base64"),
            ("data:image/png;base64,iV=BORw0KGgo=", "base64"),
            ("data:image/png;base64,iVBO Rw0K", "JPEG file"),
            ("data:image/png;base64,iVBORw0", "JPEG file"),
            ("data:image/png;base64,", "JPEG file"),
            (data_uri(b"GIF89a", "jpeg"), "JPEG file"),
        ],
    )
    def test_only_png_and_jpeg_in_data_uris_are_accepted(
        self, client: FlaskClient, seeing: FakePipeline, url: str, word: str
    ) -> None:
        response = refusal(client, {"role": "user", "content": [image(url)]})
        assert word in refused(response, "messages.0.content.0.image_url.url")
        assert not seeing.jobs

    def test_a_file_of_more_than_ten_megabytes_is_refused(self, make_app: Any, seeing: FakePipeline) -> None:
        client = make_app(max_body_bytes=32 * 2**20).test_client()
        response = refusal(client, {"role": "user", "content": [image(data_uri(PNG + bytes(10 * 2**20)))]})
        assert "10 MiB" in refused(response, "messages.0.content.0.image_url.url")

    def test_more_than_one_image_in_a_message_or_conversation_is_refused(
        self, client: FlaskClient, seeing: FakePipeline
    ) -> None:
        one = {"role": "user", "content": [image(data_uri(PNG))]}
        two = {"role": "user", "content": [image(data_uri(PNG)), image(data_uri(PNG))]}
        refused(refusal(client, two), "messages.0.content")
        refused(refusal(client, one, {"role": "assistant", "content": "A cat."}, one), "messages.2.content")
