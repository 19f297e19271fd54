"""The messages of a request: validate them by role, and convert them into the pipeline's messages.

``developer`` means the same as ``system``. The legacy pair ``function_call`` and role ``function`` becomes a tool call
and its result, matched by name. All other rules for calls and results are checked by the format of the model family.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from marshmallow import ValidationError

from glm_api.api.call_ids import with_call_ids
from glm_api.api.fields import Array, Choice, DiscriminatedUnion, NestedObject, Object, RequestSchema, String, Union
from glm_api.errors import invalid
from glm_api.pipeline.conversation import Message, ToolCall

MAX_MESSAGES = 2048
MAX_PARTS = 256
MAX_CALLS = 128
MAX_IMAGE_BYTES = 10 * 2**20
MAX_TOOL_NAME = 128

_DATA_URI = re.compile(r"data:image/(?:png|jpe?g);base64,", re.IGNORECASE)
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


@dataclass(frozen=True, slots=True)
class MessageContent:
    """The content of a message: its text parts joined, and the file of its image."""

    text: str = ""
    image: bytes | None = None


@dataclass(frozen=True, slots=True)
class TextPart:
    """A text part of a content array."""

    text: str


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """``url`` is the decoded file."""

    url: bytes


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image part of a content array."""

    image_url: ImageUrl | bytes

    @property
    def file(self) -> bytes:
        return self.image_url.url if isinstance(self.image_url, ImageUrl) else self.image_url


@dataclass(frozen=True, slots=True)
class InputImage:
    """An image part in the form of the Responses API."""

    image_url: bytes

    @property
    def file(self) -> bytes:
        return self.image_url


def decode_data_uri(uri: str) -> bytes:
    """Return the PNG or JPEG file in a ``data:`` URI. Raises `ValidationError`.

    The file may be the other one of the two than the media type says, and its base64 may have white space or lack its
    padding.
    """
    match = _DATA_URI.match(uri)
    if match is None:
        if uri.startswith(("http://", "https://")):
            raise ValidationError("must be a data: URI: this server fetches nothing from other servers.")
        raise ValidationError("must be a data: URI of a PNG or JPEG file in base64 (data:image/png;base64,...).")
    encoded = "".join(uri[match.end() :].split()).rstrip("=")
    if len(encoded) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise ValidationError(f"must hold a file of at most {MAX_IMAGE_BYTES // 2**20} MiB.")
    try:
        file = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValidationError("must hold valid base64 after the comma.") from None
    if not file.startswith(_SIGNATURES):
        raise ValidationError("must hold a PNG or JPEG file.")
    return file


