"""Conversations, messages and tools, in the project's own terms.

The blueprints build these from validated JSON; the formats turn them into token ids. Nothing here knows HTTP,
and nothing here knows a model family.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the caller declares. ``parameters`` is its JSON schema, as sent."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made. ``arguments`` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model may, must or must not call; ``name`` set means: this tool and no other."""

    mode: Literal["none", "auto", "required"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``developer`` has become ``system`` and ``function`` has become ``tool`` by now.

    ``image`` is the undecoded PNG or JPEG file that a user message shows, at most one a message.
    ``position`` is the index in the request's ``messages``, for errors that name a parameter.
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


def conversation_to_json(conversation: Conversation) -> dict[str, Any]:
    """The conversation as JSON values. Images are left out: a prompt's ids depend only on there being one."""
    data = asdict(conversation)
    for message in data["messages"]:
        message["image"] = message["image"] is not None
    return data


def conversation_from_json(data: dict[str, Any]) -> Conversation:
    """The inverse of `conversation_to_json`; an image that was there is the empty file."""
    return Conversation(
        messages=tuple(
            Message(
                role=message["role"],
                content=message["content"],
                tool_calls=tuple(ToolCall(**call) for call in message["tool_calls"]),
                tool_call_id=message["tool_call_id"],
                image=b"" if message["image"] else None,
                position=message["position"],
            )
            for message in data["messages"]
        ),
        tools=tuple(Tool(**tool) for tool in data["tools"]),
        tool_choice=ToolChoice(**data["tool_choice"]),
    )
