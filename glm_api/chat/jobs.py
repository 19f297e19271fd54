"""A chat completion as work for the pipeline."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from glm_api.chat.messages import to_messages
from glm_api.chat.schemas import ChatRequest, ResponseFormat
from glm_api.chat.tools import NamedTool, ToolEntry, to_choice, to_tools
from glm_api.context import pipeline
from glm_api.errors import invalid
from glm_api.pipeline.conversation import Conversation, Message, Tool, ToolChoice
from glm_api.pipeline.job import Job

# In the words that the bundled demo model has learnt; large models understand any.
JSON_INSTRUCTION = "Respond with a single JSON object and nothing else."
SCHEMA_INSTRUCTION = f"{JSON_INSTRUCTION} It must match this JSON schema:\n{{}}"


def to_conversation(request: ChatRequest) -> Conversation:
    """What the model is asked. Raises `ApiError`."""
    if request.functions and request.tools:
        raise invalid("Invalid 'functions': it is the legacy form of tools; send one of them.", "functions")
    messages = instructed(to_messages(request.messages), request.response_format)
    if request.legacy or request.function_call is not None:
        tools = to_tools(request.functions, "functions.{}.name")
        return Conversation(messages, tools, to_choice(request.function_call, tools, "function_call"))
    return Conversation(messages, *declared(request.tools, request.tool_choice))


def declared(entries: tuple[ToolEntry, ...], chosen: str | NamedTool | None) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools of a request and the choice among them. Raises `ApiError`."""
    tools = to_tools((entry.function for entry in entries), "tools.{}.function.name")
    return tools, to_choice(chosen, tools, "tool_choice")


def instructed(messages: tuple[Message, ...], format: ResponseFormat) -> tuple[Message, ...]:
    """``messages`` with what ``format`` demands at the end of the system's text: no grammar holds the model to it."""
    schema = format.demanded_schema
    if schema is None:
        return messages
    instruction = SCHEMA_INSTRUCTION.format(_as_text(schema)) if schema else JSON_INSTRUCTION
    if format.json_schema is not None and format.json_schema.description:
        instruction += f"\n{format.json_schema.description}"
    first = messages[0]
    if first.role == "system":
        return (replace(first, content=f"{first.content}\n\n{instruction}".strip()), *messages[1:])
    return (Message("system", instruction), *messages)


def _as_text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False)


def to_job(request: ChatRequest) -> Job:
    """The work that ``request`` asks for. Raises `ApiError`, and `PipelineError` from the tokenizer."""
    request.check_streaming()
    conversation = to_conversation(request)
    image = shown_image(conversation, "messages")
    prompt = pipeline.encode_chat(conversation)
    return Job(
        prompts=[prompt.ids] * request.n,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        sampling=request.sampling,
        stop=request.stops,
        output=replace(prompt.output, json_schema=request.response_format.demanded_schema),
        image=image,
        progress=request.return_progress,
    )


def shown_image(conversation: Conversation, param: str) -> bytes | None:
    """The one image that the conversation shows. Raises `ApiError` where there are more, or the model sees none.

    ``param`` is the name of the array that the messages came in.
    """
    shown = [message for message in conversation.messages if message.image is not None]
    if not shown:
        return None
    if not pipeline.model.supports_images:
        path = f"{param}.{shown[0].position}.content"
        raise invalid(f"Invalid '{path}': this model sees no images.", path)
    if len(shown) > 1:
        path = f"{param}.{shown[1].position}.content"
        raise invalid(f"Invalid '{path}': this model sees one image in a conversation.", path)
    return shown[0].image
