"""The messages of a request: validate their content blocks by role, and convert them into the pipeline's messages.

Here the results of tools are blocks of a user's message, while the pipeline has a message for each of them. They come
first, because they answer the calls of the message before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from marshmallow import ValidationError

from glm_api.api.call_ids import with_call_ids
from glm_api.api.fields import (
    Array,
    Boolean,
    Choice,
    DiscriminatedUnion,
    Object,
    RequestSchema,
    String,
    Union,
)
from glm_api.api.messages import MAX_MESSAGES, MAX_PARTS, FunctionCallSchema, decode_data_uri, join_texts
from glm_api.errors import invalid
from glm_api.pipeline.conversation import Message, ToolCall

# Claude Code begins its system prompt with a text for Anthropic's own servers, which changes between requests. In a
# prompt it would keep the cache from finding the conversation.
_BILLING = "x-anthropic-billing-header:"

_MAX_ID = 256


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A text."""

    text: str


@dataclass(frozen=True, slots=True)
class ImageSource:
    """``data`` is the decoded file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ImageBlock:
    """An image."""

    source: ImageSource


@dataclass(frozen=True, slots=True)
class ThinkingBlock:
    """What the model thought before it answered; empty if that is not told."""

    thinking: str = ""


@dataclass(frozen=True, slots=True)
class ToolUseBlock:
    """A tool call by the model."""

    name: str
    input: dict[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class ToolResultBlock:
    """The result of a tool call."""

    tool_use_id: str | None = None
    content: tuple[Block, ...] = ()
    is_error: bool = False


Block = TextBlock | ImageBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock
B = TypeVar("B", TextBlock, ImageBlock, ThinkingBlock, ToolUseBlock, ToolResultBlock)


@dataclass(frozen=True, slots=True)
class MessageEntry:
    """An entry of ``messages``."""

    role: str
    content: tuple[Block, ...]


class ImageData(String):
    """The file of an image in base64, of the type that ``media_type`` beside it tells; loaded into bytes."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        encoded = super()._deserialize(value, attr, data, **kwargs)
        try:
            return decode_data_uri(f"data:{(data or {}).get('media_type')};base64,{encoded}")
        except ValidationError:
            raise ValidationError("must be the base64 of a PNG or JPEG file of at most 10 MiB.") from None


class Base64SourceSchema(RequestSchema):
    """The file of an image."""

    loads = ImageSource
    type = Choice("base64", required=True)
    media_type = Choice("image/png", "image/jpeg", required=True)
    data = ImageData(required=True, metadata={"description": "A PNG or JPEG file in base64, at most 10 MiB."})


SOURCES = {"base64": Base64SourceSchema}
REFUSED_SOURCES = {
    "url": "must be 'base64': this server fetches nothing from other servers.",
    "file": "must be 'base64': this server stores no files.",
}


class TextBlockSchema(RequestSchema):
    """A text. `cache_control` and `citations` have no effect."""

    loads = TextBlock
    type = Choice("text", required=True)
    text = String(required=True)


class ImageBlockSchema(RequestSchema):
    """An image; only some models accept images."""

    loads = ImageBlock
    type = Choice("image", required=True)
    source = DiscriminatedUnion("type", SOURCES, refusals=REFUSED_SOURCES, required=True)


class ThinkingBlockSchema(RequestSchema):
    """What the model thought, from an earlier answer. Only some templates show it to the model."""

    loads = ThinkingBlock
    type = Choice("thinking", required=True)
    thinking = String(required=True)
    signature = String(load_default=None, metadata={"description": "Accepted without effect."})


class RedactedThinkingBlockSchema(RequestSchema):
    """What another model thought, encrypted; accepted without effect."""

    loads = ThinkingBlock
    type = Choice("redacted_thinking", required=True)


class ToolUseBlockSchema(FunctionCallSchema):
    """A tool call by the model, from an earlier answer."""

    class Meta(RequestSchema.Meta):
        exclude = ("arguments",)

    loads: ClassVar[type[Any]] = ToolUseBlock
    type = Choice("tool_use", required=True)
    id = String(
        max=_MAX_ID,
        load_default="",
        metadata={"description": "Calls without an id get their results in the order of the calls."},
    )
    input = Object(load_default=dict, metadata={"additionalProperties": True})


