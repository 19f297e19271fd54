"""Let llama.cpp write prompts by the chat template of the file, for models that this server has no format for."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Conversation, JsonOutput, Message, StructuredOutput, ToolCall
from glm_api.pipeline.formats.answer_grammar import ToolGrammars, structured_grammar, thinking_grammar
from glm_api.pipeline.formats.base import AnswerReader, Prompt
from glm_api.pipeline.formats.call_syntax import JsonSyntax
from glm_api.pipeline.formats.role_format import HeldAnswers
from glm_api.pipeline.formats.text_filter import TextFilter
from glm_api.pipeline.formats.text_reader import TextReader
from glm_api.pipeline.formats.tool_choice import refuse_tools
from glm_api.pipeline.formats.tool_json import tool_to_json
from glm_api.pipeline.formats.turns import matched
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.llama_cpp import thinking
from glm_api.pipeline.worker.llama_cpp.client import LlamaError
from glm_api.pipeline.worker.llama_cpp.grammar import for_llama_cpp
from glm_api.pipeline.worker.llama_cpp.server import LlamaServer
from glm_api.pipeline.worker.llama_cpp.tokenizer import LlamaTokenizer

# Returns the messages that say that the assistant has made calls.
_CallFields = Callable[[Sequence[ToolCall]], list[dict[str, Any]]]

# In front of and behind the name of a call in a text, which becomes what the model has learnt. No client knows it.
_MARK = f"[{secrets.token_hex(8)}]"
_MARKED = re.compile(rf"<\|assistant\|>\s*{re.escape(_MARK)}(.*?){re.escape(_MARK)}")
# How GLM-4 writes a call.
_JSON_CALL = re.compile(r"probe\s*\n\s*\{\s*\"probed\":\s*1\s*\}")


def _calls_as_openai(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    written = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]
    return [{"role": "assistant", "content": "", "tool_calls": written}]


def _calls_as_texts(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """A message for each call, for templates of GLM-4 that would take its name from a field that llama.cpp drops."""
    return [{"role": "assistant", "content": f"{_MARK}{call.name}{_MARK}{call.arguments}"} for call in calls]


# Special tokens that a template writes around a text. In a text they must not mean what they mean there.
_OF_TEMPLATES = re.compile(r"<\|.+\|>|\[\w*MASK\]|<[se]op>")
# Invisible. It parts a special token's name, which llama.cpp would find in a text too.
_JOINER = "\u2060"
# llama.cpp makes rules of each property and value of a schema, in time that grows with their square, and answers nobody
# meanwhile: 1,000 take a quarter of a second.
_MOST_VALUES = 1000


_SIMPLEST = {"messages": [{"role": "user", "content": "1"}]}
# The role of a call's result in messages of these kinds.
_RESULT_ROLES: dict[_CallFields, str] = {_calls_as_openai: "tool", _calls_as_texts: "observation"}


class TemplateFormat:
    """The `Format` of a model whose prompts llama.cpp writes, and whose answers it reads.

    ``family`` is the architecture. The ids of a prompt only tell how long it is. What is answered is `OutputSpec.chat`:
    the body of a request for llama.cpp's chat API.
    """

    image_ids: tuple[int, ...] = ()
    reuses_prefix = True

    def __init__(self, family: str, tokenizer: LlamaTokenizer, server: LlamaServer) -> None:
        self.family = family
        self._tokenizer = tokenizer
        self._client = server.client
        names = [name for name in tokenizer.special_names if _OF_TEMPLATES.fullmatch(name)]
        self._special = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        props = self._client.get("/props")
        self.supports_tools = bool(props.get("chat_template_caps", {}).get("supports_tools", True))
        self.supports_images = bool(props.get("modalities", {}).get("vision"))
        self.thinks = self._find_thinking()
        # The syntax of calls is only tried: llama.cpp knows that of the model.
        self._tools = ToolGrammars(tokenizer, JsonSyntax())
        has_roles = {"<|assistant|>", "<|observation|>"} <= set(tokenizer.special_names)
        self._call_fields = self._find_json_calls() if has_roles and not self.thinks else None
        # Where the template writes calls as GLM-4 does, we read them: llama.cpp fails at some such answers.
        self._answers = None if self._call_fields is None else HeldAnswers(tokenizer, JsonSyntax())

    def render(self, conversation: Conversation) -> Prompt:
        # Each message takes one token at the least.
        self._tokenizer.expect(len(conversation.messages))
        if not self.supports_tools:
            # llama.cpp would disregard them.
            refuse_tools(conversation)
        body = self._body(conversation)
        try:
            text = self._write({**body, "messages": _without_images(body["messages"])})
        except LlamaError as error:
            if not self._writes_anything():
                # Nothing that the client can change helps.
                raise
            raise PromptError(f"The model's template cannot write this conversation: {error.message}") from None
        ids = self._tokenizer.encode_prompt(text, special=True)
        if self._answers is not None:
            if conversation.messages[-1].role == "assistant":
                if not conversation.continues:
                    reason = "This model cannot begin a call behind an assistant message. End with another message."
                    raise PromptError(reason, "tool_choice")
                return Prompt(ids, self.text_output(conversation.structured))
            return self._answers.prompt(ids, conversation)
        self._demand(body, conversation)
        begun, grammar = text.rstrip().endswith(thinking.BEGIN), None
        if conversation.structured is not None:
            text_grammar = for_llama_cpp(structured_grammar(self._tokenizer, conversation.structured))
            # llama.cpp's own grammar for JSON has white space where ours has none.
            if "response_format" not in body:
                grammar = text_grammar
                held = thinking_grammar(self._tokenizer, conversation.structured, begun=begun)
                body["grammar"] = f"%llguidance {{}}\n{for_llama_cpp(held)}"
        return Prompt(ids, OutputSpec(chat=json.dumps(body, ensure_ascii=False), thinking=begun, grammar=grammar))

    def render_text(self, text: str) -> list[int]:
        return self._tokenizer.encode_prompt(text, special=False)

    def text_output(self, structured: StructuredOutput | None) -> OutputSpec:
        grammar = None if structured is None else structured_grammar(self._tokenizer, structured)
        return OutputSpec(mode="text", grammar=grammar)

    def reader(self, output: OutputSpec, stop: Sequence[str]) -> AnswerReader:
        if self._answers is not None:
            return self._answers.reader(output, stop)
        return TextReader(self._tokenizer, TextFilter(stop, strip=False, punctuation=False))

    def check(self) -> str | None:
        return None

    def _write(self, body: dict[str, Any]) -> str:
        """Return the prompt of a conversation, as llama.cpp writes it. Raises `LlamaError`."""
        text: str = self._client.post("/apply-template", body)["prompt"]
        return _MARKED.sub(r"<|assistant|>\1\n", text)

    def _writes_anything(self) -> bool:
        """Return whether the template can write the simplest conversation."""
        try:
            self._write(_SIMPLEST)
        except LlamaError:
            return False
        return True

    def _find_thinking(self) -> bool:
        """Return whether the model thinks unless it is told not to: its template begins that, or can leave it out."""
        try:
            plain = self._write(_SIMPLEST)
            silent = self._write({**_SIMPLEST, "chat_template_kwargs": {"enable_thinking": False}})
        except LlamaError:
            # A template that does not take this tells so at the first request.
            return False
        return plain != silent or plain.rstrip().endswith(thinking.BEGIN)

    def _find_json_calls(self) -> _CallFields | None:
        """Return how the template takes calls, if it writes them as GLM-4 does: the name, a line end, a JSON object."""
        tool = {"type": "function", "function": {"name": "probe", "parameters": {"type": "object", "properties": {}}}}
        for fields in (_calls_as_openai, _calls_as_texts):
            called = fields((ToolCall("call_0", "probe", '{"probed": 1}'),))
            result = {"role": _RESULT_ROLES[fields], "content": "probed so", "tool_call_id": "call_0"}
            messages = [{"role": "user", "content": "1"}, *called, result]
            try:
                text = self._write({"messages": messages, "tools": [tool]})
            except LlamaError:
                continue
            if _JSON_CALL.search(text) and "probed so" in text:
                return fields
        return None

    def _body(self, conversation: Conversation) -> dict[str, Any]:
        messages = [written for message in self._ordered(conversation.messages) for written in self._messages(message)]
        body: dict[str, Any] = {"messages": messages}
        variables = json.loads(conversation.template.kwargs)
        effort = conversation.template.reasoning_effort
        # Of the others templates know nothing; `enable_thinking` says them.
        if effort not in (None, "none", "minimal"):
            variables.setdefault("reasoning_effort", effort)
        if conversation.tools and conversation.tool_choice.mode != "none":
            body["tools"] = self._declared(conversation)
        if variables:
            body["chat_template_kwargs"] = variables
        return body

    def _demand(self, body: dict[str, Any], conversation: Conversation) -> None:
        """Add to ``body`` what llama.cpp shall hold an answer with tools to. Raises `PromptError`."""
        choice, structured = conversation.tool_choice, conversation.structured
        if "tools" not in body:
            return
        body["tool_choice"] = choice.mode
        body["parallel_tool_calls"] = choice.parallel
        if structured is not None:
            # llama.cpp has no other way to hold an answer that may call tools.
            if not isinstance(structured, JsonOutput):
                raise PromptError("The model cannot be held to this and call tools. Leave one out.", structured.param)
            schema = json.loads(structured.schema)
            if _values(schema) > _MOST_VALUES:
                raise PromptError(
                    f"Beside tools, a schema may have {_MOST_VALUES} properties and values. Leave something out.",
                    structured.param,
                )
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}

    def _ordered(self, messages: Sequence[Message]) -> Iterator[Message]:
        """Yield the messages with results in the order of their calls: templates of GLM show no ids.

        Where calls are written as GLM-4 does, each is a message, and its result stands behind it.
        """
        for message, results in matched(messages):
            if self._call_fields is None or not message.tool_calls:
                yield message
                yield from results.values()
                continue
            if message.content:
                yield replace(message, tool_calls=())
            for call in message.tool_calls:
                yield replace(message, content="", tool_calls=(call,))
                if call.id in results:
                    yield results[call.id]

    def _messages(self, message: Message) -> list[dict[str, Any]]:
        content = self._plain(message.content)
        role = message.role if message.role != "tool" else _RESULT_ROLES[self._call_fields or _calls_as_openai]
        written: dict[str, Any] = {"role": role, "content": content}
        if message.image is not None:
            if not self.supports_images:
                param = f"messages.{message.position}.content"
                raise PromptError("This model does not accept images: no projector is loaded (GLM_MMPROJ).", param)
            image = {"type": "image_url", "image_url": {"url": ""}}
            written["content"] = [image, {"type": "text", "text": content}]
        if message.reasoning:
            written["reasoning_content"] = self._plain(message.reasoning)
        if message.tool_call_id is not None:
            written["tool_call_id"] = message.tool_call_id
        if not message.tool_calls:
            return [written]
        made = [
            replace(call, arguments=self._plain(_checked(call.arguments, message.position)))
            for call in message.tool_calls
        ]
        if self._call_fields is _calls_as_texts:
            return _calls_as_texts(made)
        return [{**written, **_calls_as_openai(made)[0], "content": content}]

    def _plain(self, text: str) -> str:
        """Return ``text`` without special tokens: llama.cpp finds their names in texts of a template too."""
        return self._special.sub(lambda found: found[0][0] + _JOINER + found[0][1:], text)

    def _declared(self, conversation: Conversation) -> list[dict[str, Any]]:
        """Return the tools to show. llama.cpp disregards a choice by name, so it gets no others then."""
        name = conversation.tool_choice.name if self._answers is None else None
        tools = [tool for tool in conversation.tools if name in (None, tool.name)]
        closest = self._tools.closest_schemas(tools)
        left = _MOST_VALUES
        declared = []
        for tool in tools:
            schema = closest[tool.name]
            left -= _values(schema)
            if left < 0:
                if tool.strict:
                    reason = f"The schemas of the tools have more than {_MOST_VALUES} properties and values."
                    raise PromptError(f"{reason} Declare fewer, or leave out strict.", tool.param)
                schema = {"type": "object"}
            plain = replace(tool, description=None if tool.description is None else self._plain(tool.description))
            function = {**tool_to_json(plain), "parameters": json.loads(self._plain(json.dumps(schema)))}
            declared.append({"type": "function", "function": function})
        return declared


def _checked(arguments: str, position: int) -> str:
    """Return the arguments of a call, which llama.cpp parses. Raises `PromptError` for what it cannot parse safely.

    ``position`` is that of the message.
    """
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        # Deep nesting would end the process of llama.cpp.
        found = None
    if not isinstance(found, dict):
        reason = "The arguments of a call must be the text of a JSON object, and not nested too deeply."
        raise PromptError(reason, f"messages.{position}.tool_calls")
    return arguments


def _values(schema: Any) -> int:
    """Return the number of keys and values in ``schema``."""
    if isinstance(schema, dict):
        return len(schema) + sum(map(_values, schema.values()))
    return len(schema) + sum(map(_values, schema)) if isinstance(schema, list) else 0


def _without_images(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``messages`` with their texts alone: what an image takes of the context depends on its size."""
    return [
        {**message, "content": message["content"][-1]["text"]} if isinstance(message["content"], list) else message
        for message in messages
    ]
