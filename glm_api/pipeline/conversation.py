"""Conversations, messages and tools, in the project's own terms.

The endpoints build these from validated JSON, and the formats turn them into token ids. Nothing here depends on HTTP or
on a model family.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the caller declares. ``parameters`` is the text of its JSON schema, which is an object."""

    name: str
    description: str | None = None
    parameters: str = "{}"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made. ``arguments`` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model may call a tool, must or must not. With ``name`` it must call that one, which is declared."""

    mode: Literal["none", "auto", "required"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message. The roles ``developer`` and ``function`` of a request have become ``system`` and ``tool``.

    ``image`` is the undecoded PNG or JPEG file that a user message shows, at most one a message. ``position`` is the
    index in the request's ``messages``, for errors that name a parameter.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    image: bytes | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, and the tools that the model may call while it answers the last one."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()


def without_images(conversation: Conversation) -> Conversation:
    """Return ``conversation`` with an empty file for each image: the ids of a prompt do not depend on its pixels."""
    messages = (message if message.image is None else replace(message, image=b"") for message in conversation.messages)
    return replace(conversation, messages=tuple(messages))
