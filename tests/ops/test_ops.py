"""The endpoints for operators and for debugging."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from glm_api import __version__
from glm_api.api.examples import WEATHER
from glm_api.backend.errors import ModelLoading, PromptError
from glm_api.pipeline.conversation import Conversation
from tests.support.client import CHAT, HELLO, MakeApp, error, refused
from tests.support.fake_pipeline import FakePipeline

UNSUPPORTED = "unsupported_parameter"
LOADING = ModelLoading("The model is being loaded.", 2)


class TestHealth:
    def test_a_ready_server_is_healthy(self, client: FlaskClient) -> None:
        response = client.get("/health")
        assert (response.status_code, response.get_json()) == (200, {"status": "ok"})

    @pytest.mark.parametrize(
        ("state", "code"),
        [
            ("loading", "model_loading"),
            ("restarting", "model_loading"),
            ("failed", "model_loading"),
            ("draining", "shutting_down"),
        ],
    )
    def test_a_server_that_is_not_ready_is_503(
        self, client: FlaskClient, fake: FakePipeline, state: str, code: str
    ) -> None:
        fake.state = state
        response = client.get("/health")
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        found = error(response)
        assert (found["type"], found["code"]) == ("unavailable_error", code)
        assert found["message"] == f"The model is {state}."

    def test_the_web_process_is_alive_if_the_model_fails(self, client: FlaskClient, fake: FakePipeline) -> None:
        fake.state = "failed"
        assert client.get("/livez").get_json() == {"status": "ok"}


class TestTokens:
    def test_tokenize(self, client: FlaskClient) -> None:
        assert client.post("/tokenize", json={"content": "hi"}).get_json()["tokens"] == [104, 105]
        special = client.post("/tokenize", json={"content": "hi", "add_special": True}).get_json()
        assert special["tokens"] == [1, 104, 105]

    @pytest.mark.parametrize("param", ["content", "prompt"])
    def test_a_text_that_is_too_long_is_named_as_it_was_sent(
        self, client: FlaskClient, fake: FakePipeline, monkeypatch: pytest.MonkeyPatch, param: str
    ) -> None:
        def refuse(text: str, special: bool) -> list[int]:
            raise PromptError("The text has 40000 tokens.", "content")

        monkeypatch.setattr(fake, "tokenize", refuse)
        assert error(client.post("/tokenize", json={param: "hi"}))["param"] == param

    def test_tokenize_with_pieces(self, client: FlaskClient, fake: FakePipeline) -> None:
        got = client.post("/tokenize", json={"content": "你h你", "with_pieces": True}).get_json()
        assert got["tokens"] == [
            {"id": 20320, "piece": "你"},
            {"id": 104, "piece": "h"},
            {"id": 20320, "piece": "你"},
        ]

    def test_a_piece_that_is_no_character_is_bytes(
        self, client: FlaskClient, fake: FakePipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fake, "pieces", lambda ids: [b"\xe4\xbd", b"\xa0"])
        body = {"content": "hi", "with_pieces": True, "return_token_strs": True}
        got = client.post("/tokenize", json=body).get_json()
        assert [token["piece"] for token in got["tokens"]] == [[0xE4, 0xBD], [0xA0]]
        assert got["token_strs"] == ["\ufffd", "\ufffd"]

    def test_vllms_shape(self, client: FlaskClient) -> None:
        got = client.post("/tokenize", json={"prompt": "hi", "return_token_strs": True}).get_json()
        assert got == {"tokens": [1, 104, 105], "count": 3, "max_model_len": 8192, "token_strs": ["\x01", "h", "i"]}
        plain = client.post("/tokenize", json={"prompt": "hi", "add_special_tokens": False}).get_json()
        assert plain == {"tokens": [104, 105], "count": 2, "max_model_len": 8192}
        assert client.post("/detokenize", json={"tokens": plain["tokens"]}).get_json()["prompt"] == "hi"

    def test_the_tokens_of_a_chat(self, client: FlaskClient, fake: FakePipeline) -> None:
        got = client.post("/tokenize", json={"messages": HELLO, "tools": [WEATHER]}).get_json()
        client.post(CHAT, json={"messages": HELLO, "tools": [WEATHER]})
        assert got["tokens"] == fake.jobs[0].prompts[0]
        assert got["count"] == len(got["tokens"])

    def test_one_thing_is_tokenized(self, client: FlaskClient) -> None:
        for both in ({"content": "a", "prompt": "a"}, {"content": "a", "messages": HELLO}):
            refused(client.post("/tokenize", json=both), "content")
        refused(client.post("/tokenize", json={"content": "a", "parse_special": True}), "parse_special", UNSUPPORTED)
        assert client.post("/tokenize", json={"content": ""}).get_json()["tokens"] == []

    def test_detokenize(self, client: FlaskClient) -> None:
        text = {"content": "hi", "prompt": "hi"}
        assert client.post("/detokenize", json={"tokens": [104, 105]}).get_json() == text
        assert client.post("/detokenize", json={"tokens": []}).get_json() == {"content": "", "prompt": ""}

    @pytest.mark.parametrize(
        ("tokens", "path"),
        [("hi", "tokens"), ([1.5], "tokens.0"), ([1, "2"], "tokens.1"), ([-1], "tokens.0"), ([0x110000], "tokens")],
    )
    def test_invalid_token_ids_are_refused(self, client: FlaskClient, tokens: Any, path: str) -> None:
        refused(client.post("/detokenize", json={"tokens": tokens}), path)

    @pytest.mark.parametrize(("path", "param"), [("/tokenize", "content"), ("/detokenize", "tokens")])
    def test_the_text_or_the_ids_are_required(self, client: FlaskClient, path: str, param: str) -> None:
        refused(client.post(path, json={}), param, "missing_required_parameter")


class TestTemplate:
    def test_the_prompt_is_that_of_a_chat_completion(self, client: FlaskClient, fake: FakePipeline) -> None:
        got = client.post("/apply-template", json={"messages": HELLO}).get_json()
        assert got["prompt"] == "<user>\nHello<assistant>"
        client.post(CHAT, json={"messages": HELLO})
        assert got["tokens"] == fake.jobs[0].prompts[0]

    @pytest.mark.parametrize(
        "more",
        [
            {"response_format": {"type": "json_object"}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}},
            {"json_schema": {"type": "array"}},
            {"guided_json": {"type": "array"}},
            {"structured_outputs": {"regex": "a"}},
            {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False},
            {"functions": [WEATHER["function"]], "function_call": {"name": "get_weather"}},
        ],
    )
    def test_it_takes_all_that_makes_a_prompt(
        self, client: FlaskClient, fake: FakePipeline, more: dict[str, Any]
    ) -> None:
        got = client.post("/apply-template", json={"messages": HELLO, **more}).get_json()
        client.post(CHAT, json={"messages": HELLO, **more})
        assert got["tokens"] == fake.jobs[0].prompts[0]
        assert fake.conversations[0] == fake.conversations[1]
        assert fake.conversations[0] != Conversation(fake.conversations[0].messages)

    def test_nothing_is_generated(self, client: FlaskClient, fake: FakePipeline) -> None:
        client.post("/apply-template", json={"messages": HELLO})
        assert not fake.generations

    def test_the_messages_are_checked(self, client: FlaskClient) -> None:
        response = client.post("/apply-template", json={"messages": [{"role": "user"}]})
        refused(response, "messages.0.content", "missing_required_parameter")


def test_props(client: FlaskClient, fake: FakePipeline) -> None:
    got = client.get("/props").get_json()
    defaults = got["default_generation_settings"]
    assert defaults["n_ctx"] == 8192
    # Newer clients of llama-server look there.
    assert defaults["params"] == {name: defaults[name] for name in defaults if name not in ("n_ctx", "params")}
    assert (got["chat_template"], got["bos_token"], got["eos_token"]) == ("", "[gMASK]sop", "</s>")
    assert (defaults["min_p"], defaults["presence_penalty"], defaults["frequency_penalty"]) == (0, 0, 0)
    assert (defaults["seed"], defaults["min_tokens"], defaults["ignore_eos"]) == (None, 0, False)
    assert got["total_slots"] == 4
    assert got["threads"] == {"most": 4, "step": 2, "batch": 3}
    assert got["modalities"] == {"vision": False, "audio": False}
    # A path tells a stranger about the machine.
    assert "/" not in got["model_path"]
    assert got["build_info"] == f"glm-api-server {__version__}"
    fake.info = LOADING
    assert client.get("/props").status_code == 503


@pytest.mark.parametrize(
    "settings", [{}, {"backend": "openai", "upstream_url": "http://127.0.0.1:9/v1"}], ids=["chatglm-cpp", "openai"]
)
def test_version(make_app: MakeApp, fake: FakePipeline, settings: dict[str, Any]) -> None:
    fake.state = "loading"
    response = make_app(**settings).test_client().get("/version")
    assert (response.status_code, response.get_json()) == (200, {"version": __version__})


def test_slots(client: FlaskClient, fake: FakePipeline) -> None:
    idle = {
        "id": 0,
        "id_task": -1,
        "n_ctx": 8192,
        "speculative": False,
        "is_processing": False,
        "tokens": 12,
        "n_prompt_tokens": 0,
        "n_prompt_tokens_processed": 0,
        "n_prompt_tokens_cache": 0,
        "next_token": [{"has_next_token": False, "n_decoded": 0, "n_remain": 0}],
    }
    assert client.get("/slots").get_json() == [idle]
    fake.info = LOADING
    assert client.get("/slots").status_code == 503


def test_the_queue(client: FlaskClient) -> None:
    empty = {"running": [], "waiting": [], "threads": {"most": 4, "step": 2, "batch": 3}}
    assert client.get("/queue").get_json() == empty