class BlocksField(Union):
    """A text, or an array of ``blocks``; loaded into a tuple of blocks."""

    def __init__(self, blocks: Mapping[str, type[RequestSchema]], **kwargs: Any) -> None:
        block = DiscriminatedUnion("type", blocks, refusals=REFUSED_BLOCKS)
        super().__init__(string=String(), array=Array(block, max=MAX_PARTS), **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> tuple[Block, ...]:
        loaded = super()._deserialize(value, attr, data, **kwargs)
        return (TextBlock(loaded),) if isinstance(loaded, str) else loaded


_TEXT_AND_IMAGES = "this server takes text and images."
_NO_SERVER_TOOLS = "this server runs no tools."
REFUSED_BLOCKS = {
    "document": f"must not be a document: {_TEXT_AND_IMAGES}",
    "search_result": f"must not be a search result: {_TEXT_AND_IMAGES}",
    "container_upload": f"must not be a file: {_TEXT_AND_IMAGES}",
    "tool_reference": "must not be a reference to a tool: this server searches no tools.",
    "server_tool_use": f"must not be a call of a server's tool: {_NO_SERVER_TOOLS}",
    **{
        f"{name}_tool_result": f"must not be the result of a server's tool: {_NO_SERVER_TOOLS}"
        for name in (
            "web_search",
            "web_fetch",
            "code_execution",
            "bash_code_execution",
            "text_editor_code_execution",
            "tool_search",
            "mcp",
        )
    },
    "mcp_tool_use": f"must not be a call of a server's tool: {_NO_SERVER_TOOLS}",
    "compaction": "must not be a compaction: this server makes none; send the conversation itself.",
}

TEXT_BLOCKS = {"text": TextBlockSchema}
SHOWN_BLOCKS = {**TEXT_BLOCKS, "image": ImageBlockSchema}


class ToolResultBlockSchema(RequestSchema):
    """The result of a tool call."""

    loads = ToolResultBlock
    type = Choice("tool_result", required=True)
    tool_use_id = String(
        max=_MAX_ID,
        load_default=None,
        metadata={"description": "May be left out when one call waits for its result."},
    )
    content = BlocksField(SHOWN_BLOCKS, load_default=())
    is_error = Boolean(
        load_default=False, metadata={"description": "With true, the model reads `Error: ` in front of the result."}
    )


USER_BLOCKS = {**SHOWN_BLOCKS, "tool_result": ToolResultBlockSchema}
ASSISTANT_BLOCKS = {
    **TEXT_BLOCKS,
    "thinking": ThinkingBlockSchema,
    "redacted_thinking": RedactedThinkingBlockSchema,
    "tool_use": ToolUseBlockSchema,
}


class UserEntrySchema(RequestSchema):
    """A message of the user: text, images, and the results of tools."""

    loads = MessageEntry
    role = Choice("user", required=True)
    content = BlocksField(USER_BLOCKS, required=True)


class AssistantEntrySchema(RequestSchema):
    """A message of the model. The answer continues it if it is the last message."""

    loads = MessageEntry
    role = Choice("assistant", required=True)
    content = BlocksField(ASSISTANT_BLOCKS, required=True)


class SystemEntrySchema(RequestSchema):
    """A system message between the other messages."""

    loads = MessageEntry
    role = Choice("system", required=True)
    content = BlocksField(TEXT_BLOCKS, required=True)


ENTRIES = {"user": UserEntrySchema, "assistant": AssistantEntrySchema, "system": SystemEntrySchema}


def messages_field() -> Array:
    """Return the field ``messages``."""
    return Array(DiscriminatedUnion("role", ENTRIES), min=1, max=MAX_MESSAGES, required=True)


def system_field() -> BlocksField:
    """Return the field ``system``."""
    return BlocksField(TEXT_BLOCKS, load_default=(), metadata={"description": "System message, before the others."})


def to_messages(system: Iterable[Block], entries: Iterable[MessageEntry]) -> tuple[Message, ...]:
    """Return the pipeline's messages; each has the position of its entry. Raises `ApiError` and `PromptError`."""
    told = _text(block for block in _all(system, TextBlock) if not block.text.startswith(_BILLING))
    messages = [Message("system", told)] if told else []
    for position, entry in enumerate(entries):
        messages += _to_messages(entry, position)
    return with_call_ids(messages)


def _to_messages(entry: MessageEntry, position: int) -> list[Message]:
    blocks = entry.content
    text = _text(_all(blocks, TextBlock))
    match entry.role:
        case "system":
            return [Message("system", text, position=position)]
        case "assistant":
            calls = tuple(
                ToolCall(call.id, call.name, json.dumps(call.input, ensure_ascii=False))
                for call in _all(blocks, ToolUseBlock)
            )
            thought = join_texts(block.thinking for block in _all(blocks, ThinkingBlock))
            return [Message("assistant", text, tool_calls=calls, reasoning=thought, position=position)]
    results = _all(blocks, ToolResultBlock)
    shown = [block for result in results for block in _all(result.content, ImageBlock)] + _all(blocks, ImageBlock)
    if len(shown) > 1:
        path = f"messages.{position}.content"
        raise invalid(f"Invalid '{path}': it must contain at most one image.", path)
    messages = [Message("tool", _result(block), tool_call_id=block.tool_use_id, position=position) for block in results]
    if text or shown or not results:
        image = shown[0].source.data if shown else None
        messages.append(Message("user", text, image=image, position=position))
    return messages


def _result(block: ToolResultBlock) -> str:
    text = _text(_all(block.content, TextBlock))
    if not block.is_error or text[:5].lower() == "error":
        return text
    return f"Error: {text}" if text else "Error"


def _all(blocks: Iterable[Block], kind: type[B]) -> list[B]:
    return [block for block in blocks if isinstance(block, kind)]


def _text(blocks: Iterable[TextBlock]) -> str:
    return join_texts(block.text for block in blocks)
