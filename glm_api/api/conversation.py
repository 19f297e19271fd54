"""Parts of a conversation that several endpoints share: its tools, its JSON instruction, its image."""

from __future__ import annotations

from dataclasses import replace

from glm_api.api.response_format import ANY_OBJECT, ResponseFormat
from glm_api.api.tools import NamedTool, ToolEntry, to_choice, to_tools
from glm_api.context import pipeline
from glm_api.errors import invalid
from glm_api.pipeline.conversation import Conversation, Message, Tool, ToolChoice

# In the words that the bundled demo model has learnt; large models understand any.
JSON_INSTRUCTION = "Respond with a single JSON object and nothing else."
SCHEMA_INSTRUCTION = f"{JSON_INSTRUCTION} It must match this JSON schema:\n{{}}"


def declared(entries: tuple[ToolEntry, ...], chosen: str | NamedTool | None) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools of a request and the choice among them. Raises `ApiError`."""
    tools = to_tools((entry.function for entry in entries), "tools.{}.function.name")
    return tools, to_choice(chosen, tools, "tool_choice")


def instructed(messages: tuple[Message, ...], format: ResponseFormat) -> tuple[Message, ...]:
    """``messages`` with what ``format`` demands at the end of the system's text: no grammar holds the model to it."""
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


def shown_image(conversation: Conversation, param: str) -> bytes | None:
    """The one image that the conversation shows. Raises `ApiError` where there are more, or the model sees none.

    ``param`` is the name of the array that the messages came in.
    """
    shown = [message for message in conversation.messages if message.image is not None]
    if not shown:
        return None
    if not pipeline.model.supports_images:
        path = f"{param}.{shown[0].position}.content"
        raise invalid(f"Invalid '{path}': this model does not accept images.", path)
    if len(shown) > 1:
        path = f"{param}.{shown[1].position}.content"
        raise invalid(f"Invalid '{path}': this model accepts at most one image in a conversation.", path)
    return shown[0].image
