"""Steps that several endpoints share on the way from a request to a conversation: tools, JSON instruction, image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from glm_api.api.response_format import ANY_OBJECT, ResponseFormat
from glm_api.api.tools import FunctionEntry, NamedFunction, NamedTool, ToolEntry, to_choice, to_tools
from glm_api.errors import invalid
from glm_api.pipeline.conversation import Conversation, Message

# The bundled demo model was trained on these words; large models understand any.
JSON_INSTRUCTION = "Respond with a single JSON object and nothing else."
SCHEMA_INSTRUCTION = f"{JSON_INSTRUCTION} It must match this JSON schema:\n{{}}"


def to_conversation(
    messages: tuple[Message, ...],
    tools: tuple[ToolEntry, ...],
    tool_choice: str | NamedTool | None,
    functions: tuple[FunctionEntry, ...] = (),
    function_call: str | NamedFunction | None = None,
) -> Conversation:
    """Return the conversation for the model; the last two are the legacy form of ``tools`` and ``tool_choice``.

    Raises `ApiError` for a choice that the tools cannot meet, and for tools in both forms.
    """
    if functions and tools:
        raise invalid("Invalid 'functions': it is the legacy form of tools; send one of them.", "functions")
    if functions or function_call is not None:
        return with_tools(messages, functions, function_call, "functions.{}.name", "function_call")
    declared = (entry.function for entry in tools)
    return with_tools(messages, declared, tool_choice, "tools.{}.function.name", "tool_choice")


def with_tools(
    messages: tuple[Message, ...],
    functions: Iterable[FunctionEntry],
    chosen: str | NamedTool | NamedFunction | None,
    name_param: str,
    choice_param: str,
) -> Conversation:
    """Return the conversation of ``messages``, with ``functions`` as its tools and ``chosen`` as its tool choice.

    Raises `ApiError`; the last two are its paths of a function's name ({} is the index) and of the choice.
    """
    tools = to_tools(functions, name_param)
    return Conversation(messages, tools, to_choice(chosen, tools, choice_param))


def instructed(messages: tuple[Message, ...], format: ResponseFormat) -> tuple[Message, ...]:
    """Return ``messages`` with an instruction for ``format`` at the end of the system message.

    The model learns of the format only by this instruction: no grammar constrains its output.
    """
    schema = format.demanded_schema
    if schema is None:
        return messages
    instruction = JSON_INSTRUCTION if schema == ANY_OBJECT else SCHEMA_INSTRUCTION.format(schema)
    if format.json_schema is not None and format.json_schema.description:
        instruction += f"\n{format.json_schema.description}"
    first = messages[0]
    if first.role == "system":
        return (replace(first, content=f"{first.content}\n\n{instruction}".strip()), *messages[1:])
    return (Message("system", instruction), *messages)


def shown_image(conversation: Conversation) -> bytes | None:
    """Return the image of a conversation whose prompt could be built, or None; such a conversation has at most one."""
    return next((message.image for message in conversation.messages if message.image is not None), None)
