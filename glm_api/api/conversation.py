"""Steps that several endpoints share on the way from a request to a conversation: tools, JSON instruction, image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from glm_api.api.response_format import ANY_OBJECT
from glm_api.api.tools import FunctionEntry, NamedFunction, NamedTool, ToolEntry, to_choice, to_tools
from glm_api.errors import invalid
from glm_api.pipeline.conversation import Conversation, JsonOutput, Message, StructuredOutput

# The bundled demo model was trained on these words; large models understand any.
JSON_INSTRUCTION = "Respond with a single JSON object and nothing else."
SCHEMA_INSTRUCTION = f"{JSON_INSTRUCTION} It must match this JSON schema:\n{{}}"


def to_conversation(
    messages: tuple[Message, ...],
    tools: tuple[ToolEntry, ...],
    tool_choice: str | NamedTool | None,
    parallel_tool_calls: bool = True,
    functions: tuple[FunctionEntry, ...] = (),
    function_call: str | NamedFunction | None = None,
) -> Conversation:
    """Return the conversation for the model; the last two are the legacy form of ``tools`` and ``tool_choice``.

    That form has room for one call. Raises `ApiError` for a choice that the tools cannot meet, and for tools in both
    forms.
    """
    if functions and tools:
        raise invalid("Invalid 'functions': it is the legacy form of tools; send one of them.", "functions")
    if functions or function_call is not None:
        return with_tools(messages, functions, function_call, False, "functions.{}", "function_call")
    declared = (entry.function for entry in tools)
    return with_tools(messages, declared, tool_choice, parallel_tool_calls, "tools.{}.function", "tool_choice")


def with_tools(
    messages: tuple[Message, ...],
    functions: Iterable[FunctionEntry],
    chosen: str | NamedTool | NamedFunction | None,
    parallel: bool,
    function_param: str,
    choice_param: str,
) -> Conversation:
    """Return the conversation of ``messages``, with ``functions`` as its tools and ``chosen`` as its tool choice.

    ``parallel``: it may make more than one call. Raises `ApiError`; the last two are its paths of a function ({} is the
    index) and of the choice.
    """
    tools = to_tools(functions, function_param)
    return Conversation(messages, tools, to_choice(chosen, tools, parallel, choice_param))


def with_output(
    conversation: Conversation, structured: StructuredOutput | None, description: str | None = None
) -> Conversation:
    """Return ``conversation`` with the demand ``structured``, and with an instruction if that is for JSON.

    The instruction stands at the end of the system message. Without it, the model would only find that it cannot write
    what it would like to. ``description`` is what the client tells of the schema.
    """
    messages = conversation.messages
    if isinstance(structured, JsonOutput):
        messages = _instructed(messages, structured.schema, description)
    return replace(conversation, messages=messages, structured=structured)


def _instructed(messages: tuple[Message, ...], schema: str, description: str | None) -> tuple[Message, ...]:
    instruction = JSON_INSTRUCTION if schema == ANY_OBJECT else SCHEMA_INSTRUCTION.format(schema)
    if description:
        instruction += f"\n{description}"
    first = messages[0]
    if first.role == "system":
        return (replace(first, content=f"{first.content}\n\n{instruction}".strip()), *messages[1:])
    return (Message("system", instruction), *messages)


def shown_image(conversation: Conversation) -> bytes | None:
    """Return the image of a conversation whose prompt could be built, or None; such a conversation has at most one."""
    return next((message.image for message in conversation.messages if message.image is not None), None)
