"""What llama.cpp is asked for a conversation, with a scripted template."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import (
    ChoiceOutput,
    Conversation,
    JsonOutput,
    Message,
    RegexOutput,
    TemplateOptions,
    Tool,
    ToolCall,
    ToolChoice,
)
from glm_api.pipeline.formats.base import Prompt
from glm_api.pipeline.worker.gguf_file import inspect_gguf
from glm_api.pipeline.worker.llama_cpp.client import LlamaError
from glm_api.pipeline.worker.llama_cpp.template import TemplateFormat
from glm_api.pipeline.worker.llama_cpp.tokenizer import LlamaTokenizer
from glm_api.pipeline.worker.tokenizer import TooManyTokens
from tests.support.gguf import models

from .scripted import ScriptedClient

QUESTION = (Message("user", "Hi"),)
SCHEMA = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
WEATHER = Tool("get_weather", "Get the weather.", SCHEMA)
OTHER = Tool("other", parameters="{}")
CALL = ToolCall("call_1", "get_weather", '{"n": 1}')

Render = Callable[[dict[str, Any]], str]


def thinking(body: dict[str, Any]) -> str:
    """A template that lets the model think unless it is told not to, and writes calls in a way of its own."""
    thinks = body.get("chat_template_kwargs", {}).get("enable_thinking", True)
    return plain(body) + ("<think>" if thinks else "<think></think>")


def plain(body: dict[str, Any]) -> str:
    texts = [f"[{tool['function']['name']}]" for tool in body.get("tools", [])]
    for message in body["messages"]:
        calls = [json.dumps(call["function"]) for call in message.get("tool_calls", [])]
        thought = message.get("reasoning_content", "")
        texts.append(f"<|{message['role']}|>{thought}{message['content']}{''.join(calls)}")
    return "".join([*texts, "<|assistant|>"])


def as_glm_4(body: dict[str, Any]) -> str:
    """A template that writes calls as GLM-4 does."""
    texts = [f"[{tool['function']['name']}]" for tool in body.get("tools", [])]
    for message in body["messages"]:
        for call in message.get("tool_calls", []):
            texts.append(f"<|assistant|>{call['function']['name']}\n{call['function']['arguments']}")
        texts.append(f"<|{message['role']}|>{message['content']}")
    return "".join([*texts, "<|assistant|>"])


class Bench:
    def __init__(self, folder: Path, render: Render, *, vision: bool = False) -> None:
        file = inspect_gguf(models.write_model(folder / "model.gguf", models.GLM_4_5))
        self.bodies: list[dict[str, Any]] = []
        self.encoded: list[str] = []
        self._render = render
        self._vision = vision
        self.client = ScriptedClient(posts=self._answer)
        server = cast("Any", self)
        self.tokenizer = LlamaTokenizer(file, server)
        self.format = TemplateFormat("glm4moe", self.tokenizer, server)

    def _answer(self, endpoint: str, body: Any) -> Any:
        if endpoint == "/props":
            return {"chat_template_caps": {"supports_tools": True}, "modalities": {"vision": self._vision}}
        if endpoint == "/tokenize":
            self.encoded.append(body["content"])
            ids = self.tokenizer.ids_by_bytes
            return {"tokens": [ids[bytes([byte])] for byte in body["content"].encode()]}
        assert endpoint == "/apply-template"
        self.bodies.append(body)
        return {"prompt": self._render(body)}

    def render(self, conversation: Conversation) -> Prompt:
        return self.format.render(conversation)

    def chat(self, conversation: Conversation) -> dict[str, Any]:
        """The body of the request that llama.cpp gets."""
        output = self.render(conversation).output
        assert output.chat is not None
        body: dict[str, Any] = json.loads(output.chat)
        return body

    def text(self, conversation: Conversation) -> str:
        return self.tokenizer.decode(self.render(conversation).ids).decode()


def test_thinking_is_found_by_what_the_template_writes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, thinking)
    assert bench.format.thinks
    assert bench.render(Conversation(QUESTION)).output.thinking
    silent = Conversation(QUESTION, template=TemplateOptions('{"enable_thinking": false}', "none"))
    assert bench.chat(silent)["chat_template_kwargs"] == {"enable_thinking": False}
    assert not bench.render(silent).output.thinking
    strained = Conversation(QUESTION, template=TemplateOptions('{"enable_thinking": true}', "high"))
    assert bench.chat(strained)["chat_template_kwargs"] == {"enable_thinking": True, "reasoning_effort": "high"}
    assert not Bench(tmp_path, plain).format.thinks


def test_a_template_that_fails_at_the_probes_serves_all_the_same(tmp_path: Path) -> None:
    def fragile(body: dict[str, Any]) -> str:
        if "chat_template_kwargs" in body or "tools" in body:
            raise LlamaError(500, "", "no such variable")
        return plain(body)

    bench = Bench(tmp_path, fragile)
    assert not bench.format.thinks
    assert bench.text(Conversation(QUESTION)) == "<|user|>Hi<|assistant|>"
    with pytest.raises(PromptError, match="no such variable"):
        bench.render(Conversation(QUESTION, (WEATHER,)))


def test_a_template_that_can_write_nothing_is_no_fault_of_the_client(tmp_path: Path) -> None:
    def broken(body: dict[str, Any]) -> str:
        raise LlamaError(500, "", "no such variable")

    with pytest.raises(LlamaError):
        Bench(tmp_path, broken).render(Conversation(QUESTION))


def test_messages_are_written_as_openai_has_them(tmp_path: Path) -> None:
    history = (
        Message("system", "Be brief."),
        *QUESTION,
        Message("assistant", "Well", (CALL,), reasoning="Hm"),
        Message("tool", "rain", tool_call_id="call_1"),
    )
    messages = Bench(tmp_path, thinking).chat(Conversation(history))["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool"]
    called = messages[2]
    assert (called["content"], called["reasoning_content"]) == ("Well", "Hm")
    assert called["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"n": 1}'}
    assert messages[3]["tool_call_id"] == "call_1"


@pytest.mark.parametrize(
    ("choice", "chosen", "shown"),
    [
        (ToolChoice(), "auto", ["get_weather", "other"]),
        (ToolChoice("required", parallel=False), "required", ["get_weather", "other"]),
        (ToolChoice("required", "other"), "required", ["other"]),
        (ToolChoice("none"), None, []),
    ],
)
def test_tools_are_shown_as_the_choice_says(
    tmp_path: Path, choice: ToolChoice, chosen: str | None, shown: list[str]
) -> None:
    body = Bench(tmp_path, thinking).chat(Conversation(QUESTION, (WEATHER, OTHER), choice))
    assert [tool["function"]["name"] for tool in body.get("tools", [])] == shown
    assert body.get("tool_choice") == chosen
    if chosen:
        assert body["parallel_tool_calls"] is choice.parallel


def test_a_structured_answer_is_held_to_a_grammar_behind_its_thinking(tmp_path: Path) -> None:
    bench = Bench(tmp_path, thinking)
    for structured in (JsonOutput(SCHEMA, "p"), RegexOutput("[a-c]{3}", "p"), ChoiceOutput(("yes", "no"), "p")):
        grammar = bench.chat(Conversation(QUESTION, structured=structured))["grammar"]
        assert grammar.startswith("%llguidance {}\n")
        assert "</think>" in grammar
        output = bench.render(Conversation(QUESTION, structured=structured)).output
        assert output.grammar is not None
        assert "</think>" not in output.grammar


def test_beside_tools_only_json_can_be_demanded(tmp_path: Path) -> None:
    bench = Bench(tmp_path, thinking)
    body = bench.chat(Conversation(QUESTION, (WEATHER,), structured=JsonOutput(SCHEMA, "p")))
    assert body["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)
    assert "grammar" not in body
    many = json.dumps({"enum": [f"value {number}" for number in range(2000)]})
    for structured in (RegexOutput("a", "p"), JsonOutput(many, "p")):
        with pytest.raises(PromptError) as refused:
            bench.render(Conversation(QUESTION, (WEATHER,), structured=structured))
        assert refused.value.param == "p"


def test_an_image_needs_a_projector(tmp_path: Path) -> None:
    conversation = Conversation((Message("user", "What?", image=b"", position=2),))
    with pytest.raises(PromptError) as refused:
        Bench(tmp_path, thinking).render(conversation)
    assert refused.value.param == "messages.2.content"
    bench = Bench(tmp_path, thinking, vision=True)
    assert bench.format.supports_images
    image, text = bench.chat(conversation)["messages"][0]["content"]
    assert (image["type"], text) == ("image_url", {"type": "text", "text": "What?"})
    # The prompt is counted without it.
    assert "What?" in bench.text(conversation)


@pytest.mark.parametrize("role", ["tool", "observation"])
def test_calls_that_are_written_as_glm_4_writes_them_are_read_by_ids(tmp_path: Path, role: str) -> None:
    def with_observations(body: dict[str, Any]) -> str:
        known = [message for message in body["messages"] if message["role"] != "tool"]
        return as_glm_4({**body, "messages": [{**message, "tool_calls": []} for message in known]})

    bench = Bench(tmp_path, as_glm_4 if role == "tool" else with_observations)
    prompt = bench.render(Conversation(QUESTION, (WEATHER,)))
    assert prompt.output.chat is None
    assert prompt.output.tools == ("get_weather",)
    assert prompt.output.grammar is not None
    forced = bench.render(Conversation(QUESTION, (WEATHER,), ToolChoice("required", "get_weather")))
    assert bench.tokenizer.decode(forced.ids).decode().endswith("<|assistant|>get_weather\n")
    history = (*QUESTION, Message("assistant", "", (CALL,)), Message("tool", "rain", tool_call_id="call_1"))
    text = bench.text(Conversation(history, (WEATHER,)))
    assert '<|assistant|>get_weather\n{"n": 1}' in text
    assert f"<|{role}|>rain" in text
    continued = bench.render(Conversation((*QUESTION, Message("assistant", "We"))))
    assert continued.output.mode == "text"


def test_a_prompt_of_too_many_messages_is_not_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path, thinking)
    bench.bodies.clear()
    with bench.tokenizer.limit(5), pytest.raises(TooManyTokens):
        bench.render(Conversation(QUESTION * 6))
    assert bench.bodies == []


def test_a_prompt_that_is_surely_too_long_is_not_encoded(tmp_path: Path) -> None:
    bench = Bench(tmp_path, thinking)
    bench.encoded.clear()
    called = Message("assistant", "", tool_calls=(ToolCall("call_1", "other", json.dumps({"a": "x" * 100_000})),))
    for earlier in (called, Message("assistant", "Hm", reasoning="x" * 100_000)):
        result = (Message("tool", "1", tool_call_id="call_1"),) if earlier.tool_calls else QUESTION
        with bench.tokenizer.limit(100), pytest.raises(TooManyTokens) as refused:
            bench.render(Conversation((*QUESTION, earlier, *result)))
        assert refused.value.at_least
    assert bench.encoded == []


def test_special_tokens_that_a_template_spells_out_are_not_taken_for_long(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda body: "<|begin_of_image|>" * 90)
    with bench.tokenizer.limit(100):
        bench.render(Conversation(QUESTION))
    assert bench.encoded[-1] == "<|begin_of_image|>" * 90


def test_a_raw_prompt_is_only_text(tmp_path: Path) -> None:
    bench = Bench(tmp_path, thinking)
    assert bench.format.render_text("Hi")[-2:] == [bench.tokenizer.ids_by_bytes[letter] for letter in (b"H", b"i")]
    assert bench.format.text_output(None).grammar is None
    assert bench.format.text_output(RegexOutput("a", "p")).grammar is not None
    assert bench.format.check() is None
