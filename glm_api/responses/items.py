"""The input of a response: validate its items by type, and convert them into the pipeline's messages.

Here function calls and reasoning are items of their own, while the pipeline's assistant messages contain them. So
consecutive calls, the calls that follow an assistant's message, and the reasoning before them become one message.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from glm_api.api.call_ids import with_call_ids
from glm_api.api.fields import Array, Choice, DiscriminatedUnion, RequestSchema, String, Union
from glm_api.api.messages import (
    MAX_MESSAGES,
    MAX_PARTS,
    Arguments,
    ContentField,
    DataUri,
    InputImage,
    MessageContent,
    RefusalPartSchema,
    TextPart,
    TextPartSchema,
    ToolName,
    arguments_text,
    join_texts,
)
from glm_api.errors import invalid
from glm_api.pipeline.conversation import Message, ToolCall


class InputTextSchema(TextPartSchema):
    """A text part of the input."""

    type = Choice("input_text", required=True)


class OutputTextSchema(TextPartSchema):
    """A text part of an earlier answer."""

    type = Choice("output_text", required=True)


class ReasoningTextSchema(TextPartSchema):
    """A text part of what the model thought."""

    type = Choice("reasoning_text", required=True)


class InputImageSchema(RequestSchema):
    """An image; only some models accept images."""

    loads = InputImage
    type = Choice("input_image", required=True)
    image_url = DataUri(required=True, metadata={"description": "`data:image/png;base64,...` or JPEG, at most 10 MiB."})


RESULT_PARTS = {"input_text": InputTextSchema, "output_text": OutputTextSchema}
MESSAGE_PARTS = {**RESULT_PARTS, "input_image": InputImageSchema, "refusal": RefusalPartSchema}


@dataclass(frozen=True, slots=True)
class MessageItem:
    """A message."""

    role: str
    content: MessageContent


@dataclass(frozen=True, slots=True)
class CallItem:
    """A function call by the model."""

    name: str
    arguments: str = "{}"
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class ResultItem:
    """The result of a function call."""

    output: MessageContent
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ReasoningItem:
    """What the model thought before the message or the call that follows."""

    content: tuple[TextPart, ...] = ()

    @property
    def text(self) -> str:
        return join_texts(part.text for part in self.content)


Item = MessageItem | CallItem | ResultItem | ReasoningItem


@dataclass(frozen=True, slots=True)
class ReferenceItem:
    """An item of a stored response, by its id."""

    id: str


@dataclass(frozen=True, slots=True)
class Input:
    """The field ``input``: its items as they were loaded, and as they were sent."""

    items: tuple[Item | ReferenceItem, ...]
    sent: tuple[dict[str, Any], ...]


class MessageItemSchema(RequestSchema):
    """A message from the caller or from an earlier response."""

    loads = MessageItem
    type = Choice("message", load_default="message")
    role = Choice("user", "assistant", "system", "developer", required=True)
    content = ContentField(MESSAGE_PARTS, required=True)


class CallItemSchema(RequestSchema):
    """A function call from an earlier response."""

    loads = CallItem
    type = Choice("function_call", required=True)
    call_id = String(max=256, load_default="")
    name = ToolName()
    arguments = Arguments()


class ResultItemSchema(RequestSchema):
    """The result of a function call."""

    loads = ResultItem
    type = Choice("function_call_output", required=True)
    call_id = String(max=256, load_default=None)
    output = ContentField(RESULT_PARTS, load_default=MessageContent(), metadata={"default": ""})


class ReasoningItemSchema(RequestSchema):
    """What the model thought, from an earlier response. Only some templates show it to the model."""

    loads = ReasoningItem
    type = Choice("reasoning", required=True)
    content = Array(DiscriminatedUnion("type", {"reasoning_text": ReasoningTextSchema}), max=MAX_PARTS, load_default=())


class ReferenceItemSchema(RequestSchema):
    """An item of a stored response."""

    loads = ReferenceItem
    type = Choice("item_reference", required=True)
    id = String(required=True, min=1, max=128)


STORED_ITEMS = {
    "message": MessageItemSchema,
    "function_call": CallItemSchema,
    "function_call_output": ResultItemSchema,
    "reasoning": ReasoningItemSchema,
}
ITEMS = {**STORED_ITEMS, "item_reference": ReferenceItemSchema}


class InputField(Union):
    """The field ``input``: a text, which is a user's message, or an array of items; loaded into `Input`."""

    def __init__(self, **kwargs: Any) -> None:
        item = DiscriminatedUnion("type", ITEMS, default="message")
        super().__init__(string=String(), array=Array(item, min=1, max=MAX_MESSAGES), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Input:
        loaded = super()._deserialize(value, attr, data, **kwargs)
        if isinstance(loaded, str):
            message = {"type": "message", "role": "user", "content": loaded}
            return Input((MessageItem("user", MessageContent(loaded)),), (message,))
        return Input(tuple(loaded), tuple(value))


_STORED_ITEM = DiscriminatedUnion("type", STORED_ITEMS)


def load_item(stored: Mapping[str, Any]) -> Item:
    """Return the item that was stored as ``stored``."""
    item: Item = _STORED_ITEM.deserialize(stored)
    return item


def to_stored(item: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Return the valid ``item`` of an input in the one form in which items are stored and listed.

    It keeps the id that it has, and gets ``id`` otherwise. What nothing reads is left out.
    """
    type = item.get("type") or "message"
    given = item.get("id")
    id = given if isinstance(given, str) and 0 < len(given) <= 128 else id
    match type:
        case "message":
            role = item["role"]
            parts = _stored_parts(item["content"], "output_text" if role == "assistant" else "input_text")
            told: dict[str, Any] = {"role": role, "content": parts}
        case "function_call":
            told = {
                "call_id": item.get("call_id") or "",
                "name": item["name"],
                "arguments": arguments_text(item.get("arguments")),
            }
        case "function_call_output":
            output = item.get("output") or ""
            told = {
                "call_id": item.get("call_id") or "",
                "output": output if isinstance(output, str) else _stored_parts(output, "input_text"),
            }
        case _:
            told = {"summary": [], "content": _stored_parts(item.get("content") or [], "reasoning_text")}
    return {"type": type, "id": id, "status": "completed", **told}


def _stored_parts(content: str | list[dict[str, Any]], type: str) -> list[dict[str, Any]]:
    """Return the parts of ``content``; text parts get this ``type``."""
    parts: list[dict[str, Any]] = [{"type": type, "text": content}] if isinstance(content, str) else content
    more: dict[str, Any] = {"annotations": []} if type == "output_text" else {}
    stored: list[dict[str, Any]] = []
    for part in parts:
        # The type alone says which key was validated. Others are ignored, so they may hold anything.
        match part["type"]:
            case "input_image":
                stored.append({"type": "input_image", "image_url": part["image_url"], "detail": "auto"})
            case "refusal":
                stored.append({"type": type, "text": part["refusal"], **more})
            case _:
                stored.append({"type": type, "text": part["text"], **more})
    return stored


def to_messages(items: Iterable[Item], earlier: int = 0) -> tuple[Message, ...]:
    """Return the pipeline's messages; the position of a message is that of its first item.

    So many ``earlier`` items are not part of the request's input; their positions are negative. Raises `ApiError` and
    `PromptError`.
    """
    messages: list[Message] = []
    # What the model thought before the item that comes next, and before each of its messages, by index.
    thought: list[str] = []
    reasoning: dict[int, list[str]] = defaultdict(list)
    for position, item in enumerate(items, start=-earlier):
        match item:
            case ReasoningItem():
                thought.append(item.text)
                continue
            case MessageItem():
                messages.append(_said(item, position))
            case ResultItem():
                result = Message("tool", item.output.text, tool_call_id=item.call_id, position=position)
                messages.append(result)
            case CallItem():
                call = ToolCall(item.call_id, item.name, item.arguments)
                if not messages or messages[-1].role != "assistant":
                    messages.append(Message("assistant", "", position=position))
                messages[-1] = replace(messages[-1], tool_calls=(*messages[-1].tool_calls, call))
        if messages[-1].role == "assistant":
            reasoning[len(messages) - 1] += thought
        thought = []
    if not messages:
        raise invalid("Invalid 'input': it must contain a message, not only reasoning.", "input")
    for index, pieces in reasoning.items():
        messages[index] = replace(messages[index], reasoning=join_texts(pieces))
    return with_call_ids(messages)


def _said(item: MessageItem, position: int) -> Message:
    if item.content.image is not None and item.role != "user":
        path = f"input.{position}.content"
        raise invalid(f"Invalid '{path}': only user messages may contain images.", path)
    match item.role:
        case "user":
            return Message("user", item.content.text, image=item.content.image, position=position)
        case "assistant":
            return Message("assistant", item.content.text, position=position)
        case _:
            return Message("system", item.content.text, position=position)