class DataUri(String):
    """A ``data:`` URI of an image; loaded into the bytes of the file."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return decode_data_uri(super()._deserialize(value, *args, **kwargs))


class TextPartSchema(RequestSchema):
    """A text part."""

    loads = TextPart
    type = Choice("text", required=True)
    text = String(required=True)


class RefusalPartSchema(RequestSchema):
    """A refusal by the assistant, which is read as text."""

    loads = TextPart
    type = Choice("refusal", required=True)
    text = String(required=True, data_key="refusal")


class ImageUrlSchema(RequestSchema):
    """The URL of an image."""

    loads = ImageUrl
    url = DataUri(required=True, metadata={"description": "`data:image/png;base64,...` or JPEG, at most 10 MiB."})


class ImagePartSchema(RequestSchema):
    """An image part; only some models accept images."""

    loads = ImagePart
    type = Choice("image_url", required=True)
    image_url = Union(string=DataUri(), object=NestedObject(ImageUrlSchema), required=True)


REFUSED_PARTS = {
    "input_audio": "must not be audio: this server takes text and images.",
    "file": "must not be a file: this server takes text and images.",
    "input_file": "must not be a file: this server takes text and images.",
    "image_url": "must be text here: only user messages may contain images.",
    "input_image": "must be text here: only user messages may contain images.",
}


def join_texts(texts: Iterable[str]) -> str:
    """Return the text parts of a message as one text: a line break keeps words apart that no white space parts."""
    joined: list[str] = []
    for text in filter(None, texts):
        if joined and not joined[-1][-1].isspace() and not text[0].isspace():
            joined.append("\n")
        joined.append(text)
    return "".join(joined)


class ContentField(Union):
    """The content of a message: a string, or an array of ``parts``; loaded into `MessageContent`."""

    def __init__(self, parts: Mapping[str, type[RequestSchema]], **kwargs: Any) -> None:
        part = DiscriminatedUnion("type", parts, refusals=REFUSED_PARTS)
        super().__init__(string=String(), array=Array(part, max=MAX_PARTS), **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> MessageContent:
        loaded = super()._deserialize(value, attr, data, **kwargs)
        if isinstance(loaded, str):
            return MessageContent(loaded)
        images = [part.file for part in loaded if isinstance(part, (ImagePart, InputImage))]
        if len(images) > 1:
            raise ValidationError("must contain at most one image.")
        text = join_texts(part.text for part in loaded if isinstance(part, TextPart))
        return MessageContent(text, images[0] if images else None)


TEXT_PARTS = {"text": TextPartSchema}
USER_PARTS = {"text": TextPartSchema, "image_url": ImagePartSchema}
ASSISTANT_PARTS = {"text": TextPartSchema, "refusal": RefusalPartSchema}


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """Name and arguments of a function call."""

    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class CallEntry:
    """An entry of ``tool_calls``."""

    function: FunctionCall
    id: str = ""


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message of a request. ``function_call`` and ``name`` belong to the legacy form."""

    role: str
    content: MessageContent | None = None
    reasoning_content: str = ""
    tool_calls: tuple[CallEntry, ...] = ()
    function_call: FunctionCall | None = None
    tool_call_id: str | None = None
    name: str | None = None


def arguments_text(arguments: str | dict[str, Any] | None) -> str:
    """Return the ``arguments`` of a call as the text of a JSON object. What says that there are none becomes ``{}``."""
    text = json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments or ""
    return "{}" if text.strip() in ("", "null") else text


class Arguments(Union):
    """The arguments of a call: a JSON object, or its text; loaded into the text."""

    def __init__(self) -> None:
        described = {"description": "A JSON object, or its text; empty or `null` for no arguments."}
        super().__init__(string=String(), object=Object(), load_default="{}", metadata=described)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        return arguments_text(super()._deserialize(value, *args, **kwargs))


class ToolName(String):
    """The name of a tool, in any language; the model is told another one if it cannot say this."""

    def __init__(self) -> None:
        super().__init__(required=True, min=1, max=MAX_TOOL_NAME)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        name = super()._deserialize(value, *args, **kwargs)
        if not name.isprintable() or name.isspace():
            raise ValidationError("must have visible characters and spaces only.")
        return name


class FunctionCallSchema(RequestSchema):
    """A function call."""

    loads: ClassVar[type[Any]] = FunctionCall
    name = ToolName()
    arguments = Arguments()


class ToolCallSchema(RequestSchema):
    """A tool call by the assistant."""

    loads = CallEntry
    id = String(
        max=256,
        load_default="",
        metadata={"description": "Calls without an id get their results in the order of the calls."},
    )
    type = Choice("function", load_default="function")
    function = NestedObject(FunctionCallSchema, required=True)


class MessageSchema(RequestSchema):
    """Base of the message schemas."""

    loads: ClassVar[type[Any]] = IncomingMessage
    name = String(max=64, load_default=None, metadata={"description": "Accepted without effect."})


class SystemMessageSchema(MessageSchema):
    """A system message; `developer` means the same as `system`."""

    role = Choice("system", "developer", required=True)
    content = ContentField(TEXT_PARTS, required=True)


class UserMessageSchema(MessageSchema):
    """A message of the user: text, and an image if the model accepts images."""

    role = Choice("user", required=True)
    content = ContentField(USER_PARTS, required=True)


