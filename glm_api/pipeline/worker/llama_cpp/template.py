"""Let llama.cpp write prompts by the chat template of the file, for models that this server has no format for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Conversation, JsonOutput, Message, StructuredOutput, Tool
from glm_api.pipeline.formats.answer_grammar import ToolGrammars, structured_grammar, thinking_grammar
from glm_api.pipeline.formats.base import AnswerReader, Prompt
from glm_api.pipeline.formats.call_syntax import JsonSyntax
from glm_api.pipeline.formats.text_filter import TextFilter
from glm_api.pipeline.formats.text_reader import TextReader
from glm_api.pipeline.formats.tool_json import tool_to_json
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.llama_cpp import thinking
from glm_api.pipeline.worker.llama_cpp.client import LlamaError
from glm_api.pipeline.worker.llama_cpp.server import LlamaServer
from glm_api.pipeline.worker.llama_cpp.tokenizer import LlamaTokenizer


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
        props = self._client.get("/props")
        self.supports_tools = bool(props.get("chat_template_caps", {}).get("supports_tools", True))
        self.supports_images = bool(props.get("modalities", {}).get("vision"))
        self.thinks = self._find_thinking()
        # The syntax is only tried: llama.cpp knows that of the model.
        self._tools = ToolGrammars(tokenizer, JsonSyntax())

    def render(self, conversation: Conversation) -> Prompt:
        body = self._body(conversation)
        try:
            text = self._write({**body, "messages": _without_images(body["messages"])})
        except LlamaError as error:
            raise PromptError(f"The model's template cannot write this conversation: {error.message}") from None
        begun = text.rstrip().endswith(thinking.BEGIN)
        if conversation.structured is not None and "response_format" not in body:
            grammar = thinking_grammar(self._tokenizer, conversation.structured, begun=begun)
            body["grammar"] = f"%llguidance {{}}\n{grammar}"
        ids = self._tokenizer.encode_prompt(text, special=True)
        return Prompt(ids, OutputSpec(chat=json.dumps(body, ensure_ascii=False), thinking=begun))

    def render_text(self, text: str) -> list[int]:
        return self._tokenizer.encode_prompt(text, special=False)

    def text_output(self, structured: StructuredOutput | None) -> OutputSpec:
        grammar = None if structured is None else structured_grammar(self._tokenizer, structured)
        return OutputSpec(mode="text", grammar=grammar)

    def reader(self, output: OutputSpec, stop: Sequence[str]) -> AnswerReader:
        return TextReader(self._tokenizer, TextFilter(stop, strip=False, punctuation=False))

    def check(self) -> str | None:
        return None

    def _write(self, body: dict[str, Any]) -> str:
        """Return the prompt of a conversation, as llama.cpp writes it. Raises `LlamaError`."""
        text: str = self._client.post("/apply-template", body)["prompt"]
        return text

    def _find_thinking(self) -> bool:
        """Return whether the model thinks unless it is told not to: its template begins that, or can leave it out."""
        dialogue = {"messages": [{"role": "user", "content": "1"}]}
        try:
            plain = self._write(dialogue)
            silent = self._write({**dialogue, "chat_template_kwargs": {"enable_thinking": False}})
        except LlamaError:
            # A template that does not take this tells so at the first request.
            return False
        return plain != silent or plain.rstrip().endswith(thinking.BEGIN)

    def _body(self, conversation: Conversation) -> dict[str, Any]:
        body: dict[str, Any] = {"messages": [self._message(message) for message in conversation.messages]}
        choice, structured = conversation.tool_choice, conversation.structured
        variables = json.loads(conversation.template.kwargs)
        if conversation.template.reasoning_effort is not None:
            variables.setdefault("reasoning_effort", conversation.template.reasoning_effort)
        if conversation.tools and choice.mode != "none":
            body["tools"] = self._declared(conversation.tools)
            body["tool_choice"] = choice.mode
            if choice.name is not None:
                body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
            body["parallel_tool_calls"] = choice.parallel
        if structured is not None and "tools" in body:
            # llama.cpp has no other way to hold an answer that may call tools.
            if not isinstance(structured, JsonOutput):
                raise PromptError("The model cannot be held to this and call tools. Leave one out.", structured.param)
            structured_grammar(self._tokenizer, structured)
            schema = json.loads(structured.schema)
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
        if variables:
            body["chat_template_kwargs"] = variables
        return body

    def _message(self, message: Message) -> dict[str, Any]:
        written: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.image is not None:
            if not self.supports_images:
                param = f"messages.{message.position}.content"
                raise PromptError("This model does not accept images: no projector is loaded (GLM_MMPROJ).", param)
            image = {"type": "image_url", "image_url": {"url": ""}}
            written["content"] = [image, {"type": "text", "text": message.content}]
        if message.reasoning:
            written["reasoning_content"] = message.reasoning
        if message.tool_calls:
            written["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            written["tool_call_id"] = message.tool_call_id
        return written

    def _declared(self, tools: Sequence[Tool]) -> list[dict[str, Any]]:
        closest = self._tools.closest_schemas(tools)
        return [
            {"type": "function", "function": {**tool_to_json(tool), "parameters": closest[tool.name]}} for tool in tools
        ]


def _without_images(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``messages`` with their texts alone: what an image takes of the context depends on its size."""
    return [
        {**message, "content": message["content"][-1]["text"]} if isinstance(message["content"], list) else message
        for message in messages
    ]
