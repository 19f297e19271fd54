"""Stored responses on real servers: OpenAI's client continues conversations, and a file survives restarts."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.processes import until
from tests.support.server import Serve, Server

URL = "/v1/responses"
REQUEST: dict[str, Any] = {"model": "chatglm3-demo", "temperature": 0}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_conversation_of_three_turns_goes_on_by_the_ids_of_its_responses(demo: Server, stream: bool) -> None:
    with demo.sdk() as client:

        def ask(text: str, previous: str | None) -> Any:
            given = {**REQUEST, "input": text, "previous_response_id": previous}
            if not stream:
                return client.responses.create(**given)
            with client.responses.stream(**given) as events:
                return events.get_final_response()

        first = ask("My name is Anna.", None)
        second = ask("What is the capital of France?", first.id)
        third = ask("What is my name?", second.id)
        assert "Anna" in third.output_text
        assert "Anna" not in ask("What is my name?", None).output_text
        stored = client.responses.retrieve(third.id)
        assert (stored.output_text, stored.usage) == (third.output_text, third.usage)
        listed = list(client.responses.input_items.list(third.id, order="asc", limit=2))
        assert [item.type for item in listed] == ["message"] * 5
        # The same conversation, sent as a whole, has the same prompt.
        counted = client.responses.input_tokens.count(
            model="chatglm3-demo",
            input=[
                {"role": "user", "content": "My name is Anna."},
                {"role": "assistant", "content": first.output_text},
                {"role": "user", "content": "What is the capital of France?"},
                {"role": "assistant", "content": second.output_text},
                {"role": "user", "content": "What is my name?"},
            ],
        )
        assert counted.input_tokens == third.usage.input_tokens
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError) as refused:
            ask("What is my name?", third.id)
        assert refused.value.code == "previous_response_not_found"


def test_a_stream_whose_client_leaves_is_not_stored(slow_reader: Server) -> None:
    request = {"input": "word " * 300, "stream": True, "max_output_tokens": 8000, "ignore_eos": True}
    with slow_reader.http.stream("POST", URL, json=request) as stream:
        data = next(line for line in stream.iter_lines() if line.startswith("data: "))
        id = json.loads(data.removeprefix("data: "))["response"]["id"]
    until(lambda: slow_reader.http.get("/queue").json()["running"] == [])
    assert slow_reader.http.get(f"{URL}/{id}").status_code == 404


def test_a_file_survives_a_restart_and_a_reload(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    settings = {"response_store": str(path), "api_keys": "alice,bob"}
    alice, bob = ({"Authorization": f"Bearer {key}"} for key in ("alice", "bob"))
    server = serve(**settings)
    first = create(server, "My name is Anna.", alice)
    assert server.stop(signal.SIGTERM) == 0

    again = serve(**settings)
    assert again.http.get(f"{URL}/{first['id']}", headers=alice).json() == first
    assert again.http.get(f"{URL}/{first['id']}", headers=bob).status_code == 404
    [worker] = again.workers()
    again.process.send_signal(signal.SIGHUP)
    until(lambda: again.workers() not in ([worker], []) and again.health() == 200)
    second = create(again, "What is my name?", alice, previous_response_id=first["id"])
    assert "Anna" in second["output"][0]["content"][0]["text"]
    files = b"".join(file.read_bytes() for file in tmp_path.glob("responses.db*"))
    assert b"Anna" in files
    assert b"alice" not in files


def create(server: Server, text: str, headers: dict[str, str], **more: Any) -> dict[str, Any]:
    response: httpx.Response = server.http.post(URL, headers=headers, json={**REQUEST, "input": text, **more})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_a_damaged_file_is_reported_at_the_start_and_breaks_no_answer(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    server = serve(response_store=str(path))
    assert f"GLM_RESPONSE_STORE: {path} cannot be used" in server.log.read_text()
    assert create(server, "Hello!", {})["store"] is False
    assert server.log.read_text().count("cannot be used") == 1
