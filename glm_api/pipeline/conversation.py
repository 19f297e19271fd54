"""Conversations, messages and tools, in the project's own terms.

The endpoints build these from validated JSON, and the formats turn them into token ids. Nothing here depends on HTTP or
on a model family.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the caller declares. ``parameters`` is the text of its JSON schema, which is an object.

    ``strict``: refuse a schema to which the arguments cannot be held. ``param`` is the schema's path in the request.
    """

    name: str
    description: str | None = None
    parameters: str = "{}"
    strict: bool = False
    param: str = "tools"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made. ``arguments`` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model may call a tool, must or must not. With ``name`` it must call that one, which is declared.

    ``parallel``: an answer may make more than one call.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    name: str | None = None
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """One message. The roles ``developer`` and ``function`` of a request have become ``system`` and ``tool``.

    ``image`` is the undecoded PNG or JPEG file that a user message shows, at most one a message. ``reasoning`` is what
    the assistant thought before this message; a prompt has it only if the model's template wants it. ``position`` is
    the index in the request's ``messages``, for errors that name a parameter.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    image: bytes | None = None
    reasoning: str = ""
    position: int = 0


class JsonOutput(msgspec.Struct, frozen=True, tag=True):
    """The answer is JSON that matches ``schema``, the text of a JSON schema. ``param`` is its path in the request."""

    schema: str
    param: str


class RegexOutput(msgspec.Struct, frozen=True, tag=True):
    """The whole answer matches ``pattern``, whose path in the request is ``param``."""

    pattern: str
    param: str


class ChoiceOutput(msgspec.Struct, frozen=True, tag=True):
    """The answer is one of ``choices``, whose path in the request is ``param``."""

    choices: tuple[str, ...]
    param: str


StructuredOutput: TypeAlias = JsonOutput | RegexOutput | ChoiceOutput
"""What the text of an answer must be. No answer can be anything else; it may only be cut."""


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """What the request tells the template of the model's file; our own formats have no such options.

    ``kwargs`` is the text of a JSON object: variables for the template, by name. ``enable_thinking`` among them says
    whether the model thinks; without it the template decides. ``reasoning_effort`` is how much it shall think, as the
    request says it: ``none``, ``minimal``, ``low``, ``medium``, ``high``, ``xhigh`` or ``max``.
    """

    kwargs: str = "{}"
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, the tools that the model may call while it answers the last one, and what its text must be."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    structured: StructuredOutput | None = None
    template: TemplateOptions = TemplateOptions()

    @property
    def continues(self) -> bool:
        """Whether the answer continues the last message. A call that the model must make begins a message."""
        return self.messages[-1].role == "assistant" and self.tool_choice.mode != "required"


def without_images(conversation: Conversation) -> Conversation:
    """Return ``conversation`` with an empty file for each image: the ids of a prompt do not depend on its pixels."""
    messages = (message if message.image is None else replace(message, image=b"") for message in conversation.messages)
    return replace(conversation, messages=tuple(messages))
