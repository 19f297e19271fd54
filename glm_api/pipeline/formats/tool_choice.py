"""Decide which tools the model may call, from the tools that the request declares and its choice among them."""

from __future__ import annotations

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Conversation, Tool
from glm_api.pipeline.model_info import OutputSpec


def choose_tools(conversation: Conversation) -> tuple[tuple[Tool, ...], OutputSpec]:
    """Return the tools that go into the prompt, and how to read the answer.

    A choice that leaves one tool forces its call: the prompt begins it. The endpoints check that the declared tools can
    meet the choice.
    """
    choice, tools = conversation.tool_choice, conversation.tools
    if choice.mode == "none":
        return (), OutputSpec()
    names = tuple(tool.name for tool in tools)
    if choice.name is not None:
        return tools, OutputSpec(tools=(choice.name,), forced=choice.name)
    if choice.mode == "required" and len(tools) == 1:
        return tools, OutputSpec(tools=names, forced=names[0])
    return tools, OutputSpec(tools=names, required=choice.mode == "required")


def refuse_tools(conversation: Conversation) -> None:
    """Raise `PromptError` if the model, which cannot call tools, shall call some, or has called some."""
    reason = "This model cannot call tools."
    if conversation.tool_choice.name is not None or conversation.tool_choice.mode == "required":
        raise PromptError(reason, "tool_choice")
    if conversation.tools and conversation.tool_choice.mode != "none":
        raise PromptError(reason, "tools")
    for message in conversation.messages:
        if message.role == "tool":
            raise PromptError(reason, f"messages.{message.position}.role")
        if message.tool_calls:
            raise PromptError(reason, f"messages.{message.position}.tool_calls")
