"""Which tools the model may call, from what the caller declared and chose."""

from __future__ import annotations

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Conversation, Tool
from glm_api.pipeline.model_info import OutputSpec


def choose_tools(conversation: Conversation) -> tuple[tuple[Tool, ...], OutputSpec]:
    """The tools that go into the prompt, and how the answer is to be read.

    A choice that leaves one tool forces its call: the prompt begins it. `required` with several tools is left to the
    pipeline, which tries again. Raises `PromptError` for a choice that the declared tools cannot meet.
    """
    choice, tools = conversation.tool_choice, conversation.tools
    if choice.mode == "none":
        return (), OutputSpec()
    names = tuple(tool.name for tool in tools)
    if choice.name is not None:
        if choice.name not in names:
            raise PromptError(f"tool_choice names {choice.name!r}, which is not among the tools.", "tool_choice")
        return tools, OutputSpec(tools=(choice.name,), forced=choice.name)
    if choice.mode == "required":
        if not tools:
            raise PromptError("tool_choice 'required' needs tools.", "tool_choice")
        if len(tools) == 1:
            return tools, OutputSpec(tools=names, forced=names[0])
        return tools, OutputSpec(tools=names, required=True)
    return tools, OutputSpec(tools=names)
