"""Stored responses over HTTP: what is kept, who may continue, read and delete it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai import OpenAI

from glm_api.backend.errors import EngineError
from glm_api.pipeline.conversation import Message
from glm_api.pipeline.frames import Finished
from glm_api.responses import history
from tests.support.client import MakeApp, error, events, refused
from tests.support.fake_pipeline import FakePipeline, call, reasoning, text

URL = "/v1/responses"
TOOL: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
PNG = "data:image/png;base64,iVBORw0KGgo="
MISSING = f"resp_{'0' * 32}"


def create(client: FlaskClient, input: Any = "Hi", **parameters: Any) -> dict[str, Any]:
    """Return the response object, also of a stream."""
    response = client.post(URL, json={"input": input, **parameters})
    assert response.status_code == 200, response.text
    if parameters.get("stream"):
        last: dict[str, Any] = json.loads(events(response)[-1])["response"]
        return last
    body: dict[str, Any] = response.get_json()
    return body


def said(fake: FakePipeline) -> list[tuple[str, str]]:
    """Return roles and texts of the latest conversation."""
    return [(message.role, message.content) for message in fake.conversations[-1].messages]


def not_found(client: FlaskClient, id: str) -> None:
    for response in (client.get(f"{URL}/{id}"), client.get(f"{URL}/{id}/input_items"), client.delete(f"{URL}/{id}")):
        found = error(response)
        assert (response.status_code, found["type"]) == (404, "invalid_request_error")
        assert found["message"] == f"Response with id '{id}' not found."
    message = refused(
        client.post(URL, json={"input": "Hi", "previous_response_id": id}),
        "previous_response_id",
        "previous_response_not_found",
    )
    assert message == f"Previous response with id '{id}' not found."


def items(client: FlaskClient, id: str, **query: Any) -> dict[str, Any]:
    response = client.get(f"{URL}/{id}/input_items", query_string=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def texts(listed: dict[str, Any]) -> list[str]:
    return [item["content"][0]["text"] for item in listed["data"]]


class TestRetrieval:
    @pytest.mark.parametrize("stream", [False, True])
    def test_a_response_is_stored_as_it_was_answered(
        self, client: FlaskClient, fake: FakePipeline, stream: bool
    ) -> None:
        fake.scripts = [[*reasoning("Hm"), *text("你", "好"), *call("f", "{}")]]
        body = create(client, stream=stream, tools=[TOOL], metadata={"a": "b"}, instructions="Be brief.")
        assert body["store"] is True
        assert client.get(f"{URL}/{body['id']}").get_json() == body

    def test_the_events_of_a_stream_have_the_id(self, client: FlaskClient) -> None:
        response = client.post(URL, json={"input": "Hi", "stream": True})
        got = [json.loads(data) for data in events(response)]
        responses = [event["response"] for event in got if "response" in event]
        (id,) = {response["id"] for response in responses}
        assert [response["store"] for response in responses] == [True] * 3
        assert client.get(f"{URL}/{id}").get_json() == responses[-1]

    def test_an_incomplete_response_is_stored(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*text("Once"), Finished("length", 1, 1.0, 1.0, 0, 10)]]
        for stream in (False, True):
            body = create(client, stream=stream)
            assert client.get(f"{URL}/{body['id']}").get_json()["status"] == "incomplete"

    def test_a_response_that_fails_is_not_stored_and_says_so(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*text("Once"), EngineError("It died.")]]
        body = create(client, stream=True)
        assert (body["status"], body["store"]) == ("failed", False)
        not_found(client, body["id"])

    def test_a_response_whose_client_left_is_not_stored(self, client: FlaskClient) -> None:
        response = client.post(URL, json={"input": "Hi", "stream": True}, buffered=False)
        chunks = iter(response.response)
        first = next(chunks)
        assert isinstance(first, bytes)
        id = json.loads(first.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
        response.close()
        not_found(client, id)

    @pytest.mark.parametrize("stream", [False, True])
    def test_store_false_keeps_nothing(self, client: FlaskClient, stream: bool) -> None:
        body = create(client, store=False, stream=stream)
        assert body["store"] is False
        not_found(client, body["id"])

    def test_openais_client_can_do_it_all(self, sdk: OpenAI) -> None:
        body = sdk.responses.create(model="x", input="Hi", store=True)
        assert sdk.responses.retrieve(body.id) == body
        listed = sdk.responses.input_items.list(body.id, order="asc")
        (item,) = list(listed)
        assert item.type == "message"
        assert item.content[0].text == "Hi"  # type: ignore[union-attr]
        second = sdk.responses.create(model="x", input="And?", previous_response_id=body.id)
        assert second.previous_response_id == body.id
        assert [entry.type for entry in sdk.responses.input_items.list(second.id, limit=1)] == ["message"] * 3
        assert sdk.responses.input_tokens.count(input="Hi", previous_response_id=body.id).input_tokens > 0
        sdk.responses.delete(body.id)

    def test_a_deleted_response_is_gone(self, client: FlaskClient) -> None:
        id = create(client)["id"]
        assert client.delete(f"{URL}/{id}").get_json() == {"id": id, "object": "response", "deleted": True}
        not_found(client, id)

    def test_there_is_nothing_to_cancel(self, client: FlaskClient) -> None:
        id = create(client)["id"]
        response = client.post(f"{URL}/{id}/cancel")
        assert response.status_code == 400
        assert error(response)["message"].startswith("Cannot cancel a synchronous response")
        assert client.post(f"{URL}/{MISSING}/cancel").status_code == 404

    def test_a_stored_response_is_not_streamed(self, client: FlaskClient) -> None:
        id = create(client)["id"]
        refused(client.get(f"{URL}/{id}?stream=true"), "stream", "unsupported_parameter")
        assert client.get(f"{URL}/{id}?stream=false").status_code == 200


class TestContinuation:
    def test_the_whole_conversation_reaches_the_model(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm"), *text("One")]]
        first = create(client, "A", instructions="Count.")
        fake.scripts = [text("Two")]
        second = create(client, "B", previous_response_id=first["id"], stream=True)
        assert said(fake) == [("user", "A"), ("assistant", "One"), ("user", "B")]
        create(client, "C", previous_response_id=second["id"], instructions="Be brief.")
        assert said(fake) == [
            ("system", "Be brief."),
            ("user", "A"),
            ("assistant", "One"),
            ("user", "B"),
            ("assistant", "Two"),
            ("user", "C"),
        ]
        assert [message.reasoning for message in fake.conversations[-1].messages] == ["", "", "Hm", "", "", ""]

    def test_a_response_may_be_continued_twice(self, client: FlaskClient, fake: FakePipeline) -> None:
        first = create(client, "A")
        for input in ("B", "C"):
            create(client, input, previous_response_id=first["id"])
            assert said(fake) == [("user", "A"), ("assistant", "Hello"), ("user", input)]

    def test_a_call_is_continued_with_its_result(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*text("Let me see."), *call("f", '{"a": 1}')]]
        first = create(client, "A", tools=[TOOL])
        (output,) = (item for item in first["output"] if item["type"] == "function_call")
        result = {"type": "function_call_output", "call_id": output["call_id"], "output": "42"}
        second = create(client, [result], previous_response_id=first["id"], tools=[TOOL])
        messages = fake.conversations[-1].messages
        assert [(message.role, message.content) for message in messages] == [
            ("user", "A"),
            ("assistant", "Let me see."),
            ("tool", "42"),
        ]
        assert messages[1].tool_calls[0].arguments == '{"a": 1}'
        fake.scripts = [text("42")]
        create(client, "B", previous_response_id=second["id"], tools=[TOOL])
        assert said(fake)[2:3] == [("tool", "42")]

    def test_calls_and_results_without_ids_are_continued(self, client: FlaskClient, fake: FakePipeline) -> None:
        given = [
            {"role": "user", "content": "A"},
            {"type": "function_call", "name": "f", "arguments": ""},
            {"type": "function_call_output", "output": None},
        ]
        first = create(client, given, tools=[TOOL])
        create(client, "B", previous_response_id=first["id"], tools=[TOOL])
        _, called, result, _, _ = fake.conversations[-1].messages
        assert called.tool_calls[0].arguments == "{}"
        assert (result.tool_call_id, result.content) == (called.tool_calls[0].id, "")

    def test_a_call_that_was_cut_is_left_out(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*text("Hm."), *call("f", '{"a'), Finished("length", 1, 1.0, 1.0, 0, 10)]]
        first = create(client, "A", tools=[TOOL])
        assert first["status"] == "incomplete"
        create(client, "B", previous_response_id=first["id"], tools=[TOOL])
        assert fake.conversations[-1].messages[1] == Message("assistant", "Hm.", position=-1)

    def test_an_image_is_continued(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.sees_images()
        parts = [{"type": "input_text", "text": "A"}, {"type": "input_image", "image_url": PNG}]
        first = create(client, [{"role": "user", "content": parts}])
        create(client, "B", previous_response_id=first["id"])
        assert [message.image for message in fake.conversations[-1].messages] == [b"\x89PNG\r\n\x1a\n", None, None]

    @pytest.mark.parametrize(
        "part",
        [
            {"type": "input_text", "text": "A", "image_url": None},
            {"type": "input_text", "text": "A", "image_url": "x", "refusal": 1},
            {"type": "refusal", "refusal": "A", "text": None},
            {"type": "refusal", "refusal": "A", "text": 5},
        ],
    )
    def test_keys_that_a_part_does_not_have_are_not_kept(
        self, client: FlaskClient, fake: FakePipeline, part: dict[str, Any]
    ) -> None:
        first = create(client, [{"role": "user", "content": [part]}])
        assert items(client, first["id"])["data"][0]["content"] == [{"type": "input_text", "text": "A"}]
        create(client, "B", previous_response_id=first["id"])
        assert said(fake)[0] == ("user", "A")

    def test_a_fault_names_the_input_or_what_it_continues(self, client: FlaskClient, fake: FakePipeline) -> None:
        first = create(client, "A")
        result = {"type": "function_call_output", "call_id": "c1", "output": "42"}
        given = {"input": [{"role": "user", "content": "B"}, result], "previous_response_id": first["id"]}
        refused(client.post(URL, json=given), "input.1.call_id")
        fake.sees_images()
        seen = create(client, [{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}])
        fake.info = FakePipeline().info
        given = {"input": "B", "previous_response_id": seen["id"]}
        refused(client.post(URL, json=given), "previous_response_id")

    def test_without_an_earlier_response_it_cannot_go_on(self, client: FlaskClient) -> None:
        first = create(client, "A")
        second = create(client, "B", previous_response_id=first["id"])
        client.delete(f"{URL}/{first['id']}")
        given = {"input": "C", "previous_response_id": second["id"]}
        message = refused(client.post(URL, json=given), "previous_response_id", "previous_response_not_found")
        assert message.startswith(f"Previous response with id '{first['id']}' not found. It has been deleted")
        assert client.get(f"{URL}/{second['id']}").status_code == 200
        assert texts(items(client, second["id"], order="asc")) == ["B"]

    def test_continuing_renews_the_whole_conversation(
        self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = client.application.extensions[history.EXTENSION]
        now = store._clock()
        first = create(client, "A")
        second = create(client, "B", previous_response_id=first["id"])
        monkeypatch.setattr(store, "_clock", lambda: now + 3500)
        create(client, "C", previous_response_id=second["id"])
        monkeypatch.setattr(store, "_clock", lambda: now + 7000)
        create(client, "D", previous_response_id=second["id"])
        monkeypatch.setattr(store, "_clock", lambda: now + 10_700)
        not_found(client, second["id"])

    def test_a_conversation_has_no_more_items_than_a_request(
        self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(history, "MAX_MESSAGES", 4)
        first = create(client, "A")
        second = create(client, "B", previous_response_id=first["id"])
        assert create(client, "C", previous_response_id=second["id"], store=False)["store"] is False
        third = create(client, "C", previous_response_id=second["id"])
        given = {"input": "D", "previous_response_id": third["id"]}
        message = refused(client.post(URL, json=given), "previous_response_id")
        assert "more than 4 items" in message

    def test_parts_count_too(self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(history, "MAX_CONTAINERS", 14)
        parts = [{"type": "input_text", "text": "x"}] * 10
        first = create(client, [{"role": "user", "content": parts}])
        second = create(client, "B", previous_response_id=first["id"])
        refused(client.post(URL, json={"input": "C", "previous_response_id": second["id"]}), "previous_response_id")

    def test_a_conversation_has_no_more_bytes_than_a_request(self, make_app: MakeApp) -> None:
        client = make_app(max_body_bytes=4096).test_client()
        first = create(client, "A" * 2500)
        assert create(client, "B", previous_response_id=first["id"], store=False)
        second = create(client, "B" * 1500, previous_response_id=first["id"])
        given = {"input": "C", "previous_response_id": second["id"]}
        assert "more than 4096 bytes" in refused(client.post(URL, json=given), "previous_response_id")

    def test_its_tokens_are_counted(self, client: FlaskClient, fake: FakePipeline) -> None:
        first = create(client, "A")
        given = {"input": "B", "previous_response_id": first["id"]}
        counted = client.post(f"{URL}/input_tokens", json=given).get_json()
        assert counted["object"] == "response.input_tokens"
        assert counted["input_tokens"] == create(client, **given)["usage"]["input_tokens"]
        generated = len(fake.jobs)
        client.post(f"{URL}/input_tokens", json=given)
        assert len(fake.jobs) == generated
        refused(client.post(f"{URL}/input_tokens", json={**given, "input": "x" * 9000}), "input", CONTEXT)

    def test_the_tokens_of_an_image_are_counted_too(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.sees_images()
        parts = [{"type": "input_text", "text": "A"}, {"type": "input_image", "image_url": PNG}]
        plain, shown = (
            client.post(f"{URL}/input_tokens", json={"input": [{"role": "user", "content": content}]}).get_json()
            for content in (parts[:1], parts)
        )
        assert shown["input_tokens"] == plain["input_tokens"] + fake.model.image_tokens


CONTEXT = "context_length_exceeded"


class TestReferences:
    def test_an_item_of_a_response_may_be_sent_by_its_id(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.scripts = [[*reasoning("Hm"), *call("f", "{}")]]
        first = create(client, "A", tools=[TOOL])
        references = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
        result = {"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "42"}
        fake.scripts = [text("42")]
        second = create(client, [{"role": "user", "content": "A"}, *references, result], tools=[TOOL])
        assert [message.role for message in fake.conversations[-1].messages] == ["user", "assistant", "tool"]
        assert fake.conversations[-1].messages[1].reasoning == "Hm"
        listed = items(client, second["id"], order="asc")["data"]
        assert [item["type"] for item in listed] == ["message", "reasoning", "function_call", "function_call_output"]
        # What it refers to has become its own.
        client.delete(f"{URL}/{first['id']}")
        create(client, "B", previous_response_id=second["id"], tools=[TOOL])
        assert said(fake)[-1] == ("user", "B")

    def test_an_item_of_an_input_too(self, client: FlaskClient, fake: FakePipeline) -> None:
        (item,) = items(client, create(client, "A")["id"])["data"]
        create(client, [{"type": "item_reference", "id": item["id"]}])
        assert said(fake) == [("user", "A")]

    @pytest.mark.parametrize("id", ["msg_1", f"msg_{'0' * 36}", "x", "_", "resp_"])
    def test_an_item_that_is_not_stored_is_404(self, client: FlaskClient, id: str) -> None:
        response = client.post(URL, json={"input": [{"type": "item_reference", "id": id}]})
        assert (response.status_code, error(response)["param"]) == (404, "input.0.id")
        assert id in error(response)["message"]


class TestInputItems:
    def test_they_have_one_form(self, client: FlaskClient) -> None:
        parts = [{"type": "input_text", "text": "A", "more": 1}, {"type": "refusal", "refusal": "B"}]
        result = {"type": "function_call_output", "call_id": "c1", "output": [{"type": "output_text", "text": "D"}]}
        body = create(
            client,
            [
                {"role": "user", "content": parts, "more": {"a": 1}},
                {"type": "message", "id": "msg_mine", "role": "assistant", "content": "C"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "S"}], "encrypted_content": "x"},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": {"a": 1}},
                result,
            ],
            tools=[TOOL],
        )
        listed = items(client, body["id"], order="asc")
        digits = body["id"].removeprefix("resp_")
        assert listed["data"] == [
            {
                "type": "message",
                "id": f"msg_{digits}8000",
                "status": "completed",
                "role": "user",
                "content": [{"type": "input_text", "text": "A"}, {"type": "input_text", "text": "B"}],
            },
            {
                "type": "message",
                "id": "msg_mine",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "C", "annotations": []}],
            },
            {"type": "reasoning", "id": f"rs_{digits}8002", "status": "completed", "summary": [], "content": []},
            {
                "type": "function_call",
                "id": f"fc_{digits}8003",
                "status": "completed",
                "call_id": "c1",
                "name": "f",
                "arguments": '{"a": 1}',
            },
            {
                "type": "function_call_output",
                "id": f"fco_{digits}8004",
                "status": "completed",
                "call_id": "c1",
                "output": [{"type": "input_text", "text": "D"}],
            },
        ]
        assert (listed["object"], listed["has_more"]) == ("list", False)

    def test_they_come_in_pages(self, client: FlaskClient) -> None:
        id = create(client, [{"role": "user", "content": str(number)} for number in range(25)])["id"]
        first = items(client, id)
        assert texts(first) == [str(number) for number in range(24, 4, -1)]
        assert (first["has_more"], first["first_id"], first["last_id"]) == (
            True,
            first["data"][0]["id"],
            first["data"][-1]["id"],
        )
        rest = items(client, id, after=first["last_id"])
        assert (texts(rest), rest["has_more"]) == (["4", "3", "2", "1", "0"], False)
        assert texts(items(client, id, order="asc", limit=2)) == ["0", "1"]
        assert len(items(client, id, limit=100)["data"]) == 25
        end = items(client, id, after=rest["last_id"])
        assert (end["data"], end["first_id"], end["last_id"], end["has_more"]) == ([], None, None, False)

    def test_they_include_what_is_continued(self, client: FlaskClient) -> None:
        first = create(client, "A")
        second = create(client, "B", previous_response_id=first["id"])
        assert texts(items(client, second["id"], order="asc")) == ["A", "Hello", "B"]

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            ({"order": "up"}, "order"),
            ({"limit": "0"}, "limit"),
            ({"limit": "101"}, "limit"),
            ({"limit": "1.5"}, "limit"),
            ({"limit": "²"}, "limit"),
            ({"limit": "9" * 5000}, "limit"),
            ({"after": "msg_1"}, "after"),
        ],
    )
    def test_an_invalid_query_is_refused_by_name(self, client: FlaskClient, query: dict[str, str], param: str) -> None:
        id = create(client)["id"]
        refused(client.get(f"{URL}/{id}/input_items", query_string=query), param)


class TestOwners:
    @pytest.mark.parametrize("header", ["Authorization", "X-Api-Key"])
    def test_a_key_sees_its_own_responses_only(self, make_app: MakeApp, header: str) -> None:
        app = make_app(api_keys=("alice", "bob"))
        alice, bob = app.test_client(), app.test_client()
        prefix = "Bearer " if header == "Authorization" else ""
        alice.environ_base["HTTP_AUTHORIZATION"] = "Bearer alice"
        bob.environ_base[f"HTTP_{header.upper().replace('-', '_')}"] = f"{prefix}bob"
        for stream in (False, True):
            body = create(alice, stream=stream)
            not_found(bob, body["id"])
            reference = {"input": [{"type": "item_reference", "id": body["output"][0]["id"]}]}
            assert bob.post(URL, json=reference).status_code == 404
            assert bob.post(f"{URL}/{body['id']}/cancel").status_code == 404
            assert alice.get(f"{URL}/{body['id']}").get_json() == body
            assert not_stored_for(app, b"alice")

    def test_the_endpoints_need_a_key(self, make_app: MakeApp) -> None:
        client = make_app(api_keys=("alice",)).test_client()
        for response in (client.get(f"{URL}/{MISSING}"), client.delete(f"{URL}/{MISSING}")):
            assert response.status_code == 401


def not_stored_for(app: Any, key: bytes) -> bool:
    """Whether the store does not know the key itself."""
    store = app.extensions[history.EXTENSION]
    return all(key not in entry.response.owner for entry in store._entries.values())


class TestWithoutAStore:
    @pytest.fixture
    def client(self, make_app: MakeApp) -> FlaskClient:
        return make_app(response_store="off").test_client()

    def test_what_is_not_asked_for_is_not_stored(self, client: FlaskClient) -> None:
        for given in ({}, {"store": False}, {"store": None}):
            body = create(client, **given)
            assert body["store"] is False
            assert client.get(f"{URL}/{body['id']}").status_code == 404

    @pytest.mark.parametrize(("name", "value"), [("store", True), ("previous_response_id", MISSING)])
    def test_what_needs_a_store_is_refused_by_name(self, client: FlaskClient, name: str, value: Any) -> None:
        message = refused(client.post(URL, json={"input": "Hi", name: value}), name, "unsupported_parameter")
        assert "GLM_RESPONSE_STORE is off" in message

    def test_a_lenient_server_does_not_store(self, make_app: MakeApp) -> None:
        client = make_app(response_store="off", lenient=True).test_client()
        assert create(client, store=True)["store"] is False

    def test_an_item_cannot_be_referred_to(self, client: FlaskClient) -> None:
        response = client.post(URL, json={"input": [{"type": "item_reference", "id": f"msg_{'0' * 36}"}]})
        assert response.status_code == 404


class TestFile:
    def test_another_application_finds_it(self, make_app: MakeApp, tmp_path: Path) -> None:
        path = tmp_path / "responses.db"
        first = create(make_app(response_store=path).test_client(), "A")
        again = make_app(response_store=path).test_client()
        assert again.get(f"{URL}/{first['id']}").get_json() == first
        assert create(again, "B", previous_response_id=first["id"])["previous_response_id"] == first["id"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_one_that_is_damaged_breaks_no_answer(
        self, make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture, stream: bool
    ) -> None:
        path = tmp_path / "responses.db"
        path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
        client = make_app(response_store=path).test_client()
        assert "cannot be used" in caplog.text
        body = create(client, store=True, stream=stream)
        assert (body["status"], body["store"]) == ("completed", False)
        response = client.get(f"{URL}/{body['id']}")
        assert (response.status_code, error(response)["type"]) == (500, "server_error")
        assert str(path) not in response.text
        continued = client.post(URL, json={"input": "Hi", "previous_response_id": body["id"]})
        assert continued.status_code == 500