class AssistantMessageSchema(MessageSchema):
    """A message of the model: text, tool calls, both, or nothing."""

    role = Choice("assistant", required=True)
    content = ContentField(ASSISTANT_PARTS, load_default=None)
    reasoning_content = String(
        load_default="",
        metadata={
            "description": "What the model thought before this message. Only some templates show it to the model."
        },
    )
    tool_calls = Array(NestedObject(ToolCallSchema), max=MAX_CALLS, load_default=())
    function_call = NestedObject(
        FunctionCallSchema, load_default=None, metadata={"description": "Legacy form of tool_calls."}
    )


class ToolMessageSchema(MessageSchema):
    """The result of a tool call."""

    role = Choice("tool", required=True)
    content = ContentField(TEXT_PARTS, load_default=None)
    tool_call_id = String(
        max=256, load_default=None, metadata={"description": "May be left out when one call waits for its result."}
    )


class FunctionMessageSchema(MessageSchema):
    """The result of a function call, in the legacy form."""

    role = Choice("function", required=True)
    content = ContentField(TEXT_PARTS, load_default=None)
    name = ToolName()


MESSAGE_SCHEMAS: dict[str, type[MessageSchema]] = {
    "system": SystemMessageSchema,
    "developer": SystemMessageSchema,
    "user": UserMessageSchema,
    "assistant": AssistantMessageSchema,
    "tool": ToolMessageSchema,
    "function": FunctionMessageSchema,
}


def messages_field(*, required: bool = True) -> Array:
    """Return the field ``messages``."""
    # No messages at all are left out or null; an empty array is refused.
    default: dict[str, Any] = {} if required else {"load_default": (), "metadata": {"default": None}}
    return Array(DiscriminatedUnion("role", MESSAGE_SCHEMAS), min=1, max=MAX_MESSAGES, required=required, **default)


def to_messages(incoming: Iterable[IncomingMessage]) -> tuple[Message, ...]:
    """Return the pipeline's messages.

    Raises `ApiError` and `PromptError` for faults that the schema of a single message cannot find.
    """
    unanswered: dict[str, str] = {}
    return with_call_ids([_to_message(message, position, unanswered) for position, message in enumerate(incoming)])


def _to_message(message: IncomingMessage, position: int, unanswered: dict[str, str]) -> Message:
    content = message.content or MessageContent()
    match message.role:
        case "system" | "developer":
            return Message("system", content.text, position=position)
        case "user":
            return Message("user", content.text, image=content.image, position=position)
        case "tool":
            return Message("tool", content.text, tool_call_id=message.tool_call_id, position=position)
        case "function":
            return _function_result(message, content, position, unanswered)
    return _assistant(message, content, position, unanswered)


def _assistant(message: IncomingMessage, content: MessageContent, position: int, unanswered: dict[str, str]) -> Message:
    calls = [ToolCall(entry.id, entry.function.name, entry.function.arguments) for entry in message.tool_calls]
    if message.function_call is not None:
        if calls:
            raise invalid(
                "A message has either tool_calls or the legacy function_call, not both.",
                f"messages.{position}.function_call",
            )
        call = message.function_call
        unanswered[call.name] = f"call_legacy_{position}"
        calls = [ToolCall(unanswered[call.name], call.name, call.arguments)]
    return Message(
        "assistant",
        content.text,
        tool_calls=tuple(calls),
        reasoning=message.reasoning_content,
        position=position,
    )


def _function_result(
    message: IncomingMessage, content: MessageContent, position: int, unanswered: dict[str, str]
) -> Message:
    assert message.name is not None
    id = unanswered.pop(message.name, None)
    if id is None:
        raise invalid(
            f"A function message must follow an assistant message whose function_call names {message.name!r}.",
            f"messages.{position}.name",
        )
    return Message("tool", content.text, tool_call_id=id, position=position)
